// SPDX-License-Identifier: LGPL-2.1-or-later
#include "recovery.h"

#include "config.h"
#include "libvirt_internals.h"
#include "network_driver.h"
#include "virfloor/error.h"
#include "virfloor/log.h"
#include "virfloor/port_xml.h"
#include "virfloor/text.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <set>
#include <span>
#include <stdexcept>
#include <vector>

namespace virfloor::plugin {

namespace {

using Clock = std::chrono::steady_clock;

struct ConnectionDeleter {
    void operator()(virConnectPtr connection) const { virConnectClose(connection); }
};
using Connection = std::unique_ptr<virConnect, ConnectionDeleter>;

// Takes over a list that libvirt made, and its objects.
template <class Handle, class Pointer>
std::vector<Handle> own(Pointer* list, int count)
{
    std::vector<Handle> handles;
    for (Pointer object : std::span(list, static_cast<std::size_t>(std::max(count, 0))))
        handles.emplace_back(object);
    std::free(list);
    if (count < 0)
        throw std::runtime_error(virGetLastErrorMessage());
    return handles;
}

std::vector<NetworkHandle> list_networks(virConnectPtr connection, unsigned flags)
{
    virNetworkPtr* list = nullptr;
    const int count = module().stock.get<ListAllNetworks>(Slot::connect_list_all_networks)(connection, &list, flags);
    return own<NetworkHandle>(list, count);
}

std::vector<PortHandle> list_ports(virNetworkPtr network)
{
    virNetworkPortPtr* list = nullptr;
    const int count = module().stock.get<ListAllPorts>(Slot::network_list_all_ports)(network, &list, 0);
    return own<PortHandle>(list, count);
}

// failed: a format of the network's name, and of the reason.
void for_each(const std::vector<NetworkHandle>& networks, const char* failed,
              const std::function<void(virNetworkPtr, const std::string&)>& function)
{
    for (const auto& network : networks) {
        const std::string name = virNetworkGetName(network.get());
        try {
            function(network.get(), name);
        } catch (const std::exception& error) {
            log(Severity::error, format(failed, name.c_str(), error.what()));
        }
    }
}

// What the domain drivers wrote down, read when it is first asked for.
class Domains {
public:
    // The port that a running domain has with a floor on this network.
    const DomainPort* find(const std::string& network, const Uuid& uuid)
    {
        const auto& ports = all();
        const auto at = std::find_if(ports.begin(), ports.end(), [&](const DomainPort& port) {
            return port.network == network && port.uuid == uuid;
        });
        return at == ports.end() ? nullptr : &*at;
    }

    bool have_floors_on(const std::string& network)
    {
        const auto& ports = all();
        return std::any_of(ports.begin(), ports.end(), [&](const DomainPort& port) { return port.network == network; });
    }

private:
    const std::vector<DomainPort>& all()
    {
        if (!ports_)
            ports_ = read_domain_status(LIBVIRT_STATE_DIR);
        return *ports_;
    }

    std::optional<std::vector<DomainPort>> ports_;
};

// One network's way back.
class Recovery {
public:
    Recovery(virNetworkPtr network, NetworkDescription live, Domains& domains)
        : network_(network), live_(std::move(live)), domains_(domains), ifindex_(tc::find_device(live_.bridge)),
          tree_(module().netlink, live_.bridge, Direction::inbound)
    {
    }

    // Nothing if the network never had a tree.
    std::unique_ptr<FlooredNetwork> recover()
    {
        load_status();
        const auto limits = find_limits();
        if (!limits)
            return nullptr;
        Network promises = promises_of(live_, *limits);
        for (const auto& port : list_ports(network_))
            recover_port(promises, port.get());
        auto network = std::make_unique<FlooredNetwork>(std::move(promises), std::move(tree_), *module().status);
        if (saved_)
            network->go_on_from(*saved_);
        return network;
    }

private:
    void load_status()
    {
        try {
            saved_ = module().status->load(live_.name);
            if (saved_ && saved_->ifindex != no_ifindex && saved_->ifindex != ifindex_) {
                log(Severity::warning,
                    format(_("network '%s' was started anew meanwhile; its old status goes"), live_.name.c_str()));
                saved_.reset();
            }
        } catch (const Error& error) {
            log(Severity::error, format(_("status file cannot be trusted: %s"), error.what()));
            set_aside();
        }
    }

