// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The promises of one network in one direction, as a plain value: limits, ports with their floors
// and class IDs, and the tree that keeps them.
//
// Ports with the same MAC address share one class, as the frames to them cannot be told apart; it has
// the largest of their floors. (The QEMU driver plugs the new port of an updated interface before it
// unplugs the old one.)
//
// Invariants: 1. ports share a class ID if and only if they share a MAC address; 2. floor_sum() is
// the sum of the classes' floors; 3. a refused call changes nothing.
// Not thread-safe; the owner's lock covers it.
#pragma once

#include "virfloor/bandwidth.h"
#include "virfloor/class_id_allocator.h"
#include "virfloor/identity.h"
#include "virfloor/tree.h"
#include "virfloor/units.h"

#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace virfloor {

// Seen from the guests: inbound is what they receive, looked up by destination address.
enum class Direction { inbound, outbound };

struct Port {
    Uuid uuid;
    MacAddress mac;
    ClassId id;
    KilobytesPerSecond floor;

    bool operator==(const Port&) const = default;
};

// The most that a full queue of the kernel sends for one class before the next has its turn: HTB adds
// quanta up in 32 bits with a sign. (It warns of those above 200000 only where it chose them itself.)
inline constexpr std::uint32_t max_quantum = std::uint32_t{1} << 28;

class Network {
public:
    // limits: the network's <inbound>; mtu: of its bridge. Throws Error(config_unsupported) if the
    // average is 0.
    Network(std::string name, std::string bridge, const Rate& limits, Bytes mtu,
            Direction direction = Direction::inbound);

    const std::string& name() const { return name_; }
    const std::string& bridge() const { return bridge_; }
    const Rate& limits() const { return limits_; }
    Bytes mtu() const { return mtu_; }
    Direction direction() const { return direction_; }
    KilobytesPerSecond floor_sum() const { return floor_sum_; }
    const std::unordered_map<Uuid, Port>& ports() const { return ports_; }
    const Port* find(const Uuid& uuid) const;

    // What floors may add up to: peak, or average where there is none.
    KilobytesPerSecond limit() const;
    // The largest floor that would still be admitted; 0 also where guests that ran before have floors beyond the limit.
    KilobytesPerSecond room() const;
    // What unfloored guests keep when the floors add up to the limit, for ARP and DHCP: one part in
    // 200 of the average, at least 1000 and at most 125000 bytes a second.
    BytesPerSecond reserve() const;

    // Takes a class ID, `preferred` if it is a port's and free, and promises the floor (> 0).
    // Throws Error(operation_invalid) when the floors would add up to more than peak (or average)
    // or when all IDs are taken.
    const Port& plug(const Uuid& uuid, MacAddress mac, KilobytesPerSecond floor, std::optional<ClassId> preferred = {});
    // As plug, but bound to keep what was promised before: takes floors beyond the limit as well.
    const Port& restore(const Uuid& uuid, MacAddress mac, KilobytesPerSecond floor, std::optional<ClassId> preferred);
    // Another floor (> 0) for a port that is there. Throws as plug.
    const Port& update(const Uuid& uuid, KilobytesPerSecond floor);
    // As update, but bound to keep what was promised before: whatever the limit.
    const Port& set_floor(const Uuid& uuid, KilobytesPerSecond floor);
    // The port is forgotten, its ID free. It must be there.
    void unplug(const Uuid& uuid);

    // Throws if plug, or update of the port given, would be refused for the sum of the floors.
    void admit(MacAddress mac, KilobytesPerSecond floor, const Port* in_place_of) const;

    Tree tree() const;
    // The part of the tree that a change of ports with this address concerns: root, catchment, and
    // the ports' class if there are any.
    Tree branch(MacAddress mac) const;

private:
    // The ports of one address.
    struct Sharing {
        ClassId id;
        std::vector<Uuid> ports;
    };

    Tree trunk() const;
    void add_branch(Tree& tree, MacAddress mac, const Sharing& sharing) const;
    // The largest floor of the ports, but for one that does not count.
    KilobytesPerSecond floor_of(const Sharing& sharing, const Port* without = nullptr) const;
    const Port& insert(const Uuid& uuid, MacAddress mac, KilobytesPerSecond floor, std::optional<ClassId> preferred);
    Class make_class(ClassId id, std::optional<ClassId> parent, BytesPerSecond rate) const;
    BytesPerSecond root_rate() const;

    std::string name_, bridge_;
    Rate limits_;
    Bytes mtu_;
    Direction direction_;
    KilobytesPerSecond floor_sum_;
    ClassIdAllocator ids_;
    std::unordered_map<Uuid, Port> ports_;
    std::unordered_map<MacAddress, Sharing> by_mac_;
};

// The time the kernel needs for `size` at `rate`, rounded up, at most 32 bits.
Ticks transmit_time(Bytes size, BytesPerSecond rate);

} // namespace virfloor
