// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What is known of a network from five sides, and where they do not say the same, in sentences.
//
// Nothing here reads anything: evidence.h gathers. Nothing is thrown.
#pragma once

#include "inventory.h"
#include "virfloor/status.h"
#include "virfloor/tree.h"

#include <optional>
#include <string>
#include <vector>

namespace virfloor::tool {

// What a running domain asks for, in the XML that libvirt shows.
struct Wish {
    std::string domain, network;
    Uuid port;
    MacAddress mac;
    KilobytesPerSecond floor; // 0 for none
};

// The process that serves the networks.
struct Daemon {
    enum class Module { loaded, missing, unknown };

    std::string name;
    int pid = 0;
    Module module = Module::unknown; // ours
};

struct NetworkEvidence {
    std::string name;
    std::optional<Daemon> daemon;
    std::optional<NetworkState> live; // as libvirt tells; nothing where it does not answer, or the network does not run
    bool asked = false;               // libvirt answered
    std::vector<Wish> wishes;
    std::vector<DomainPort> remembered; // what the domains' drivers wrote down
    bool knows_status = false;          // whether there is a status file is known
    std::optional<SavedNetwork> saved;
    std::optional<std::string> damage; // why the status file cannot be trusted
    int ifindex = no_ifindex;          // of the bridge
    std::optional<Tree> tree;          // the kernel's
};

// Where the difference lies: what has to be put right to end it.
enum class Place { domain, status, kernel };

struct Difference {
    std::string network;
    Place place;
    std::string text; // a sentence

    bool operator==(const Difference&) const = default;
};

// With the network's name.
std::string sentence(const Difference& difference);

std::vector<Difference> differences(const NetworkEvidence& evidence);

// What the kernel's tree is to keep: by libvirt's ports, or by the status file where libvirt does not answer. Nothing
// where the network gives no floors, or nobody looks after it.
std::optional<Network> promised(const NetworkEvidence& evidence);
// What a status file promises.
Network promises(const SavedNetwork& saved);

} // namespace virfloor::tool
