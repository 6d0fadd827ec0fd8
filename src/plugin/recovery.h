// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Going on with networks that run already: after a start of the daemon, and after a reload.
#pragma once

#include "floored_network.h"

#include <libvirt/libvirt.h>

namespace virfloor::plugin {

// For all networks that run and have, or had, a tree: promises from our status file, where that is
// missing or damaged from libvirt's own state, and the kernel's tree put right where it differs.
// Then networks that the stock driver was to start, but could not, are started. What fails is
// logged and leaves the other networks alone.
void recover_networks();

// The same after libvirt has read its configuration again; promises are those in memory.
void reload_networks();

// The same for one network that is not known, since an attempt before failed, or since it has no tree.
void recover_network(virNetworkPtr network, FlooredNetworks::Locked& place);

} // namespace virfloor::plugin
