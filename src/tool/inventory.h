// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The networks that run, and their interfaces with what was promised to them, as libvirt tells,
// or its status files.
#pragma once

#include "libvirt.h"
#include "virfloor/bandwidth.h"
#include "virfloor/identity.h"
#include "virfloor/network.h"
#include "virfloor/units.h"

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace virfloor::tool {

struct Interface {
    Uuid port;
    MacAddress mac;
    std::string domain, device; // the host's end of it, a tap or veth; both empty where they are not known
    std::optional<ClassId> id;
    KilobytesPerSecond floor; // 0 for none
};

struct NetworkState {
    std::string name, bridge;
    Rate limits; // of its <inbound>
    Bytes mtu;
    bool floored = false; // gives floors: of a kind that can, and with a limit
    std::vector<Interface> interfaces;
};

// Networks that run, by name; interfaces by domain and address. Without URIs and without a daemon that answers, it is what
// the status files say (root's): networks with floors, interfaces with a floor; a warning tells so.
// Throws Error(system), also if there is no network called as `only`.
std::vector<NetworkState> read_inventory(const std::vector<std::string>& uris,
                                         const std::optional<std::string>& only = {});
// The same over connections that are there.
std::vector<NetworkState> read_inventory(const std::vector<Connection>& connections,
                                         const std::optional<std::string>& only = {});

// What the status files alone say; and whether the caller has the right to read them.
std::vector<NetworkState> read_files();
bool may_read_files();

// The same where most of it is known from before. Of ports that were there then, only those that are stale are read:
// each costs some calls, and there may be thousands. It is no error if there is no network called as `only`.
using Stale = std::function<bool(const NetworkState&, const Interface&)>;
std::vector<NetworkState> refresh_inventory(const std::vector<Connection>& connections,
                                            const std::vector<NetworkState>& before, const Stale& stale,
                                            const std::optional<std::string>& only = {});

// The promises of a network, as the module reckons them. It must be floored.
Network promises(const NetworkState& state);

} // namespace virfloor::tool
