// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Work that waits for the kernel, done from the daemon's event loop.
#pragma once

namespace virfloor::plugin {

// Between these two, and from any thread, tidy_up_soon() may be called.
void start_housekeeping();
void stop_housekeeping();

// Some filter tables are not used any more: they are deleted when the kernel allows it.
void tidy_up_soon();

} // namespace virfloor::plugin
