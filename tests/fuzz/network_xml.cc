// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Network XML: what is read from it, what the stock driver is given, what is put back.
#include "virfloor/network_xml.h"
#include "fuzz.h"
#include "virfloor/xml.h"

namespace virfloor::fuzz {
namespace {

// All but the inbound limits.
void require_same(const NetworkDescription& a, const NetworkDescription& b)
{
    REQUIRE(a.name == b.name && a.bridge == b.bridge && a.forward == b.forward && a.mtu == b.mtu);
    REQUIRE(printed(a.bandwidth.outbound) == printed(b.bandwidth.outbound));
}

// As libvirt would print it.
std::string format(const NetworkDescription& network)
{
    return "<network>\n  <name>" + escape_xml(network.name) + "</name>\n  <forward mode='" +
           escape_xml(without_breaks(network.forward)) + "'/>\n  <bridge name='" +
           escape_xml(without_breaks(network.bridge)) + "'/>\n  <mtu size='" + std::to_string(network.mtu.count) +
           "'/>\n  <ip address='10.0.0.1'>\n  </ip>\n</network>\n";
}

void require_put_back(const NetworkDescription& network)
{
    const std::string plain = format(network);
    const std::string with = with_bandwidth(plain, network.bandwidth);
    const auto again = parse_network(with);
    REQUIRE(again.name == network.name && again.mtu == network.mtu);
    REQUIRE(printed(again.bandwidth.inbound) == printed(network.bandwidth.inbound));
    REQUIRE(printed(again.bandwidth.outbound) == printed(network.bandwidth.outbound));
    REQUIRE(with_bandwidth(with, again.bandwidth) == with);
}

void try_network(std::string_view xml)
{
    const auto network = attempt([&] { return parse_network(xml); });
    if (!network)
        return;
    REQUIRE(!network->name.empty() && network->name.find_first_of("/\n") == std::string::npos);
    require_in_range(network->bandwidth);

    const std::string stripped = without_inbound(xml);
    const auto seen_by_stock = parse_network(stripped);
    require_same(*network, seen_by_stock);
    REQUIRE(!seen_by_stock.bandwidth.inbound && !seen_by_stock.wants_tree());

    // Text of another form than libvirt's is refused, or comes out as it may.
    attempt([&] { return with_bandwidth(std::string(xml), network->bandwidth); });
    require_put_back(*network);
}

} // namespace
} // namespace virfloor::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    virfloor::fuzz::try_network(virfloor::fuzz::text(data, size));
    return 0;
}
