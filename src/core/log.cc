// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virfloor/log.h"

#include <iostream>

namespace virfloor {

namespace {

LogSink sink = [](Severity, const std::string& message) { std::cerr << message << '\n'; };

} // namespace

void set_log_sink(LogSink new_sink) { sink = new_sink; }

void log(Severity severity, const std::string& message) { sink(severity, message); }

} // namespace virfloor
