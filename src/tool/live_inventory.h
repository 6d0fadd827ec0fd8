// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What libvirt tells of networks and interfaces, for a program that asks again and again.
//
// A thread of its own speaks with libvirt, so that a daemon that hangs holds nobody up. Each question opens connections
// anew: so it is known whether the daemon answers, and one that was restarted, or came later, is found. All of the
// inventory (a message for each port and each domain) is read only if there was a change: the kernel tells of them all,
// as a plug, an unplug or another floor changes the tree. A change's own steps take a moment (a port comes before the
// domain's XML names it), so for a while after one it is read each time.
//
// Thread safety: ask() may be called at any time.
#pragma once

#include "inventory.h"

#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace virfloor::tool {

struct Told {
    bool answers = false; // libvirt does, now
    std::string problem;  // why it does not, or what could not be read
    // As it was read last. Nothing as long as it never was.
    std::shared_ptr<const std::vector<NetworkState>> networks;
    std::chrono::system_clock::time_point read_at;
};

class LiveInventory {
public:
    // uris: as for connect(). Throws Error(system) if the kernel's notices are not to be had.
    explicit LiveInventory(std::vector<std::string> uris);
    // A thread that libvirt holds up is left behind.
    ~LiveInventory();
    LiveInventory(const LiveInventory&) = delete;
    LiveInventory& operator=(const LiveInventory&) = delete;

    // Waits some seconds at most.
    Told ask();

private:
    struct State;
    std::shared_ptr<State> state_; // shared with the thread
};

} // namespace virfloor::tool
