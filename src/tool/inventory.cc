// SPDX-License-Identifier: LGPL-2.1-or-later
#include "inventory.h"

#include "config.h"

#include "virfloor/log.h"
#include "virfloor/network_xml.h"
#include "virfloor/port_xml.h"
#include "virfloor/status.h"
#include "virfloor/text.h"
#include "virfloor/xml.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <set>
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

// Of the domains with these names.
DomainInterfaces domain_interfaces(const std::vector<Connection>& connections, const std::set<std::string>& names)
{
    DomainInterfaces found;
    for (const Connection& connection : connections)
        for (const std::string& name : names)
            if (const DomainHandle domain{virDomainLookupByName(connection.get(), name.c_str())})
                if (char* xml = virDomainGetXMLDesc(domain.get(), 0))
                    add_interfaces(found, take_string(xml, ""));
    return found;
}

void add_names(std::vector<Interface>& interfaces, const DomainInterfaces& known)
{
    for (Interface& interface : interfaces)
        if (const auto at = known.find(interface.port); at != known.end()) {
            interface.domain = at->second.domain;
            interface.device = at->second.device;
        }
}

std::vector<PortHandle> ports_of(virNetworkPtr network)
{
    return take_list<PortHandle>(_("Cannot list ports"),
                                 [&](virNetworkPortPtr** items) { return virNetworkListAllPorts(network, items, 0); });
}

// Its domain is the owner that the port names. Nothing if it was unplugged meanwhile.
std::optional<Interface> read_port(virNetworkPortPtr handle)
{
    char* xml = virNetworkPortGetXMLDesc(handle, 0);
    if (!xml)
        return {};
    const PortDescription port = parse_port(take_string(xml, ""));
    return Interface{port.uuid, port.mac, port.owner, "", port.class_id, port.floor()};
}

// All but its interfaces.
NetworkState state_of(virNetworkPtr network)
{
    const std::string name = virNetworkGetName(network);
    const auto description = parse_network(
        take_string(virNetworkGetXMLDesc(network, 0), format(_("Cannot read network '%s'"), name.c_str())));
    return {name,
            description.bridge,
            description.bandwidth.inbound.value_or(Rate{}),
            description.mtu,
            description.supports_floor() && description.wants_tree(),
            {}};
}

std::vector<NetworkHandle> networks_of(const std::vector<Connection>& connections)
{
    return take_list<NetworkHandle>(_("Cannot list networks"), [&](virNetworkPtr** items) {
        return virConnectListAllNetworks(connections.front().get(), items, VIR_CONNECT_LIST_NETWORKS_ACTIVE);
    });
}

std::vector<NetworkState> networks_in_files()
{
    DomainInterfaces known;
    for (const DomainPort& port : read_domain_status(LIBVIRT_STATE_DIR))
        known[port.uuid] = {port.domain, port.device};
    std::vector<NetworkState> networks;
    for (const std::string& name : list_status(STATE_DIR)) {
        const auto saved = read_status(STATE_DIR, name);
        if (!saved) // it ended meanwhile
            continue;
        NetworkState& network =
            networks.emplace_back(NetworkState{name, saved->bridge, saved->limits, saved->mtu, true, {}});
        for (const Port& port : saved->ports)
            network.interfaces.push_back(
                {port.uuid, port.mac, known[port.uuid].domain, known[port.uuid].device, port.id, port.floor});
    }
    return networks;
}

std::vector<NetworkState> in_order(std::vector<NetworkState> networks, const std::optional<std::string>& only)
{
    if (only)
        std::erase_if(networks, [&](const NetworkState& network) { return network.name != *only; });
    if (only && networks.empty())
        throw Error(Refusal::system, format(_("There is no network '%s' that runs"), only->c_str()));
    std::ranges::sort(networks, {}, &NetworkState::name);
    for (NetworkState& network : networks)
        std::ranges::sort(network.interfaces, {}, [](const Interface& at) { return std::tie(at.domain, at.mac); });
    return networks;
}

} // namespace

// With the capabilities of the process, which access(2) leaves out.
bool may_read_files() { return faccessat(AT_FDCWD, STATE_DIR, R_OK | X_OK, AT_EACCESS) == 0; }

std::vector<NetworkState> read_files() { return in_order(networks_in_files(), {}); }

std::vector<NetworkState> read_inventory(const std::vector<std::string>& uris, const std::optional<std::string>& only)
{
    try {
        return read_inventory(connect(uris, Access::read_only), only);
    } catch (const NoConnection& error) {
        if (!uris.empty() || !may_read_files())
            throw;
        log(Severity::warning, format(_("%s. What follows is from status files."), error.what()));
    }
    return in_order(networks_in_files(), only);
}

std::vector<NetworkState> read_inventory(const std::vector<Connection>& connections,
                                         const std::optional<std::string>& only)
{
    const auto handles = networks_of(connections);
    const DomainInterfaces known = domain_interfaces(connections);
    std::vector<NetworkState> networks;
    for (const auto& handle : handles) {
        if (only && *only != virNetworkGetName(handle.get()))
            continue;
        NetworkState& network = networks.emplace_back(state_of(handle.get()));
        for (const auto& port : ports_of(handle.get()))
            if (auto interface = read_port(port.get()))
                network.interfaces.push_back(std::move(*interface));
        add_names(network.interfaces, known);
    }
    return in_order(std::move(networks), only);
}

std::vector<NetworkState> refresh_inventory(const std::vector<Connection>& connections,
                                            const std::vector<NetworkState>& before, const Stale& stale,
                                            const std::optional<std::string>& only)
{
    std::unordered_map<Uuid, const Interface*> known;
    for (const NetworkState& network : before)
        for (const Interface& interface : network.interfaces)
            if (stale && !stale(network, interface))
                known[interface.port] = &interface;

    std::vector<NetworkState> networks;
    std::set<std::string> owners;
    for (const auto& handle : networks_of(connections)) {
        if (only && *only != virNetworkGetName(handle.get()))
            continue;
        NetworkState& network = networks.emplace_back(state_of(handle.get()));
        for (const auto& port : ports_of(handle.get())) {
            Uuid uuid;
            virNetworkPortGetUUID(port.get(), uuid.bytes.data());
            if (const auto at = known.find(uuid); at != known.end())
                network.interfaces.push_back(*at->second);
            else if (auto interface = read_port(port.get())) {
                owners.insert(interface->domain);
                network.interfaces.push_back(std::move(*interface));
            }
        }
    }
    const DomainInterfaces named = domain_interfaces(connections, owners);
    for (NetworkState& network : networks)
        add_names(network.interfaces, named);
    return in_order(std::move(networks), {});
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
