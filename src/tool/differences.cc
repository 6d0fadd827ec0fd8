// SPDX-License-Identifier: LGPL-2.1-or-later
#include "differences.h"

#include "output.h"
#include "virfloor/text.h"

#include <algorithm>
#include <map>
#include <set>

namespace virfloor::tool {

namespace {

std::string rate_text(KilobytesPerSecond rate) { return kilobytes_text(in_bytes(rate)); }

class Comparison {
public:
    explicit Comparison(const NetworkEvidence& evidence) : evidence_(evidence)
    {
        for (const DomainPort& at : evidence.remembered)
            domains_[at.mac] = at.domain;
        for (const Wish& wish : evidence.wishes)
            domains_[wish.mac] = wish.domain;
    }

    std::vector<Difference> found()
    {
        compare_domains();
        compare_domain_status();
        compare_status();
        if (const auto network = promised(evidence_))
            compare_kernel(*network);
        return std::move(found_);
    }

private:
    void say(Place place, std::string text) { found_.push_back({evidence_.name, place, std::move(text)}); }

    // "guest (52:54:00:12:34:56)", or the address alone.
    std::string owner(MacAddress mac) const
    {
        const auto at = domains_.find(mac);
        if (at == domains_.end() || at->second.empty())
            return mac.text();
        return format("%s (%s)", at->second.c_str(), mac.text().c_str());
    }

    const Interface* live_port(const Uuid& uuid) const
    {
        if (!evidence_.live)
            return nullptr;
        const auto at = std::ranges::find(evidence_.live->interfaces, uuid, &Interface::port);
        return at == evidence_.live->interfaces.end() ? nullptr : &*at;
    }

    const Port* saved_port(const Uuid& uuid) const
    {
        if (!evidence_.saved)
            return nullptr;
        const auto at = std::ranges::find(evidence_.saved->ports, uuid, &Port::uuid);
        return at == evidence_.saved->ports.end() ? nullptr : &*at;
    }

    // Domains against libvirt's ports.
    void compare_domains()
    {
        if (!evidence_.live || !evidence_.live->floored)
            return;
        for (const Wish& wish : evidence_.wishes) {
            const Interface* port = live_port(wish.port);
            const std::string mac = wish.mac.text();
            if (!port && wish.floor)
                say(Place::domain, format(_("domain '%s' asks for %s kB/s on %s; libvirt has no port for it"),
                                          wish.domain.c_str(), rate_text(wish.floor).c_str(), mac.c_str()));
            else if (port && port->floor != wish.floor)
                say(Place::domain,
                    format(_("domain '%s' asks for %s kB/s on %s; its port has %s kB/s"), wish.domain.c_str(),
                           rate_text(wish.floor).c_str(), mac.c_str(), rate_text(port->floor).c_str()));
        }
    }

    // What the domains' drivers wrote down, against what libvirt tells, or else against our status file.
    void compare_domain_status()
    {
        for (const DomainPort& at : evidence_.remembered) {
            const auto wish = std::ranges::find(evidence_.wishes, at.uuid, &Wish::port);
            const Port* saved = saved_port(at.uuid);
            const char* domain = at.domain.c_str();
            const std::string mac = at.mac.text(), floor = rate_text(at.floor);
            if (wish != evidence_.wishes.end()) {
                if (wish->floor != at.floor)
                    say(Place::domain,
                        format(_("the status of domain '%s' names a floor of %s kB/s for %s; libvirt tells of %s kB/s"),
                               domain, floor.c_str(), mac.c_str(), rate_text(wish->floor).c_str()));
            } else if (!evidence_.asked && evidence_.saved && (!saved || saved->floor != at.floor)) {
                say(Place::domain,
                    format(_("the status of domain '%s' names a floor of %s kB/s for %s; the status file has %s kB/s"),
                           domain, floor.c_str(), mac.c_str(),
                           rate_text(saved ? saved->floor : KilobytesPerSecond{}).c_str()));
            }
            if (saved && at.id && *at.id != saved->id)
                say(Place::domain,
                    format(_("the status of domain '%s' names class %s for %s; the status file names class %s"), domain,
                           class_text(*at.id).c_str(), mac.c_str(), class_text(saved->id).c_str()));
        }
    }

