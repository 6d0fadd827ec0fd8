// SPDX-License-Identifier: LGPL-2.1-or-later
//
// libvirt's private functions, looked up by name in the daemon that loaded the module.
#pragma once

#include "libvirt_abi.h"

#include "virfloor/identity.h"

#include <libvirt/virterror.h>

namespace virfloor::plugin {

struct Internals {
    int (*register_connect_driver)(ConnectDriver*, bool set_shared_drivers);
    int (*register_state_driver)(StateDriver*);
    void (*report_error)(int domain, int code, const char* file, const char* function, std::size_t line,
                         const char* format, ...);
    void (*preserve_error)(virErrorPtr*);
    void (*restore_error)(virErrorPtr*);
    // Null if one of them is missing: what then fails is named in docs/libvirt-versions.md.
    Identity* (*current_identity)();
    int (*set_current_identity)(Identity*);
    Identity* (*system_identity)();
    void (*unref)(void*);
    int (*may_start)(virConnectPtr, const NetworkKey*);
    int (*may_plug)(virConnectPtr, const NetworkKey*, const PortKey*);
    int (*may_tune)(virConnectPtr, const NetworkKey*, const PortKey*);
};

// Looks all of them up, once. Throws std::runtime_error that names the first that is missing and
// cannot be done without.
const Internals& internals();

// In its scope the thread acts as the daemon itself: libvirt's access control asks who the current
// identity is, at each driver function. For calls that belong to what a caller was allowed to do, and
// that it may have no right to by itself. Without libvirt's functions for it, nothing changes.
class AsDaemon {
public:
    AsDaemon();
    ~AsDaemon();
    AsDaemon(const AsDaemon&) = delete;
    AsDaemon& operator=(const AsDaemon&) = delete;

private:
    bool active_ = false;
    Identity* caller_ = nullptr;
};

enum class Verdict { allowed, refused, unknown };

// Whether the caller may start a network, create a port, or change one's parameters, as the stock
// functions ask it, without doing so. Refused: the thread has the stock driver's error. Unknown: this
// libvirt cannot be asked.
Verdict may_start(virNetworkPtr network);
Verdict may_plug(virNetworkPtr network, const Uuid& port);
Verdict may_tune(virNetworkPtr network, const Uuid& port);

// Sends the messages of all parts to libvirtd's log, as source "network.floor". Without libvirt's
// function for it they stay on stderr.
void log_to_libvirt();

} // namespace virfloor::plugin
