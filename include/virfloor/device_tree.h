// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The tree on one network device, in the kernel.
//
// Thread safety: one call at a time on one object; objects share the Netlink.
// Invariant: a change is carried out whole, or taken back and reported.
#pragma once

#include "virfloor/network.h"
#include "virfloor/tree.h"

#include <memory>
#include <string>

namespace virfloor::tc {

class Netlink;

std::shared_ptr<Netlink> open_netlink();

// The interface index of a network device. Throws Error(system) if there is none of that name.
int find_device(const std::string& name);

class DeviceTree {
public:
    // direction: which of a frame's addresses leads to a class. The device need not be there yet.
    DeviceTree(std::shared_ptr<Netlink> netlink, std::string device, Direction direction);
    ~DeviceTree();
    DeviceTree(DeviceTree&&) noexcept;
    DeviceTree& operator=(DeviceTree&&) noexcept;

    // The interface index of the device of that name, or of one that was found by it before and is
    // called otherwise now. no_ifindex if there is neither.
    int locate();

    // The tree that is there, as far as it is ours: root is false if there is another root qdisc
    // or none; filters is false if our filters are missing or cannot be gone on with.
    // Throws Error(system): no such device, or the kernel's refusal.
    Tree read();

    // Carries the change out, which must lead away from the tree read or applied last. Throws
    // Error(system) with the tc(8) command that failed and the kernel's text; what had been done
    // is taken back then, and the tree must be read before the next change.
    // A Leaf that the kernel does not have is given up for the next one, when the tree is made.
    void apply(const Change& change);

    // Deletes filter tables that are no longer used, as far as the kernel allows it: it does so only
    // some time after the last use.
    void reclaim();
    bool has_unused_tables() const;

private:
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace virfloor::tc
