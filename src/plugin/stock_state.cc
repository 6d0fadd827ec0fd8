// SPDX-License-Identifier: LGPL-2.1-or-later
#include "stock_state.h"

#include "virfloor/error.h"
#include "virfloor/log.h"
#include "virfloor/network.h"
#include "virfloor/network_xml.h"
#include "virfloor/port_xml.h"
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
    std::string xml;
    PortDescription description;
};

std::vector<StockPort> floored_ports(const fs::path& directory)
{
    std::vector<StockPort> ports;
    std::error_code missing;
    for (const auto& entry : fs::directory_iterator(directory, missing)) {
        if (entry.path().extension() != ".xml")
            continue;
        StockPort port{entry.path(), read_file(entry.path(), max_xml_size), {}};
        port.description = parse_port(port.xml);
        if (port.description.floor() || port.description.class_id)
            ports.push_back(std::move(port));
    }
    return ports;
}

Network promises(const NetworkDescription& description, const StatusDirectory& directory,
                 const std::vector<StockPort>& stock_ports)
{
    std::optional<SavedNetwork> saved;
    try {
        saved = directory.load(description.name);
    } catch (const Error& error) {
        log(Severity::warning, error.what());
    }
    if (!saved && !description.wants_tree())
        throw Error(Refusal::operation_unsupported, "it has ports with floors, but no bandwidth");
    Network network(description.name, description.bridge,
                    saved ? saved->limits : *description.bandwidth.inbound, description.mtu);
    if (saved)
        for (const Port& port : saved->ports)
            network.restore(port.uuid, port.mac, port.floor, port.id);
    for (const auto& [path, xml, port] : stock_ports)
        if (port.floor() && !network.find(port.uuid))
            network.restore(port.uuid, port.mac, port.floor(), port.class_id);
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
    const auto ports = floored_ports(path.parent_path() / path.stem() / "ports");
    if (ports.empty())
        return;
    const auto status = XmlDocument::parse(read_file(path, max_xml_size), status_root);
    xmlNode* network = child(status.root(), "network");
    if (!network)
        throw Error(Refusal::invalid_xml, "it has no <network>");
    const auto description = parse_network(status.text(network));
    directory.save(promises(description, directory, ports));
    for (const StockPort& port : ports)
        replace_file(port.path, without_floor(port.xml, false));
    clear_account(path, status);
    log(Severity::info, "network '" + description.name + "': took over " +
                            std::to_string(ports.size()) + " ports with floors from libvirt");
}

} // namespace

void take_over_stock_state(const fs::path& libvirt_state_dir, const StatusDirectory& directory)
{
    std::error_code missing;
    for (const auto& entry : fs::directory_iterator(libvirt_state_dir / "network", missing)) {
        if (entry.path().extension() != ".xml")
            continue;
        try {
            take_over(entry.path(), directory);
        } catch (const std::exception& error) {
            log(Severity::error, "cannot take over the floors of " + entry.path().string() + ": " +
                                     error.what());
        }
    }
}

} // namespace virfloor
