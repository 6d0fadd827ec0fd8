// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network_driver.h"

#include "config.h"
#include "guard.h"
#include "libvirt_internals.h"
#include "parameters.h"
#include "recovery.h"
#include "virfloor/error.h"
#include "virfloor/log.h"
#include "virfloor/port_xml.h"
#include "virfloor/text.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <optional>

namespace virfloor::plugin {

namespace {

template <class Function>
Function stock(Slot slot)
{
    return module().stock.get<Function>(slot);
}

// The public accessors clear the thread's error and cannot fail on an object that libvirt hands us.
std::string name_of(virNetworkPtr network) { return virNetworkGetName(network); }
std::string network_of(virNetworkPortPtr port) { return name_of(virNetworkPortGetNetwork(port)); }

char* copy(const std::string& text)
{
    char* result = strdup(text.c_str());
    if (!result)
        throw std::bad_alloc();
    return result;
}

// --- networks -----------------------------------------------------------------------------------

// The stock driver forgets a network that it failed to start from XML, be it defined or not. Its
// file is still there, and so is the link that makes it autostart, which must go before it can be
// made again.
void define_again(virConnectPtr connection, const std::string& name, const char* xml, bool autostart)
{
    const ErrorKept kept;
    const AsDaemon as_daemon;
    const NetworkHandle there(stock<LookupByName>(Slot::network_lookup_by_name)(connection, name.c_str()));
    if (there)
        return;
    const NetworkHandle defined(stock<DefineXml>(Slot::network_define_xml)(connection, xml));
    if (!defined) {
        log(Severity::error, format(_("network '%s' failed to start and cannot be defined again: %s"), name.c_str(),
                                    virGetLastErrorMessage()));
        return;
    }
    if (!autostart)
        return;
    const auto link = std::filesystem::path(LIBVIRT_CONFIG_DIR) / "qemu" / "networks" / "autostart" / (name + ".xml");
    std::error_code ignored;
    std::filesystem::remove(link, ignored);
    if (stock<SetAutostart>(Slot::network_set_autostart)(defined.get(), 1) < 0)
        log(Severity::error, format(_("network '%s' failed to start and lost its autostart flag: %s"), name.c_str(),
                                    virGetLastErrorMessage()));
}

// The file of a network that is gone. If it stays, the next start of the daemon removes it.
void forget_status(const std::string& name)
{
    try {
        if (module().status->has(name))
            module().status->remove(name);
    } catch (const std::exception& error) {
        log(Severity::error, error.what());
    }
}

// Writes the status file and makes the tree. If it throws, the file may be there.
std::unique_ptr<FlooredNetwork> make_floored(Network promises)
{
    tc::DeviceTree tree(module().netlink, promises.bridge(), promises.direction());
    try {
        auto floored = std::make_unique<FlooredNetwork>(std::move(promises), std::move(tree), *module().status);
        floored->write_down();
        floored->reconcile();
        return floored;
    } catch (const Error& error) {
        if (error.system_errno() != ENOENT)
            throw;
        throw Error(error.refusal(),
                    format(_("%s; does this kernel have HTB and u32 (sch_htb, cls_u32)?"), error.what()), ENOENT);
    }
}

// Calls a stock function that starts a network, with XML it may see, and makes the tree of the
// network that runs then. Ends the network again if that fails.
template <class StartStock>
NetworkHandle start_with_tree(const NetworkDescription& asked, StartStock start_stock)
{
    auto place = module().networks.lock(asked.name);
    if (place)
        return NetworkHandle(start_stock()); // runs already, as the stock driver will say
    // What is intended is written down first: a daemon that is killed in between goes on with it. A
    // file that is there belongs to a network that runs, and could not be gone on with.
    const bool intended = !module().status->has(asked.name);
    NetworkHandle network;
    try {
        if (intended)
            module().status->save(promises_of(asked, *asked.bandwidth.inbound), no_ifindex);
        network.reset(start_stock());
    } catch (...) {
        // The file may be there, though the save failed.
        if (intended)
            forget_status(asked.name);
        throw;
    }
    if (!network) {
        if (intended)
            forget_status(asked.name);
        return network;
    }
    const AsDaemon as_daemon;
    try {
        const Text live = stock_xml(network.get(), 0);
        if (!live)
            throw Error(Refusal::system, format(_("cannot read the XML of network '%s': %s"), asked.name.c_str(),
                                                virGetLastErrorMessage()));
        place.set(make_floored(promises_of(parse_network(live.get()), *asked.bandwidth.inbound)));
    } catch (...) {
        forget_status(asked.name);
        if (stock<Destroy>(Slot::network_destroy)(network.get()) < 0)
            log(Severity::error, format(_("network '%s' has no tree and cannot be ended: %s"), asked.name.c_str(),
                                        virGetLastErrorMessage()));
        throw;
    }
    return network;
}

NetworkHandle create_from(const char* xml, const auto& create_stock)
{
    const auto asked = parse_network(xml);
    if (!asked.wants_tree())
        return NetworkHandle(create_stock(xml));
    const std::string seen = without_inbound(xml);
    return start_with_tree(asked, [&] { return create_stock(seen.c_str()); });
}

virNetworkPtr create_xml(virConnectPtr connection, const char* xml)
{
    return guarded(virNetworkPtr{}, [&] {
        return create_from(xml,
                           [connection](const char* seen) {
                               return stock<CreateXml>(Slot::network_create_xml)(connection, seen);
                           })
            .release();
    });
}

virNetworkPtr create_xml_flags(virConnectPtr connection, const char* xml, unsigned flags)
{
    return guarded(virNetworkPtr{}, [&] {
        return create_from(xml,
                           [connection, flags](const char* seen) {
                               return stock<CreateXmlFlags>(Slot::network_create_xml_flags)(connection, seen, flags);
                           })
            .release();
    });
}

int destroy(virNetworkPtr network)
{
    return guarded(-1, [&] {
        const std::string name = name_of(network);
        auto place = module().networks.lock(name);
        const int result = stock<Destroy>(Slot::network_destroy)(network);
        if (result == 0) {
            place.set(nullptr);
            forget_status(name);
        }
        return result;
    });
}

char* get_xml_desc(virNetworkPtr network, unsigned flags)
{
    return guarded(static_cast<char*>(nullptr), [&] {
        const std::string name = name_of(network);
        Text xml = stock_xml(network, flags);
        const AsDaemon as_daemon;
        // The inactive XML of a network that is not persistent is its live XML.
        if (!xml ||
            (flags & VIR_NETWORK_XML_INACTIVE && stock<IsPersistent>(Slot::network_is_persistent)(network) != 0))
            return xml.release();
        const auto place = module().networks.lock(name);
        if (!place)
            return xml.release();
        auto bandwidth = parse_network(xml.get()).bandwidth;
        bandwidth.inbound = place->promises().limits();
        return copy(with_bandwidth(xml.get(), bandwidth));
    });
}

// The XML of a network that would start with a tree; nothing if it runs already, or wants none.
Text xml_to_start(virNetworkPtr network)
{
    const AsDaemon as_daemon;
    if (stock<IsActive>(Slot::network_is_active)(network) != 0)
        return {};
    Text xml = stock_xml(network, VIR_NETWORK_XML_INACTIVE);
    return xml && parse_network(xml.get()).wants_tree() ? std::move(xml) : Text();
}

// --- ports --------------------------------------------------------------------------------------

// Why a network gives no floors.
[[noreturn]] void refuse_floor(virNetworkPtr network, MacAddress mac, KilobytesPerSecond floor)
{
    const AsDaemon as_daemon;
    const std::string name = name_of(network);
    const Text xml = stock_xml(network, 0);
    if (!xml)
        throw Error(Refusal::system,
                    format(_("cannot read the XML of network '%s': %s"), name.c_str(), virGetLastErrorMessage()));
    if (const auto description = parse_network(xml.get()); !description.supports_floor())
        throw Error(Refusal::operation_unsupported,
                    format(_("cannot guarantee floor=%ju to interface %s: network '%s' has forward mode '%s', "
                             "and floor is only supported for nat, route, open and isolated networks"),
                           floor.count, mac.text().c_str(), name.c_str(), description.forward.c_str()));
    throw Error(Refusal::operation_unsupported,
                format(_("cannot guarantee floor=%ju to interface %s: network '%s' has no inbound QoS set; "
                         "give it <bandwidth><inbound average='…'/></bandwidth> and start it again"),
                       floor.count, mac.text().c_str(), name.c_str()));
}

// A network that could not be gone on with when the daemon started is tried again.
void need_tree(virNetworkPtr network, FlooredNetworks::Locked& place, MacAddress mac, KilobytesPerSecond floor)
{
    if (!place)
        recover_network(network, place);
    if (!place)
        refuse_floor(network, mac, floor);
}

PortHandle create_stock_port(virNetworkPtr network, const std::string& xml, unsigned flags)
{
    return PortHandle(stock<PortCreateXml>(Slot::network_port_create_xml)(network, xml.c_str(), flags));
}

// A guest that runs gets its port in any case: its floor too, if that is possible at all.
PortHandle reclaim_port(virNetworkPtr network, FlooredNetworks::Locked& place, const PortDescription& port,
                        const std::string& seen, unsigned flags)
{
    PortHandle created = create_stock_port(network, seen, flags);
    if (!created)
        return created;
    try {
        need_tree(network, place, port.mac, port.floor());
        if (!place->promises().find(port.uuid))
            place->reclaim(port.uuid, port.mac, port.floor(), port.class_id);
    } catch (const std::exception& error) {
        log(Severity::error, format(_("port %s of network '%s' comes back without its floor: %s"),
                                    port.uuid.text().c_str(), name_of(network).c_str(), error.what()));
    }
    return created;
}

PortHandle plug_port(virNetworkPtr network, FlooredNetworks::Locked& place, const PortDescription& port,
                     const std::string& seen, unsigned flags)
{
    try {
        if (place)
            place->promises().admit(port.mac, port.floor(), nullptr);
    } catch (const Error&) {
        // Who may not plug at all is told that, and nothing of the network.
        if (may_plug(network, port.uuid) == Verdict::refused)
            return {};
        place->count_refusal();
        throw;
    }
    PortHandle created = create_stock_port(network, seen, flags);
    if (!created)
        return created;
    try {
        need_tree(network, place, port.mac, port.floor());
        place->plug(port.uuid, port.mac, port.floor(), port.class_id);
    } catch (...) {
        const AsDaemon as_daemon;
        const std::string name = name_of(network);
        if (stock<PortDelete>(Slot::network_port_delete)(created.get(), 0) < 0)
            log(Severity::error, format(_("port %s of network '%s' has no floor and cannot be deleted: %s"),
                                        port.uuid.text().c_str(), name.c_str(), virGetLastErrorMessage()));
        throw;
    }
    return created;
}

virNetworkPortPtr port_create_xml(virNetworkPtr network, const char* xml, unsigned flags)
{
    return guarded(virNetworkPortPtr{}, [&] {
        const auto [port, seen] = split_port(xml, flags & VIR_NETWORK_PORT_CREATE_VALIDATE);
        if (!port.floor())
            return create_stock_port(network, seen, flags).release();
        auto place = module().networks.lock(name_of(network));
        const auto create = flags & VIR_NETWORK_PORT_CREATE_RECLAIM ? reclaim_port : plug_port;
        return create(network, place, port, seen, flags).release();
    });
}

char* port_get_xml_desc(virNetworkPortPtr port, unsigned flags)
{
    return guarded(static_cast<char*>(nullptr), [&] {
        const Uuid uuid = uuid_of(port);
        const std::string name = network_of(port);
        Text xml(stock<PortGetXmlDesc>(Slot::network_port_get_xml_desc)(port, flags));
        if (!xml)
            return xml.release();
        const auto place = module().networks.lock(name);
        const Port* floored = place ? place->promises().find(uuid) : nullptr;
        return floored ? copy(with_floor(xml.get(), floored->floor, floored->id)) : xml.release();
    });
}

int port_delete(virNetworkPortPtr port, unsigned flags)
{
    return guarded(-1, [&] {
        const Uuid uuid = uuid_of(port);
        auto place = module().networks.lock(network_of(port));
        const int result = stock<PortDelete>(Slot::network_port_delete)(port, flags);
        if (result == 0 && place && place->promises().find(uuid))
            place->forget(uuid);
        return result;
    });
}

MacAddress mac_of(virNetworkPortPtr port)
{
    const Text xml(stock<PortGetXmlDesc>(Slot::network_port_get_xml_desc)(port, 0));
    if (!xml)
        throw Error(Refusal::system, format(_("cannot read the XML of a network port: %s"), virGetLastErrorMessage()));
    return parse_port(xml.get()).mac;
}

// What the floor becomes; the port may have none before or after.
void set_floor(FlooredNetwork& network, const Uuid& uuid, MacAddress mac, KilobytesPerSecond floor)
{
    const Port* port = network.promises().find(uuid);
    if (port && floor && floor != port->floor)
        network.update(uuid, floor);
    else if (port && !floor)
        network.unplug(uuid);
    else if (!port && floor)
        network.plug(uuid, mac, floor, {});
}

// The port's address, and its parameters as they are; nothing, and the stock driver's error, if they
// cannot be had. Whether the caller may see them is not asked: it does not.
std::optional<MacAddress> before_change(virNetworkPortPtr port, const Port* floored, Parameters& parameters)
{
    const AsDaemon as_daemon;
    if (stock<PortGetParameters>(Slot::network_port_get_parameters)(port, parameters.list(), parameters.count(), 0) < 0)
        return {};
    return floored ? floored->mac : mac_of(port);
}

int port_set_parameters(virNetworkPortPtr port, virTypedParameterPtr parameters, int count, unsigned flags)
{
    return guarded(-1, [&] {
        const auto set_stock = stock<PortSetParameters>(Slot::network_port_set_parameters);
        auto [others, floor] = split_floor(parameters, count);
        const Uuid uuid = uuid_of(port);
        virNetworkPtr network = virNetworkPortGetNetwork(port);
        const std::string name = name_of(network);
        auto place = module().networks.lock(name);
        const Port* floored = place ? place->promises().find(uuid) : nullptr;
        const auto set_others = [&, &list = others] {
            return set_stock(port, list.data(), static_cast<int>(list.size()), flags);
        };
        if (!floored && !floor)
            return set_others();

        Parameters before;
        const auto mac = before_change(port, floored, before);
        if (!mac)
            return -1;
        try {
            need_tree(network, place, *mac, floor);
            if (floor)
                place->promises().admit(*mac, floor, place->promises().find(uuid));
        } catch (const Error&) {
            // As for a plug.
            if (may_tune(network, uuid) == Verdict::refused)
                return -1;
            if (place)
                place->count_refusal();
            throw;
        }
        if (set_others() < 0)
            return -1;
        const AsDaemon as_daemon;
        try {
            set_floor(*place.operator->(), uuid, *mac, floor);
        } catch (...) {
            auto old = split_floor(*before.list(), *before.count()).others;
            if (set_stock(port, old.data(), static_cast<int>(old.size()), flags) < 0)
                log(Severity::error, format(_("port %s of network '%s' cannot get its old limits back: %s"),
                                            uuid.text().c_str(), name.c_str(), virGetLastErrorMessage()));
            throw;
        }
        return 0;
    });
}

int port_get_parameters(virNetworkPortPtr port, virTypedParameterPtr* parameters, int* count, unsigned flags)
{
    return guarded(-1, [&] {
        const Uuid uuid = uuid_of(port);
        const std::string name = network_of(port);
        const int result = stock<PortGetParameters>(Slot::network_port_get_parameters)(port, parameters, count, flags);
        if (result < 0)
            return result;
        const auto place = module().networks.lock(name);
        if (const Port* floored = place ? place->promises().find(uuid) : nullptr)
            add_floor(parameters, count, floored->floor);
        return result;
    });
}

} // namespace

Module& module()
{
    static Module instance;
    return instance;
}

Text stock_xml(virNetworkPtr network, unsigned flags)
{
    return Text(stock<GetXmlDesc>(Slot::network_get_xml_desc)(network, flags));
}

Uuid uuid_of(virNetworkPortPtr port)
{
    Uuid uuid;
    virNetworkPortGetUUID(port, uuid.bytes.data());
    return uuid;
}

Network promises_of(const NetworkDescription& network, const Rate& limits)
{
    return {network.name, network.bridge, limits, network.mtu};
}

int start_network(virNetworkPtr network)
{
    return guarded(-1, [&] {
        const Text xml = xml_to_start(network);
        if (!xml)
            return stock<Create>(Slot::network_create)(network);
        const auto verdict = may_start(network);
        if (verdict == Verdict::refused)
            return -1;
        // The stock call that comes now needs the right to write, too.
        std::optional<AsDaemon> as_daemon;
        if (verdict == Verdict::allowed)
            as_daemon.emplace();
        int autostart = 0;
        stock<GetAutostart>(Slot::network_get_autostart)(network, &autostart);
        virConnectPtr connection = virNetworkGetConnect(network);
        const auto asked = parse_network(xml.get());
        const auto started = start_with_tree(asked, [&] {
            const std::string seen = without_inbound(xml.get());
            virNetworkPtr created = stock<CreateXml>(Slot::network_create_xml)(connection, seen.c_str());
            if (!created)
                define_again(connection, asked.name, xml.get(), autostart != 0);
            return created;
        });
        return started ? 0 : -1;
    });
}

void replace_functions(void** slots)
{
    const auto put = [slots](Slot slot, auto* function) {
        slots[static_cast<std::size_t>(slot)] = reinterpret_cast<void*>(function);
    };
    put(Slot::network_create_xml, create_xml);
    put(Slot::network_create_xml_flags, create_xml_flags);
    put(Slot::network_create, start_network);
    put(Slot::network_destroy, destroy);
    put(Slot::network_get_xml_desc, get_xml_desc);
    put(Slot::network_port_create_xml, port_create_xml);
    put(Slot::network_port_get_xml_desc, port_get_xml_desc);
    put(Slot::network_port_set_parameters, port_set_parameters);
    put(Slot::network_port_get_parameters, port_get_parameters);
    put(Slot::network_port_delete, port_delete);
}

} // namespace virfloor::plugin
