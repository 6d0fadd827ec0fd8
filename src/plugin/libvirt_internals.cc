// SPDX-License-Identifier: LGPL-2.1-or-later
#include "libvirt_internals.h"

#include "virfloor/log.h"
#include "virfloor/text.h"

#include <dlfcn.h>

#include <algorithm>
#include <stdexcept>
#include <string>

namespace virfloor::plugin {

namespace {

template <class Function>
bool find(Function& function, const char* name)
{
    function = reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
    return function;
}

template <class Function>
void look_up(Function& function, const char* name)
{
    if (!find(function, name))
        throw std::runtime_error(format(_("libvirt has no function %s"), name));
}

Internals look_up_all()
{
    Internals found{};
    look_up(found.register_connect_driver, "virRegisterConnectDriver");
    look_up(found.register_state_driver, "virRegisterStateDriver");
    look_up(found.report_error, "virReportErrorHelper");
    look_up(found.preserve_error, "virErrorPreserveLast");
    look_up(found.restore_error, "virErrorRestore");
    if (!find(found.current_identity, "virIdentityGetCurrent") ||
        !find(found.set_current_identity, "virIdentitySetCurrent") ||
        !find(found.system_identity, "virIdentityGetSystem") || !find(found.unref, "g_object_unref"))
        found.system_identity = nullptr;
    find(found.may_start, "virNetworkCreateEnsureACL");
    find(found.may_plug, "virNetworkPortCreateXMLEnsureACL");
    find(found.may_tune, "virNetworkPortSetParametersEnsureACL");
    return found;
}

// enum virLogPriority (src/util/virlog.h).
int priority(Severity severity) { return severity == Severity::error ? 4 : severity == Severity::warning ? 3 : 2; }

LogSource log_source{"network.floor", 0, 0};
void (*log_message)(LogSource*, int priority, const char* file, int line, const char* function, void* metadata,
                    const char* format, ...) = nullptr;

} // namespace

const Internals& internals()
{
    static const Internals found = look_up_all();
    return found;
}

AsDaemon::AsDaemon()
{
    if (!internals().system_identity)
        return;
    // Made once, and kept: it never changes.
    static Identity* const daemon = internals().system_identity();
    if (!daemon)
        return;
    caller_ = internals().current_identity();
    active_ = internals().set_current_identity(daemon) == 0;
}

AsDaemon::~AsDaemon()
{
    if (active_)
        internals().set_current_identity(caller_);
    if (caller_)
        internals().unref(caller_);
}

namespace {

// ask: one of libvirt's checks; key: what is asked about, besides the network.
template <class Ask, class... Keys>
Verdict ask(Ask check, virNetworkPtr network, const Keys*... keys)
{
    if (!check)
        return Verdict::unknown;
    std::string name = virNetworkGetName(network);
    NetworkKey key{};
    virNetworkGetUUID(network, key.uuid);
    key.name = name.data();
    return check(virNetworkGetConnect(network), &key, keys...) < 0 ? Verdict::refused : Verdict::allowed;
}

PortKey key_of(const Uuid& port)
{
    PortKey key{};
    std::copy(port.bytes.begin(), port.bytes.end(), key.uuid);
    return key;
}

} // namespace

Verdict may_start(virNetworkPtr network)
{
    // As the caller, the start itself asks for more than this right: no elevation, no question.
    return internals().system_identity ? ask(internals().may_start, network) : Verdict::unknown;
}

Verdict may_plug(virNetworkPtr network, const Uuid& port)
{
    const PortKey key = key_of(port);
    return ask(internals().may_plug, network, &key);
}

Verdict may_tune(virNetworkPtr network, const Uuid& port)
{
    const PortKey key = key_of(port);
    return ask(internals().may_tune, network, &key);
}

void log_to_libvirt()
{
    if (!find(log_message, "virLogMessage"))
        return;
    set_log_sink([](Severity severity, const std::string& message) {
        log_message(&log_source, priority(severity), nullptr, 0, nullptr, nullptr, "%s", message.c_str());
    });
}

} // namespace virfloor::plugin
