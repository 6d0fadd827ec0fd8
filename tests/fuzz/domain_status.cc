// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Domain status files, as libvirt's domain drivers write them.
#include "fuzz.h"
#include "virfloor/status.h"
#include "virfloor/xml.h"

namespace virfloor::fuzz {
namespace {

std::string format(const std::vector<DomainPort>& ports)
{
    std::string xml = "<domstatus><domain><devices>";
    for (const DomainPort& port : ports) {
        xml += "<interface><mac address='" + port.mac.text() + "'/><source network='" + escape_xml(port.network) +
               "' portid='" + port.uuid.text() + "'/><actual>";
        if (port.id)
            xml += "<class id='" + std::to_string(port.id->minor) + "'/>";
        xml +=
            "<bandwidth><inbound floor='" + std::to_string(port.floor.count) + "'/></bandwidth></actual></interface>";
    }
    return xml + "</devices></domain></domstatus>";
}

void try_status(std::string_view xml)
{
    const auto ports = attempt([&] { return parse_domain_status(xml); });
    if (!ports)
        return;
    for (const DomainPort& port : *ports) {
        REQUIRE(port.floor && port.floor <= max_rate);
        REQUIRE(!port.id || *port.id >= first_port_class);
    }
    const auto again = parse_domain_status(format(*ports));
    REQUIRE(again.size() == ports->size());
    for (std::size_t i = 0; i < again.size(); ++i) {
        const DomainPort &a = (*ports)[i], &b = again[i];
        REQUIRE(without_breaks(a.network) == b.network && a.uuid == b.uuid && a.mac == b.mac && a.floor == b.floor &&
                a.id == b.id);
    }
}

} // namespace
} // namespace virfloor::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    virfloor::fuzz::try_status(virfloor::fuzz::text(data, size));
    return 0;
}