    void set_aside() const
    {
        try {
            const auto aside = module().status->set_aside(live_.name);
            log(Severity::error,
                format(_("the status file of network '%s' is kept as %s"), live_.name.c_str(), aside.c_str()));
        } catch (const Error& error) {
            log(Severity::error, error.what());
        }
    }

    std::optional<Rate> find_limits()
    {
        // Where the stock driver knows of limits, it was the one that started the network.
        if (live_.wants_tree())
            return live_.bandwidth.inbound;
        if (saved_)
            return saved_->limits;
        const Tree& have = in_kernel();
        const auto root = have.classes.find(root_class);
        const bool has_tree = have.root && root != have.classes.end();
        if (!has_tree && !domains_.have_floors_on(live_.name))
            return {};
        // A network that only runs has no other XML than the live one.
        if (const Text xml = stock_xml(network_, VIR_NETWORK_XML_INACTIVE))
            if (const auto inactive = parse_network(xml.get()); inactive.wants_tree())
                return inactive.bandwidth.inbound;
        if (!has_tree)
            throw Error(Refusal::operation_invalid,
                        _("its guests have floors, but its bandwidth is nowhere to be found"));
        return limits_of(root->second.shape);
    }

    static Rate limits_of(const Shape& root)
    {
        Rate limits;
        limits.average = {std::max<std::uint64_t>(root.rate.count / 1000, 1)};
        if (root.ceil > root.rate)
            limits.peak = {root.ceil.count / 1000};
        return limits;
    }

    void recover_port(Network& promises, virNetworkPortPtr handle)
    {
        const Uuid uuid = uuid_of(handle);
        const auto port = find_port(uuid, handle);
        if (!port)
            return;
        try {
            promises.restore(uuid, port->mac, port->floor, port->id);
        } catch (const std::exception& error) {
            log(Severity::error, format(_("network '%s': the floor of port %s is lost: %s"), live_.name.c_str(),
                                        uuid.text().c_str(), error.what()));
        }
    }

    std::optional<DomainPort> find_port(const Uuid& uuid, virNetworkPortPtr handle)
    {
        if (saved_) {
            const auto at = std::find_if(saved_->ports.begin(), saved_->ports.end(),
                                         [&](const Port& port) { return port.uuid == uuid; });
            if (at != saved_->ports.end())
                return DomainPort{live_.name, uuid, at->mac, at->floor, at->id};
        }
        if (const DomainPort* port = domains_.find(live_.name, uuid)) {
            DomainPort found = *port;
            if (!found.id)
                found.id = class_in_kernel(found.mac);
            return found;
        }
        const Text xml(module().stock.get<PortGetXmlDesc>(Slot::network_port_get_xml_desc)(handle, 0));
        if (!xml)
            return {};
        const auto port = parse_port(xml.get());
        // The stock driver still keeps it itself, because it could not be taken over.
        if (port.floor())
            return DomainPort{live_.name, uuid, port.mac, port.floor(), port.class_id};
        return saved_ ? std::nullopt : port_in_kernel(uuid, port.mac);
    }

    // Where nobody has written it down, the class itself says what was promised.
    std::optional<DomainPort> port_in_kernel(const Uuid& uuid, MacAddress mac)
    {
        const auto id = class_in_kernel(mac);
        const auto found = id ? in_kernel().classes.find(*id) : in_kernel().classes.end();
        if (found == in_kernel().classes.end() || *id < first_port_class)
            return {};
        const KilobytesPerSecond floor{found->second.shape.rate.count / 1000};
        if (!floor)
            return {};
        return DomainPort{live_.name, uuid, mac, floor, id};
    }

    std::optional<ClassId> class_in_kernel(MacAddress mac)
    {
        const Tree& have = in_kernel();
        const auto at = have.steering.find(mac);
        return at == have.steering.end() ? std::nullopt : std::optional(at->second);
    }

