// SPDX-License-Identifier: LGPL-2.1-or-later
#include "libvirt_internals.h"

#include "virfloor/log.h"

#include <dlfcn.h>

#include <stdexcept>
#include <string>

namespace virfloor::plugin {

namespace {

template <class Function>
void look_up(Function& function, const char* name)
{
    void* address = dlsym(RTLD_DEFAULT, name);
    if (!address)
        throw std::runtime_error("libvirt has no function " + std::string(name));
    function = reinterpret_cast<Function>(address);
}

Internals look_up_all()
{
    Internals found{};
    look_up(found.register_connect_driver, "virRegisterConnectDriver");
    look_up(found.register_state_driver, "virRegisterStateDriver");
    look_up(found.report_error, "virReportErrorHelper");
    look_up(found.preserve_error, "virErrorPreserveLast");
    look_up(found.restore_error, "virErrorRestore");
    look_up(found.log_message, "virLogMessage");
    return found;
}

// enum virLogPriority (src/util/virlog.h).
int priority(Severity severity)
{
    return severity == Severity::error ? 4 : severity == Severity::warning ? 3 : 2;
}

LogSource log_source{"network.floor", 0, 0};

} // namespace

const Internals& internals()
{
    static const Internals found = look_up_all();
    return found;
}

void log_to_libvirt()
{
    set_log_sink([](Severity severity, const std::string& message) {
        internals().log_message(&log_source, priority(severity), nullptr, 0, nullptr, nullptr, "%s",
                                message.c_str());
    });
}

} // namespace virfloor::plugin
