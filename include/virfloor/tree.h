// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A tree of traffic classes as a plain value: what ought to be on a device, or what is there; and
// the change that leads from one to the other. A tree says nothing of devices or of packets' bytes:
// that is tc's part.
//
// Invariants of a tree that ought to be: 1. the rates of a class's children add up to its own
// rate; 2. a class's parent is in the tree, or is the qdisc; 3. each steered address leads to a
// class of the tree.
#pragma once

#include "virfloor/identity.h"
#include "virfloor/units.h"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace virfloor {

// The queue below a class, best first.
enum class Leaf { fq_codel, sfq, pfifo };
// As the kernel has it.
const char* name(Leaf leaf);

// HTB's own parameters of a class (struct tc_htb_opt, include/uapi/linux/pkt_sched.h).
struct Shape {
    BytesPerSecond rate, ceil;
    Ticks burst, cburst;
    std::uint32_t quantum = 0; // bytes; means nothing on an inner class

    bool operator==(const Shape&) const = default;
};

struct Class {
    ClassId id;
    std::optional<ClassId> parent; // nothing: the class hangs on the qdisc itself
    Shape shape;
    bool inner = false;                     // has children, and so no queue
    std::optional<Leaf> leaf = Leaf::pfifo; // nothing: a queue of a kind that is none of ours

    bool operator==(const Class&) const = default;
};

// Where our filters are: behind all of libvirt's, which need u32 table 800: to be there.
inline constexpr std::uint16_t our_preference = 10;
// Where libvirt's QEMU driver and its nftables backend keep filters of their own.
inline constexpr std::uint16_t libvirt_preference = 2;

// Filters of others. The module leaves them alone but for those that stand against a promise: see
// difference().
struct ForeignFilter {
    std::uint16_t preference = 0;
    std::uint16_t protocol = 0; // ETH_P_*, host byte order
    std::uint32_t handle = 0;
    std::string kind;              // "u32", "fw", …
    std::optional<ClassId> target; // class it leads to, of this qdisc
    std::optional<MacAddress> mac; // address it matches whole, if that is what it does

    bool operator==(const ForeignFilter&) const = default;
};

struct Tree {
    bool root = false;    // an htb qdisc 1: with the catchment as its default
    bool filters = false; // the tables in which addresses are looked up
    std::map<ClassId, Class> classes;
    std::map<MacAddress, ClassId> steering;
    std::vector<ForeignFilter> foreign;
    Leaf leaf = Leaf::pfifo; // the best queue to be had here
};

// One step each is one or a few messages to the kernel, and can be taken back.
struct AddRoot {};
struct AddFilters {};
struct AddClass {
    Class added;
};
struct ChangeClass {
    Class from, to;
};
struct RemoveClass {
    Class removed;
};
struct ReplaceLeaf {
    ClassId of;
    std::optional<Leaf> from;
};
struct AddSteering {
    MacAddress mac;
    ClassId target;
};
struct RemoveSteering {
    MacAddress mac;
    ClassId target;
};
struct RemoveForeign {
    ForeignFilter removed;
};

using Step = std::variant<AddRoot, AddFilters, AddClass, ChangeClass, RemoveClass, ReplaceLeaf, AddSteering,
                          RemoveSteering, RemoveForeign>;
using Change = std::vector<Step>;

// Whether it is one of libvirt's own, which know IPv4 alone, for an address that a guest may have taken itself.
bool tells_of_an_address(const ForeignFilter& filter);

// Addresses that guests took: such filters lead them to classes that addresses of `want` are steered to.
std::map<MacAddress, ClassId> taken_addresses(const Tree& have, const Tree& want);

// The steps from what is there to what ought to be, empty if nothing differs. Promises are kept on
// the way: what goes down goes first, parents grow before their children and shrink after them, an
// address is steered only once its class is there and before its class is gone.
// Addresses that guests took are steered, too, and the filters that tell of them stay.
// Of foreign filters go: those that lead to a class that is removed; the stock driver's own for an
// address that is steered here to the same class; the stock driver's filter for packets of
// firewall mark 1 (preference 1, kind fw), which lead past all floors.
// Both trees may be parts of larger ones, if they are the same parts.
Change difference(const Tree& have, const Tree& want);

} // namespace virfloor
