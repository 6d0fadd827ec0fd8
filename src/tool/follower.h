// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The inventory, followed over time: read anew where something has changed, and through restarts of the daemon.
//
// libvirt has no events for ports, and to read one takes some calls. So each look lists networks and ports alone, which
// is one call a network, and reads the ports that are new, and those whose classes the caller has seen change in the
// kernel: their floors were changed. Once a minute all is read.
#pragma once

#include "inventory.h"
#include "measure.h"

#include <chrono>
#include <compare>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace virfloor::tool {

struct News {
    std::optional<std::vector<NetworkState>> networks; // nothing where nothing has changed
    std::string trouble;                               // why libvirt could not be asked; empty where it answered
};

// Not thread-safe.
class Follower {
public:
    Follower(std::vector<std::string> uris, std::optional<std::string> only);

    // Without a daemon, this is read from status files. Throws as read_inventory().
    News first();
    // The same again; errors become the trouble.
    News look(const std::vector<ClassChange>& changes);

private:
    struct PortsSeen {
        int ifindex = no_ifindex; // of the bridge: another one where the network was started anew
        std::vector<Uuid> ports;  // in order

        bool operator==(const PortsSeen&) const = default;
    };
    using Seen = std::map<std::string, PortsSeen>;

    News try_to_look(const std::vector<ClassChange>& changes);
    Seen list() const;
    void note_bridges(Seen& seen) const;
    std::vector<NetworkState> read(const std::vector<ClassChange>& changes);
    bool lacks_names() const;

    std::vector<std::string> uris_;
    std::optional<std::string> only_;
    std::vector<Connection> connections_;
    std::vector<NetworkState> networks_; // as they were read last
    Seen seen_;
    std::unordered_map<Uuid, int> nameless_; // ports that no domain's XML names, and how often it was asked for
    std::chrono::steady_clock::time_point read_at_{};
};

// A Follower that looks in a thread of its own, as a daemon may take its time. To be used by one thread.
class BackgroundFollower {
public:
    explicit BackgroundFollower(Follower follower);
    // Waits for a look that is under way, but not for long: a daemon that does not answer is left alone.
    ~BackgroundFollower();
    BackgroundFollower(const BackgroundFollower&) = delete;
    BackgroundFollower& operator=(const BackgroundFollower&) = delete;

    // Starts to look, or does so when the look that is under way has ended.
    void ask(std::vector<ClassChange> changes);
    // What a look has found, if one has ended.
    std::optional<News> take();
    // For poll(2): readable when there is something to take.
    int descriptor() const;
    // How long the look that is under way has taken; nothing if there is none.
    std::optional<std::chrono::steady_clock::duration> waiting() const;

private:
    struct Shared;

    static void work(Shared& shared);

    std::shared_ptr<Shared> shared_;
};

} // namespace virfloor::tool
