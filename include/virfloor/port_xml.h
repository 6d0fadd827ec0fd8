// SPDX-License-Identifier: LGPL-2.1-or-later
//
// libvirt's network port XML: what this module reads from it, and the two ways it changes one.
#pragma once

#include "virfloor/bandwidth.h"
#include "virfloor/identity.h"

#include <optional>
#include <string>
#include <string_view>

namespace virfloor {

struct PortDescription {
    Uuid uuid;
    MacAddress mac;
    std::string owner; // the domain's name; empty if there is none
    Bandwidth bandwidth;
    std::optional<ClassId> class_id; // given back by a domain driver that reclaims its port

    KilobytesPerSecond floor() const;
};

// Throws Error(invalid_xml) and what parse_bandwidth throws.
PortDescription parse_port(std::string_view xml);

// A port, and its XML without what the stock driver must not see: floor and classID. An <inbound>
// that had a floor alone becomes average='0', which libvirt reads as "no limit": with no <inbound>
// at all the stock driver would put the bandwidth of the port group there. With `valid` it is left
// out nevertheless, since libvirt's schema knows no average of 0.
struct SplitPort {
    PortDescription port;
    std::string without_floor;
};
// Throws as parse_port.
SplitPort split_port(std::string_view xml, bool valid);

// XML as libvirt formats it, with the floor and the class ID in its <bandwidth>.
std::string with_floor(const std::string& port_xml, KilobytesPerSecond floor, ClassId id);

} // namespace virfloor
