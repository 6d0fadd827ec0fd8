// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Our status files: what is trusted can be promised again, and written again.
#include "fuzz.h"
#include "support.h"
#include "virfloor/status.h"
#include "virfloor/xml.h"

#include <algorithm>

namespace virfloor::fuzz {
namespace {

// The name in the file, so that it is not refused for that alone.
std::string name_in(std::string_view text)
{
    const auto document = XmlDocument::parse(text, "floornetwork");
    return content(child(document.root(), "name")).value_or("");
}

void require_valid(const SavedNetwork& saved)
{
    require_in_range({saved.limits, {}});
    REQUIRE(saved.limits.average && saved.ifindex >= 0 && saved.mtu.count <= UINT32_MAX);
    REQUIRE(saved.ifindex == no_ifindex || !saved.bridge.empty());
    for (const Port& port : saved.ports)
        REQUIRE(port.floor && port.floor <= max_rate && port.id >= first_port_class);
}

std::vector<Port> sorted(std::vector<Port> ports)
{
    std::ranges::sort(ports, {}, &Port::uuid);
    return ports;
}

void save(const Network& network, const SavedNetwork& saved, const StatusDirectory& directory)
{
    directory.file(saved.name).describe(network, saved.ifindex, saved.condition, saved.counts);
}

void try_status(std::string_view text, const StatusDirectory& directory)
{
    const auto name = attempt([&] { return name_in(text); });
    const auto saved = attempt([&] { return parse_status(text, name.value_or("?"), "file"); });
    if (!saved)
        return;
    REQUIRE(saved->name == name);
    require_valid(*saved);

    Network network(saved->name, saved->bridge, saved->limits, saved->mtu);
    for (const Port& port : saved->ports) {
        const auto restored = attempt([&] { return network.restore(port.uuid, port.mac, port.floor, port.id); });
        if (!restored)
            return; // more than the kernel can count
        REQUIRE(*restored == port);
    }
    // Names may be none for a file.
    if (!attempt([&] { return save(network, *saved, directory), 0; }))
        return;
    const auto again = directory.load(saved->name);
    REQUIRE(again && again->name == saved->name && again->ifindex == saved->ifindex && again->mtu == saved->mtu &&
            again->limits == saved->limits && again->condition == saved->condition && again->counts == saved->counts);
    REQUIRE(sorted(again->ports) == sorted(saved->ports));
    directory.remove(saved->name);
}

} // namespace
} // namespace virfloor::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    static const virfloor::test::TemporaryDirectory folder;
    static const virfloor::StatusDirectory directory(folder.path());
    virfloor::fuzz::try_status(virfloor::fuzz::text(data, size), directory);
    return 0;
}
