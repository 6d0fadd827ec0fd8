// SPDX-License-Identifier: LGPL-2.1-or-later
//
// libvirt's network XML: what this module reads from it, and the two ways it changes one.
#pragma once

#include "virfloor/bandwidth.h"
#include "virfloor/units.h"

#include <string>
#include <string_view>

namespace virfloor {

struct NetworkDescription {
    std::string name;
    std::string bridge;  // empty until libvirt has chosen one
    std::string forward; // mode of <forward>; empty for an isolated network
    Bytes mtu{1500};
    Bandwidth bandwidth;

    // libvirt gives floors on networks whose bridge it makes itself: nat, route, open, isolated.
    bool supports_floor() const;
    // With an average of 0 it has no limit, and so nothing to promise.
    bool wants_tree() const;
};

// Throws Error(invalid_xml), what parse_bandwidth throws, and Error(config_unsupported) for a floor,
// which only interfaces have.
NetworkDescription parse_network(std::string_view xml);

// The same network without what the stock driver must not see: <inbound>, and <bandwidth> with it
// where there is no <outbound>.
std::string without_inbound(std::string_view xml);

// XML as libvirt formats it, with <bandwidth> where libvirt would print it, in place of any that is
// there. All other bytes stay.
std::string with_bandwidth(const std::string& network_xml, const Bandwidth& bandwidth);

} // namespace virfloor
