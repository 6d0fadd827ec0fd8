// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Where messages go that are no errors of a call. The plugin points it at libvirtd's log.
#pragma once

#include <string>

namespace virfloor {

enum class Severity { info, warning, error };

using LogSink = void (*)(Severity, const std::string& message);

// Until a sink is set, messages go to standard error. Set it before threads are started.
void set_log_sink(LogSink sink);
void log(Severity severity, const std::string& message);

} // namespace virfloor