    // Read when it is first asked for: a network whose status is there needs it once only, to be
    // put right.
    const Tree& in_kernel()
    {
        if (!have_)
            have_ = tree_.read();
        return *have_;
    }

    virNetworkPtr network_;
    NetworkDescription live_;
    Domains& domains_;
    int ifindex_;
    tc::DeviceTree tree_;
    std::optional<Tree> have_;
    std::optional<SavedNetwork> saved_;
};

void reconcile(FlooredNetworks::Locked& place, Clock::time_point start)
{
    try {
        place->write_down();
    } catch (const Error& error) {
        // Tried again later; the floors come first.
        log(Severity::error, error.what());
    }
    const std::size_t steps = place->reconcile();
    place->begin_anew(Clock::now());
    const Network& promises = place->promises();
    log(Severity::info,
        format(_("network '%s': %zu floors of %ju kB/s in all on bridge %s, %zu changes made in %jd ms"),
               promises.name().c_str(), promises.ports().size(), promises.floor_sum().count, promises.bridge().c_str(),
               steps,
               std::intmax_t{std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start).count()}));
}

void go_on_with(virNetworkPtr network, FlooredNetworks::Locked& place, Domains& domains)
{
    const auto start = Clock::now();
    if (!place) {
        const Text xml = stock_xml(network, 0);
        if (!xml)
            throw std::runtime_error(virGetLastErrorMessage());
        const auto live = parse_network(xml.get());
        if (!live.supports_floor())
            return;
        place.set(Recovery(network, live, domains).recover());
    }
    if (place)
        reconcile(place, start);
}

void forget_networks_but(const std::set<std::string>& active)
{
    for (const auto& name : module().networks.names())
        if (!active.contains(name))
            module().networks.lock(name).set(nullptr);
    for (const auto& name : module().status->networks())
        if (!active.contains(name)) {
            log(Severity::info, format(_("network '%s' does not run any more; its status goes"), name.c_str()));
            module().status->remove(name);
        }
}

void start_what_stock_could_not(virConnectPtr connection)
{
    const auto missed =
        list_networks(connection, VIR_CONNECT_LIST_NETWORKS_INACTIVE | VIR_CONNECT_LIST_NETWORKS_PERSISTENT |
                                      VIR_CONNECT_LIST_NETWORKS_AUTOSTART);
    for_each(missed, _("cannot start network '%s': %s"), [](virNetworkPtr network, const std::string&) {
        const Text xml = stock_xml(network, VIR_NETWORK_XML_INACTIVE);
        if (xml && parse_network(xml.get()).wants_tree() && start_network(network) < 0)
            throw std::runtime_error(virGetLastErrorMessage());
    });
}

void go_on(bool with_autostart)
{
    const AsDaemon as_daemon;
    const Connection connection(virConnectOpen("network:///system"));
    if (!connection)
        throw std::runtime_error(format(_("cannot list the networks: %s"), virGetLastErrorMessage()));
    const auto active = list_networks(connection.get(), VIR_CONNECT_LIST_NETWORKS_ACTIVE);
    std::set<std::string> names;
    for (const auto& network : active)
        names.insert(virNetworkGetName(network.get()));
    Domains domains;
    for_each(active, _("cannot go on with network '%s': %s"), [&](virNetworkPtr network, const std::string& name) {
        auto place = module().networks.lock(name);
        go_on_with(network, place, domains);
    });
    forget_networks_but(names);
    if (with_autostart)
        start_what_stock_could_not(connection.get());
}

} // namespace

void recover_networks() { go_on(module().stock_autostarts); }

void reload_networks() { go_on(true); }

void recover_network(virNetworkPtr network, FlooredNetworks::Locked& place)
{
    const AsDaemon as_daemon;
    Domains domains;
    try {
        go_on_with(network, place, domains);
    } catch (const std::exception& error) {
        log(Severity::error, format(_("cannot go on with network '%s': %s"), virNetworkGetName(network), error.what()));
    }
}

} // namespace virfloor::plugin
