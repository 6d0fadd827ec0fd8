// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The commands of virt-floor. Each takes its own arguments, arguments[0] being its name, and returns the exit status.
// Each throws UsageError for wrong ones, and Error for what could not be found out or done.
#pragma once

namespace virfloor::tool {

enum ExitStatus {
    exit_done = 0,   // done, or all is well
    exit_no = 1,     // the answer is no
    exit_usage = 2,  // the arguments make no sense
    exit_failed = 3, // it could not be found out or done
};

int capacity(int count, char** arguments);
int check(int count, char** arguments);
int exporter(int count, char** arguments);
int list(int count, char** arguments);
int repair(int count, char** arguments);
int set(int count, char** arguments);
int top(int count, char** arguments);
int tree(int count, char** arguments);
int validate(int count, char** arguments);

} // namespace virfloor::tool