    void compare_status()
    {
        if (!evidence_.knows_status)
            return;
        if (evidence_.damage)
            return say(Place::status, format(_("its status file cannot be trusted: %s"), evidence_.damage->c_str()));
        if (!evidence_.saved)
            return say_missing();
        if (evidence_.asked && !evidence_.live)
            return say(Place::status, _("it has a status file, but does not run"));
        compare_condition();
        compare_bridge();
        if (!evidence_.live)
            return;
        compare_limits();
        compare_ports();
    }

    void say_missing()
    {
        const bool floored = evidence_.live ? evidence_.live->floored : !evidence_.remembered.empty();
        if (!floored)
            return;
        const auto& daemon = evidence_.daemon;
        if (daemon && daemon->module == Daemon::Module::missing)
            say(Place::status,
                format(_("%s (process %d) runs without libvirt-floor, and nobody looks after its floors"),
                       daemon->name.c_str(), daemon->pid));
        else if (daemon && daemon->module == Daemon::Module::loaded)
            say(Place::status,
                format(_("it may give floors, but has no status file; the log of %s (process %d) says why"),
                       daemon->name.c_str(), daemon->pid));
        else
            say(Place::status, _("it may give floors, but has no status file: libvirt-floor does not look after it"));
    }

    void compare_condition()
    {
        switch (evidence_.saved->condition) {
        case Condition::kept: break;
        case Condition::contested:
            say(Place::status, format(_("the status file says contested: others change the tree on bridge %s again "
                                        "and again, and it is put right ever more rarely"),
                                      evidence_.saved->bridge.c_str()));
            break;
        case Condition::broken:
            say(Place::status, format(_("the status file says broken: the tree on bridge %s could not be put right, "
                                        "and the daemon's log says why"),
                                      evidence_.saved->bridge.c_str()));
            break;
        case Condition::absent:
            say(Place::status, format(_("the status file says absent: there was no bridge %s, and the floors wait "
                                        "until there is one"),
                                      evidence_.saved->bridge.c_str()));
            break;
        }
    }

    void compare_bridge()
    {
        const SavedNetwork& saved = *evidence_.saved;
        if (evidence_.live && evidence_.live->bridge != saved.bridge)
            say(Place::status, format(_("its bridge is %s; the status file names %s"), evidence_.live->bridge.c_str(),
                                      saved.bridge.c_str()));
        else if (evidence_.ifindex != no_ifindex && evidence_.ifindex != saved.ifindex)
            say(Place::status,
                format(_("its bridge %s has the interface index %d; the status file is of one with index %d"),
                       saved.bridge.c_str(), evidence_.ifindex, saved.ifindex));
    }

    void compare_limits()
    {
        const Rate &live = evidence_.live->limits, &saved = evidence_.saved->limits;
        const auto compare = [&](KilobytesPerSecond is, KilobytesPerSecond said, const char* what) {
            if (is != said)
                say(Place::status, format(_("its inbound %s is %s kB/s; the status file says %s kB/s"), what,
                                          rate_text(is).c_str(), rate_text(said).c_str()));
        };
        compare(live.average, saved.average, "average");
        compare(live.peak, saved.peak, "peak");
    }

    void compare_ports()
    {
        for (const Interface& port : evidence_.live->interfaces)
            if (port.floor)
                compare_port(port, saved_port(port.port));
        for (const Port& saved : evidence_.saved->ports) {
            const Interface* port = live_port(saved.uuid);
            if (!port || !port->floor)
                say(Place::status, format(_("the status file names a floor of %s kB/s for %s; libvirt has %s"),
                                          rate_text(saved.floor).c_str(), owner(saved.mac).c_str(),
                                          port ? _("its port without a floor") : _("no such port")));
        }
    }

