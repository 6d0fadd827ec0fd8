// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Gathers what is known of networks: from libvirt where it answers, its domain status files, our status files, and the
// kernel.
#pragma once

#include "differences.h"
#include "libvirt.h"

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace virfloor::tool {

struct Evidence {
    std::map<std::string, NetworkEvidence> networks; // those that may give floors, or have a status file
    std::vector<std::string> unknown; // what could not be read, a sentence each, with the right that is missing
};

// connections: none where no daemon runs. Throws Error(system): libvirt or the kernel does not answer as it should, or there
// is no network called as `only`.
Evidence gather(const std::vector<Connection>& connections, const std::optional<std::string>& only);

// Connections, or none where nobody serves networks and none was asked for by name. Throws Error(system) where there is
// a daemon, and it does not answer.
std::vector<Connection> connect_if_served(const std::vector<std::string>& uris);

std::vector<Difference> differences(const Evidence& evidence);

} // namespace virfloor::tool
