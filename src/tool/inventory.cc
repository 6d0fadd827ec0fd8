// SPDX-License-Identifier: LGPL-2.1-or-later
#include "inventory.h"

#include "virfloor/log.h"
#include "virfloor/network_xml.h"
#include "virfloor/port_xml.h"
#include "virfloor/text.h"
#include "virfloor/xml.h"

#include <algorithm>
#include <tuple>
#include <unordered_map>

namespace virfloor::tool {

namespace {

struct DomainInterface {
    std::string domain, device;
};

using DomainInterfaces = std::unordered_map<Uuid, DomainInterface>;

void add_interfaces(DomainInterfaces& found, const std::string& xml)
{
    const auto document = XmlDocument::parse(xml, "domain");
    const std::string name = content(child(document.root(), "name")).value_or("");
    for (const xmlNode* device : children(child(document.root(), "devices")))
        if (has_name(device, "interface"))
            if (const auto port = Uuid::parse(attribute(child(device, "source"), "portid").value_or("")))
                found[*port] = {name, attribute(child(device, "target"), "dev").value_or("")};
}

// By port. A domain that ends meanwhile is passed over.
DomainInterfaces domain_interfaces(const std::vector<Connection>& connections)
{
    DomainInterfaces found;
    for (const Connection& connection : connections)
        for (const auto& domain : take_list<DomainHandle>(_("Cannot list domains"), [&](virDomainPtr** items) {
                 return virConnectListAllDomains(connection.get(), items, VIR_CONNECT_LIST_DOMAINS_ACTIVE);
             }))
            if (char* xml = virDomainGetXMLDesc(domain.get(), 0))
                add_interfaces(found, take_string(xml, ""));
    return found;
}

std::vector<Interface> interfaces_of(virNetworkPtr network, const DomainInterfaces& known)
{
    std::vector<Interface> interfaces;
    for (const auto& handle : take_list<PortHandle>(_("Cannot list ports"), [&](virNetworkPortPtr** items) {
             return virNetworkListAllPorts(network, items, 0);
         })) {
        char* xml = virNetworkPortGetXMLDesc(handle.get(), 0);
        if (!xml) // unplugged meanwhile
            continue;
        const PortDescription port = parse_port(take_string(xml, ""));
        Interface& added =
            interfaces.emplace_back(Interface{port.uuid, port.mac, port.owner, "", port.class_id, port.floor()});
        if (const auto at = known.find(port.uuid); at != known.end()) {
            added.domain = at->second.domain;
            added.device = at->second.device;
        }
    }
    std::ranges::sort(interfaces, {}, [](const Interface& at) { return std::tie(at.domain, at.mac); });
    return interfaces;
}

NetworkState state_of(virNetworkPtr network, const DomainInterfaces& known)
{
    const std::string name = virNetworkGetName(network);
    const auto description = parse_network(
        take_string(virNetworkGetXMLDesc(network, 0), format(_("Cannot read network '%s'"), name.c_str())));
    return {name,
            description.bridge,
            description.bandwidth.inbound.value_or(Rate{}),
            description.mtu,
            description.supports_floor() && description.wants_tree(),
            interfaces_of(network, known)};
}

} // namespace

std::vector<NetworkState> read_inventory(const std::vector<Connection>& connections,
                                         const std::optional<std::string>& only)
{
    const auto handles = take_list<NetworkHandle>(_("Cannot list networks"), [&](virNetworkPtr** items) {
        return virConnectListAllNetworks(connections.front().get(), items, VIR_CONNECT_LIST_NETWORKS_ACTIVE);
    });
    const DomainInterfaces known = domain_interfaces(connections);
    std::vector<NetworkState> networks;
    for (const auto& handle : handles)
        if (!only || *only == virNetworkGetName(handle.get()))
            networks.push_back(state_of(handle.get(), known));
    if (only && networks.empty())
        throw Error(Refusal::system, format(_("There is no network '%s' that runs"), only->c_str()));
    std::ranges::sort(networks, {}, &NetworkState::name);
    return networks;
}

Network promises(const NetworkState& state)
{
    Network network(state.name, state.bridge, state.limits, state.mtu);
    for (const Interface& interface : state.interfaces)
        if (interface.floor)
            network.restore(interface.port, interface.mac, interface.floor, interface.id);
    return network;
}

} // namespace virfloor::tool