    void compare_port(const Interface& port, const Port* saved)
    {
        const std::string who = owner(port.mac), floor = rate_text(port.floor);
        if (!saved)
            say(Place::status, format(_("the port of %s has a floor of %s kB/s; the status file does not name it"),
                                      who.c_str(), floor.c_str()));
        else if (saved->floor != port.floor)
            say(Place::status, format(_("the port of %s has a floor of %s kB/s; the status file says %s kB/s"),
                                      who.c_str(), floor.c_str(), rate_text(saved->floor).c_str()));
        else if (saved->mac != port.mac)
            say(Place::status, format(_("the port of %s has that address; the status file says %s"), who.c_str(),
                                      saved->mac.text().c_str()));
        else if (saved->id != port.id)
            say(Place::status, format(_("the port of %s has class %s; the status file says %s"), who.c_str(),
                                      port.id ? class_text(*port.id).c_str() : "-", class_text(saved->id).c_str()));
    }

    void compare_kernel(const Network& network)
    {
        if (!evidence_.tree) {
            say(Place::kernel, format(_("there is no bridge %s"), network.bridge().c_str()));
            return;
        }
        const Tree& have = *evidence_.tree;
        want_ = network.tree();
        want_.leaf = have.leaf;
        bridge_ = network.bridge();
        if (!have.root) {
            say(Place::kernel, format(_("bridge %s has no tree: its root qdisc is not htb 1: with the default class "
                                        "of libvirt-floor"),
                                      bridge_.c_str()));
            return;
        }
        const Change change = difference(have, want_);
        for (const Step& step : change)
            std::visit([this](const auto& each) { note(each); }, step);
        if (!have.filters)
            say(Place::kernel,
                format(_("bridge %s lacks the filters that lead addresses to classes"), bridge_.c_str()));
        else
            compare_steering();
        compare_classes();
        compare_early_filters(have);
    }

    // Steps that belong together are gathered first.
    void note(const AddRoot&) {}
    void note(const AddFilters&) {}
    void note(const AddClass& step) { added_.emplace(step.added.id, step.added); }
    void note(const RemoveClass& step) { removed_.emplace(step.removed.id, step.removed); }
    void note(const ChangeClass& step) { changed_.emplace(step.to.id, step); }
    void note(const AddSteering& step) { to_be_led_[step.mac] = step.target; }
    void note(const RemoveSteering& step) { led_[step.mac] = step.target; }
    void note(const ReplaceLeaf& step)
    {
        say(Place::kernel, format(_("%s has a queue that is not as it should be"), class_name(step.of).c_str()));
    }
    void note(const RemoveForeign& step)
    {
        say(Place::kernel,
            format(_("a filter that stands in the way is on bridge %s: preference %u, kind %s, handle %x"),
                   bridge_.c_str(), unsigned{step.removed.preference}, step.removed.kind.c_str(), step.removed.handle));
        foreign_.insert(step.removed.handle);
    }

    std::string class_name(ClassId id) const
    {
        const std::string text = class_text(id);
        if (id == root_class)
            return format(_("class %s, the root,"), text.c_str());
        if (id == catchment_class)
            return format(_("class %s, the catchment,"), text.c_str());
        for (const auto& [mac, target] : want_.steering)
            if (target == id)
                return format(_("class %s of %s"), text.c_str(), owner(mac).c_str());
        return format(_("class %s"), text.c_str());
    }

    void compare_steering()
    {
        for (const auto& [mac, target] : to_be_led_) {
            const auto from = led_.find(mac);
            if (from == led_.end())
                say(Place::kernel, format(_("the kernel has no filter that leads %s to class %s"), owner(mac).c_str(),
                                          class_text(target).c_str()));
            else if (from->second != target)
                say(Place::kernel,
                    format(_("a filter of the kernel leads %s to class %s; it should lead to class %s"),
                           owner(mac).c_str(), class_text(from->second).c_str(), class_text(target).c_str()));
        }
        for (const auto& [mac, target] : led_)
            if (!to_be_led_.contains(mac))
                say(Place::kernel, format(_("a filter of the kernel leads %s to class %s; the address has no floor"),
                                          owner(mac).c_str(), class_text(target).c_str()));
    }

