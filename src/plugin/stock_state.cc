// SPDX-License-Identifier: LGPL-2.1-or-later
#include "stock_state.h"

#include "virfloor/device_tree.h"
#include "virfloor/error.h"
#include "virfloor/log.h"
#include "virfloor/network.h"
#include "virfloor/network_xml.h"
#include "virfloor/port_xml.h"
#include "virfloor/text.h"
#include "virfloor/xml.h"

#include <vector>

namespace virfloor {

namespace {

namespace fs = std::filesystem;

constexpr char status_root[] = "networkstatus";
// The stock driver's own account of classes: none taken but the three it reserves.
constexpr char no_classes[] = "0-2";

struct StockPort {
    fs::path path;
    PortDescription description;
    std::string without_floor;
};

// Where the stock driver keeps the ports of a network, by the network's own file.
fs::path ports_of(const fs::path& path) { return path.parent_path() / path.stem() / "ports"; }

std::vector<StockPort> floored_ports(const fs::path& directory)
{
    std::vector<StockPort> ports;
    std::error_code missing;
    for (const auto& entry : fs::directory_iterator(directory, missing)) {
        if (entry.path().extension() != ".xml")
            continue;
        auto [port, without_floor] = split_port(read_file(entry.path(), max_xml_size), false);
        if (port.floor() || port.class_id)
            ports.push_back({entry.path(), port, without_floor});
    }
    return ports;
}

// What we wrote down of the network before the stock driver had it.
std::optional<SavedNetwork> saved_before(const std::string& network, const StatusDirectory& directory)
{
    try {
        return directory.load(network);
    } catch (const Error& error) {
        log(Severity::warning, error.what());
        return {};
    }
}

Network promises(const NetworkDescription& description, const std::optional<SavedNetwork>& saved,
                 const std::vector<StockPort>& stock_ports)
{
    if (!saved && !description.wants_tree())
        throw Error(Refusal::operation_unsupported, _("it has ports with floors, but no bandwidth"));
    // Where the stock driver knows of limits, it was the one that started the network.
    Network network(description.name, description.bridge,
                    description.wants_tree() ? *description.bandwidth.inbound : saved->limits, description.mtu);
    const auto restore = [&network](const Uuid& uuid, MacAddress mac, KilobytesPerSecond floor,
                                    std::optional<ClassId> id) {
        try {
            network.restore(uuid, mac, floor, id);
        } catch (const std::exception& error) {
            log(Severity::error, format(_("network '%s': the floor of port %s cannot be taken over: %s"),
                                        network.name().c_str(), uuid.text().c_str(), error.what()));
        }
    };
    if (saved)
        for (const Port& port : saved->ports)
            restore(port.uuid, port.mac, port.floor, port.id);
    for (const auto& [path, port, without_floor] : stock_ports)
        if (port.floor() && !network.find(port.uuid))
            restore(port.uuid, port.mac, port.floor(), port.class_id);
    return network;
}

void clear_account(const fs::path& path, const XmlDocument& status)
{
    if (xmlNode* ids = child(status.root(), "class_id"))
        set_attribute(ids, "bitmap", no_classes);
    if (xmlNode* floor = child(status.root(), "floor"))
        set_attribute(floor, "sum", "0");
    replace_file(path, status.text());
}

void take_over(const fs::path& path, const StatusDirectory& directory)
{
    const auto ports = floored_ports(ports_of(path));
    if (ports.empty())
        return;
    const auto status = XmlDocument::parse(read_file(path, max_xml_size), status_root);
    xmlNode* network = child(status.root(), "network");
    if (!network)
        throw Error(Refusal::invalid_xml, _("it has no <network>"));
    const auto description = parse_network(status.text(network));
    const auto saved = saved_before(description.name, directory);
    // With no index: the tree that is there is not ours.
    directory.file(description.name)
        .describe(promises(description, saved, ports), no_ifindex, Condition::kept, saved ? saved->counts : Counts{});
    clear_account(path, status);
    for (const StockPort& port : ports)
        replace_file(port.path, port.without_floor);
    log(Severity::info, format(plural("network '%s': took over %zu port with a floor from libvirt",
                                      "network '%s': took over %zu ports with floors from libvirt", ports.size()),
                               description.name.c_str(), ports.size()));
}

} // namespace

void take_over_stock_state(const fs::path& libvirt_state_dir, const StatusDirectory& directory)
{
    std::error_code missing;
    remove_temporaries(libvirt_state_dir / "network");
    for (const auto& entry : fs::directory_iterator(libvirt_state_dir / "network", missing)) {
        if (entry.path().extension() != ".xml")
            continue;
        remove_temporaries(ports_of(entry.path()));
        try {
            take_over(entry.path(), directory);
        } catch (const std::exception& error) {
            log(Severity::error,
                format(_("cannot take over the floors of %s: %s"), entry.path().c_str(), error.what()));
        }
    }
}

} // namespace virfloor
