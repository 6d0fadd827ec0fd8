// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The process that serves libvirt's networks: virtnetworkd, or libvirtd where one daemon does all.
#pragma once

#include "differences.h"

#include <optional>

namespace virfloor::tool {

// libvirt's daemons hold a lock on their PID file as long as they live. The kernel says who holds it; so an old file,
// and a process that has got an old number again, are not taken for the daemon.
std::optional<Daemon> find_daemon();

// SIGHUP, at which it goes over all its networks. Throws Error(system): no right, or it is gone.
void reload(const Daemon& daemon);

} // namespace virfloor::tool
