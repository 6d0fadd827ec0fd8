// SPDX-License-Identifier: LGPL-2.1-or-later
//
// libvirt's private functions, looked up by name in the daemon that loaded the module.
#pragma once

#include "libvirt_abi.h"

#include <libvirt/virterror.h>

namespace virfloor::plugin {

struct Internals {
    int (*register_connect_driver)(ConnectDriver*, bool set_shared_drivers);
    int (*register_state_driver)(StateDriver*);
    void (*report_error)(int domain, int code, const char* file, const char* function,
                         std::size_t line, const char* format, ...);
    void (*preserve_error)(virErrorPtr*);
    void (*restore_error)(virErrorPtr*);
    void (*log_message)(LogSource*, int priority, const char* file, int line, const char* function,
                        void* metadata, const char* format, ...);
};

// Looks all of them up, once. Throws std::runtime_error that names the first that is missing.
const Internals& internals();

// Sends the messages of all parts to libvirtd's log, as source "network.floor".
void log_to_libvirt();

} // namespace virfloor::plugin
