// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virfloor/network.h"

#include "virfloor/error.h"
#include "virfloor/text.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

namespace virfloor {

namespace {

__extension__ using Wide = unsigned __int128;

constexpr std::uint64_t tick_nanoseconds = 64;
constexpr std::uint64_t second_nanoseconds = 1'000'000'000;
constexpr Ticks max_ticks{std::numeric_limits<std::uint32_t>::max()};

constexpr Ticks milliseconds(std::uint64_t count) { return {count * 1'000'000 / tick_nanoseconds}; }

// A bucket holds what a class may send at once after it could not send: because it was idle, or because
// the processor was busy elsewhere, and what it does not hold of that is lost. 5 ms of the rate, but
// a megabyte from 200 MB/s on, as a guest's interface has room for 1000 frames; never below 1 ms.
constexpr Ticks usual_burst = milliseconds(5), least_burst = milliseconds(1);
constexpr Bytes roomy_burst{1'000'000};

// How long a class sends at its own rate to use up its turn of the surplus. A frame of 1514 bytes fits
// from 31 kB/s on, a packet of 64 KiB from 1.3 MB/s on.
constexpr std::uint64_t turns_per_second = 20;

constexpr Bytes ethernet_header{14};

constexpr BytesPerSecond least_reserve{1000};
constexpr BytesPerSecond most_reserve{125'000};
constexpr std::uint64_t reserve_part = 200;

} // namespace

Ticks transmit_time(Bytes size, BytesPerSecond rate)
{
    // As much as there is in practice takes the processor's own division.
    if (rate.count <= UINT64_MAX / tick_nanoseconds && size.count <= UINT32_MAX) {
        const std::uint64_t per_tick = rate.count * tick_nanoseconds;
        const std::uint64_t time = size.count * second_nanoseconds;
        return std::min(max_ticks, Ticks{time / per_tick + (time % per_tick != 0)});
    }
    const Wide per_tick = Wide{rate.count} * tick_nanoseconds;
    const Wide ticks = (Wide{size.count} * second_nanoseconds + per_tick - 1) / per_tick;
    return ticks > max_ticks.count ? max_ticks : Ticks{static_cast<std::uint64_t>(ticks)};
}

Network::Network(std::string name, std::string bridge, const Rate& limits, Bytes mtu, Direction direction)
    : name_(std::move(name)), bridge_(std::move(bridge)), limits_(limits), mtu_(mtu), direction_(direction)
{
    if (!limits.average)
        throw Error(Refusal::config_unsupported,
                    format(_("network '%s' needs an average above 0 to give floors"), name_.c_str()));
}

const Port* Network::find(const Uuid& uuid) const
{
    const auto at = ports_.find(uuid);
    return at == ports_.end() ? nullptr : &at->second;
}

BytesPerSecond Network::reserve() const
{
    return std::clamp(BytesPerSecond{in_bytes(limits_.average).count / reserve_part}, least_reserve, most_reserve);
}

BytesPerSecond Network::root_rate() const
{
    return std::max(in_bytes(limits_.average), in_bytes(floor_sum_) + reserve());
}

KilobytesPerSecond Network::limit() const { return limits_.peak ? limits_.peak : limits_.average; }

KilobytesPerSecond Network::floor_of(const Sharing& sharing, const Port* without) const
{
    KilobytesPerSecond largest;
    for (const Uuid& uuid : sharing.ports)
        if (!without || uuid != without->uuid)
            largest = std::max(largest, ports_.at(uuid).floor);
    return largest;
}

KilobytesPerSecond Network::room() const { return floor_sum_ < limit() ? limit() - floor_sum_ : KilobytesPerSecond{}; }

void Network::admit(MacAddress mac, KilobytesPerSecond floor, const Port* in_place_of) const
{
    const auto sharing = by_mac_.find(mac);
    KilobytesPerSecond before, after = floor;
    if (sharing != by_mac_.end()) {
        before = floor_of(sharing->second);
        after = std::max(after, floor_of(sharing->second, in_place_of));
    }
    const KilobytesPerSecond others = floor_sum_ - before;
    if (after > before && (others > limit() || after > limit() - others))
        throw Error(Refusal::operation_invalid,
                    format(_("cannot guarantee floor=%ju to interface %s on network '%s' (bridge %s): "
                             "combined inbound floor=%ju would overcommit %s=%ju"),
                           floor.count, mac.text().c_str(), name_.c_str(), bridge_.c_str(), (others + after).count,
                           limits_.peak ? "peak" : "average", limit().count));
}

const Port& Network::insert(const Uuid& uuid, MacAddress mac, KilobytesPerSecond floor,
                            std::optional<ClassId> preferred)
{
    if (!floor || ports_.contains(uuid))
        throw std::logic_error("port " + uuid.text() + " cannot be plugged as it is");
    auto sharing = by_mac_.find(mac);
    const KilobytesPerSecond before = sharing == by_mac_.end() ? KilobytesPerSecond{} : floor_of(sharing->second);
    const KilobytesPerSecond others = floor_sum_ - before, after = std::max(before, floor);
    if (others > max_rate || after > max_rate - others)
        throw Error(Refusal::operation_invalid,
                    format(_("floors on network '%s' add up to more than the kernel can count"), name_.c_str()));
    if (sharing == by_mac_.end()) {
        const auto id = preferred && ids_.take(*preferred) ? preferred : ids_.take();
        if (!id)
            throw Error(Refusal::operation_invalid,
                        format(_("cannot guarantee a floor to interface %s on network '%s' (bridge %s): "
                                 "all class IDs from %d to %d are taken"),
                               mac.text().c_str(), name_.c_str(), bridge_.c_str(), first_port_class.minor,
                               last_class.minor));
        sharing = by_mac_.emplace(mac, Sharing{*id, {}}).first;
    }
    floor_sum_ = others + after;
    sharing->second.ports.push_back(uuid);
    return ports_.emplace(uuid, Port{uuid, mac, sharing->second.id, floor}).first->second;
}

const Port& Network::plug(const Uuid& uuid, MacAddress mac, KilobytesPerSecond floor, std::optional<ClassId> preferred)
{
    admit(mac, floor, nullptr);
    return insert(uuid, mac, floor, preferred);
}

const Port& Network::restore(const Uuid& uuid, MacAddress mac, KilobytesPerSecond floor,
                             std::optional<ClassId> preferred)
{
    return insert(uuid, mac, floor, preferred);
}

const Port& Network::update(const Uuid& uuid, KilobytesPerSecond floor)
{
    const Port& port = ports_.at(uuid);
    admit(port.mac, floor, &port);
    return set_floor(uuid, floor);
}

const Port& Network::set_floor(const Uuid& uuid, KilobytesPerSecond floor)
{
    Port& port = ports_.at(uuid);
    const Sharing& sharing = by_mac_.at(port.mac);
    floor_sum_ -= floor_of(sharing);
    port.floor = floor;
    floor_sum_ += floor_of(sharing);
    return port;
}

void Network::unplug(const Uuid& uuid)
{
    const auto port = ports_.find(uuid);
    const auto sharing = by_mac_.find(port->second.mac);
    floor_sum_ -= floor_of(sharing->second);
    std::erase(sharing->second.ports, uuid);
    floor_sum_ += floor_of(sharing->second);
    if (sharing->second.ports.empty()) {
        ids_.release(sharing->second.id);
        by_mac_.erase(sharing);
    }
    ports_.erase(port);
}

Class Network::make_class(ClassId id, std::optional<ClassId> parent, BytesPerSecond rate) const
{
    const Bytes frame = mtu_ + ethernet_header;
    const BytesPerSecond ceil = std::max(in_bytes(limit()), rate);
    const auto bucket = [frame](BytesPerSecond at) {
        const Ticks burst = std::clamp(transmit_time(roomy_burst, at), least_burst, usual_burst);
        return std::max(burst, transmit_time(frame, at));
    };
    const std::uint64_t least_quantum = std::min<std::uint64_t>(frame.count, max_quantum);
    const auto quantum = std::clamp<std::uint64_t>(rate.count / turns_per_second, least_quantum, max_quantum);
    return {.id = id,
            .parent = parent,
            .shape = {rate, ceil, bucket(rate), bucket(ceil), static_cast<std::uint32_t>(quantum)}};
}

Tree Network::trunk() const
{
    Tree tree;
    tree.root = tree.filters = true;
    Class root = make_class(root_class, {}, root_rate());
    root.inner = true;
    if (limits_.burst) {
        root.shape.burst = transmit_time(in_bytes(limits_.burst), root.shape.rate);
        if (!limits_.peak)
            root.shape.cburst = root.shape.burst;
    }
    tree.classes.emplace(root.id, root);
    tree.classes.emplace(catchment_class, make_class(catchment_class, root_class, root_rate() - in_bytes(floor_sum_)));
    return tree;
}

void Network::add_branch(Tree& tree, MacAddress mac, const Sharing& sharing) const
{
    tree.classes.emplace(sharing.id, make_class(sharing.id, root_class, in_bytes(floor_of(sharing))));
    tree.steering.emplace(mac, sharing.id);
}

Tree Network::tree() const
{
    Tree tree = trunk();
    for (const auto& [mac, sharing] : by_mac_)
        add_branch(tree, mac, sharing);
    return tree;
}

Tree Network::branch(MacAddress mac) const
{
    Tree tree = trunk();
    if (const auto sharing = by_mac_.find(mac); sharing != by_mac_.end())
        add_branch(tree, mac, sharing->second);
    return tree;
}

} // namespace virfloor
