// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Port XML: what is read from it, what the stock driver is given, what is put back.
#include "virfloor/port_xml.h"
#include "fuzz.h"

namespace virfloor::fuzz {
namespace {

void require_same(const PortDescription& a, const PortDescription& b)
{
    REQUIRE(a.uuid == b.uuid && a.mac == b.mac);
    REQUIRE(printed(a.bandwidth.outbound) == printed(b.bandwidth.outbound));
}

// What the stock driver sees: no floor, no class ID, all else as it was.
void require_stripped(std::string_view xml, const PortDescription& port, bool valid)
{
    const auto split = split_port(xml, valid);
    const auto seen = parse_port(split.without_floor);
    require_same(port, split.port);
    require_same(port, seen);
    REQUIRE(!seen.floor() && !seen.class_id);
    const auto& before = port.bandwidth.inbound;
    const auto& after = seen.bandwidth.inbound;
    if (before && (before->average || !valid)) {
        REQUIRE(after && after->average == before->average && after->peak == before->peak &&
                after->burst == before->burst);
    }
    REQUIRE(!after || before);
}

constexpr KilobytesPerSecond floor{500};
constexpr ClassId id{77};

// Into what libvirt would print of it.
void require_put_back(const PortDescription& port)
{
    const std::string plain = "<networkport>\n  <uuid>" + port.uuid.text() + "</uuid>\n  <mac address='" +
                              port.mac.text() + "'/>\n" + format_bandwidth(port.bandwidth, {}, 2) +
                              "  <plug type='network' bridge='b'/>\n</networkport>\n";
    const std::string with = with_floor(plain, floor, id);
    const auto again = parse_port(with);
    require_same(port, again);
    REQUIRE(again.floor() == floor && again.class_id == id);
    if (const auto& before = port.bandwidth.inbound; before && before->average) {
        const auto& after = again.bandwidth.inbound;
        REQUIRE(after->average == before->average && after->peak == before->peak && after->burst == before->burst);
    }
    REQUIRE(with_floor(with, floor, id) == with);
}

void try_port(std::string_view xml)
{
    const auto port = attempt([&] { return parse_port(xml); });
    const auto split = attempt([&] { return split_port(xml, false); });
    REQUIRE(port.has_value() == split.has_value());
    if (!port)
        return;
    require_in_range(port->bandwidth);
    REQUIRE(!port->class_id || port->class_id->minor != 0);
    require_stripped(xml, *port, true);
    require_stripped(xml, *port, false);

    // Text of another form than libvirt's is refused, or comes out as it may.
    attempt([&] { return with_floor(std::string(xml), floor, id); });
    require_put_back(*port);
}

} // namespace
} // namespace virfloor::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    virfloor::fuzz::try_port(virfloor::fuzz::text(data, size));
    return 0;
}