    void compare_classes()
    {
        for (const auto& [id, added] : added_)
            if (removed_.contains(id))
                say(Place::kernel, format(_("%s hangs in the wrong place of the tree"), class_name(id).c_str()));
            else
                say(Place::kernel, format(_("the kernel lacks %s with its rate of %s kB/s"), class_name(id).c_str(),
                                          kilobytes_text(added.shape.rate).c_str()));
        for (const auto& [id, removed] : removed_)
            if (!added_.contains(id))
                say(Place::kernel, format(_("the kernel has a class %s with a rate of %s kB/s, which nobody has a "
                                            "promise of"),
                                          class_text(id).c_str(), kilobytes_text(removed.shape.rate).c_str()));
        for (const auto& [id, change] : changed_)
            say(Place::kernel, shape_text(id, change.from.shape, change.to.shape));
    }

    std::string shape_text(ClassId id, const Shape& is, const Shape& to_be) const
    {
        const std::string name = class_name(id);
        if (is.rate != to_be.rate)
            return format(id < first_port_class ? _("%s has a rate of %s kB/s; it should be %s kB/s")
                                                : _("%s has a rate of %s kB/s; its floor is %s kB/s"),
                          name.c_str(), kilobytes_text(is.rate).c_str(), kilobytes_text(to_be.rate).c_str());
        if (is.ceil != to_be.ceil)
            return format(_("%s has a ceiling of %s kB/s; it should be %s kB/s"), name.c_str(),
                          kilobytes_text(is.ceil).c_str(), kilobytes_text(to_be.ceil).c_str());
        if (is.quantum != to_be.quantum && is.burst == to_be.burst && is.cburst == to_be.cburst)
            return format(_("%s has a quantum of %u bytes; it should be %u bytes"), name.c_str(), is.quantum,
                          to_be.quantum);
        return format(_("%s has bursts that do not go with its rate and its ceiling"), name.c_str());
    }

    // Filters of others that are asked before ours.
    void compare_early_filters(const Tree& have)
    {
        for (const ForeignFilter& filter : have.foreign) {
            if (filter.preference >= our_preference || !filter.mac || foreign_.contains(filter.handle))
                continue;
            const auto wanted = want_.steering.find(*filter.mac);
            if (wanted == want_.steering.end() || filter.target == wanted->second)
                continue;
            say(Place::kernel,
                format(
                    _("a filter of others on bridge %s (preference %u, kind %s) comes before ours and takes %s to "
                      "%s instead of class %s"),
                    bridge_.c_str(), unsigned{filter.preference}, filter.kind.c_str(), owner(*filter.mac).c_str(),
                    (filter.target ? format(_("class %s"), class_text(*filter.target).c_str()) : _("no class")).c_str(),
                    class_text(wanted->second).c_str()));
        }
    }

    const NetworkEvidence& evidence_;
    std::map<MacAddress, std::string> domains_;
    std::vector<Difference> found_;
    Tree want_;
    std::string bridge_;
    std::map<ClassId, Class> added_, removed_;
    std::map<ClassId, ChangeClass> changed_;
    std::map<MacAddress, ClassId> led_, to_be_led_;
    std::set<std::uint32_t> foreign_; // handles of filters that were spoken of
};

} // namespace

std::string sentence(const Difference& difference)
{
    return format(_("network '%s': %s"), difference.network.c_str(), difference.text.c_str());
}

std::vector<Difference> differences(const NetworkEvidence& evidence) { return Comparison(evidence).found(); }

Network promises(const SavedNetwork& saved)
{
    Network network(saved.name, saved.bridge, saved.limits, saved.mtu);
    for (const Port& port : saved.ports)
        network.restore(port.uuid, port.mac, port.floor, port.id);
    return network;
}

std::optional<Network> promised(const NetworkEvidence& evidence)
{
    if (evidence.knows_status && !evidence.saved && !evidence.damage)
        return {};
    if (evidence.live)
        return evidence.live->floored ? std::optional(promises(*evidence.live)) : std::nullopt;
    if (evidence.saved && !evidence.asked)
        return promises(*evidence.saved);
    return {};
}

} // namespace virfloor::tool
