// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A running network with floors: its promises, its status file, and its tree in the kernel, kept
// in step.
//
// Thread safety: the owner (FlooredNetworks::Locked) holds the lock.
// Invariants: 1. a call that throws leaves promises, file and tree as they were; 2. what is to be
// is written down before the kernel is changed; 3. once the kernel may differ from what is
// promised, the next call reads it and puts it right.
#pragma once

#include "virfloor/device_tree.h"
#include "virfloor/network.h"
#include "virfloor/status.h"

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace virfloor {

class FlooredNetwork {
public:
    // Writes the status file; nothing is done to the kernel before reconcile().
    FlooredNetwork(Network network, tc::DeviceTree tree, const StatusDirectory& directory);

    const Network& promises() const { return network_; }

    // Reads the kernel's tree and changes what differs, until nothing does. Returns the number of
    // steps that took.
    std::size_t reconcile();

    const Port& plug(const Uuid& uuid, MacAddress mac, KilobytesPerSecond floor,
                     std::optional<ClassId> preferred);
    // For a port that a running guest had before: a floor beyond the limit is taken as well.
    const Port& reclaim(const Uuid& uuid, MacAddress mac, KilobytesPerSecond floor,
                        std::optional<ClassId> preferred);
    const Port& update(const Uuid& uuid, KilobytesPerSecond floor);
    void unplug(const Uuid& uuid);
    // unplug for a port that is gone already: what fails is logged, and mended by the next call.
    void forget(const Uuid& uuid);

    // Deletes filter tables that are no longer used; false if some are left for later.
    bool reclaim_tables() { return !in_step_ || tree_.reclaim(); }

private:
    const Port& add(const Uuid& uuid, MacAddress mac, KilobytesPerSecond floor,
                    std::optional<ClassId> preferred, bool admitted);
    // Brings status file and kernel to what the network has of a port; before: the branch of its
    // address until now.
    void carry_out(const Uuid& uuid, MacAddress mac, const Tree& before);
    void change_kernel(const Tree& before, MacAddress mac);

    Network network_;
    tc::DeviceTree tree_;
    StatusFile file_;
    bool in_step_ = false;
};

// The running networks by name.
//
// Thread safety: full. One lock a network name, also for names that have no floors (yet), so that
// start, destroy and plug of one network come one after the other.
class FlooredNetworks {
    struct Place {
        std::mutex mutex;
        std::unique_ptr<FlooredNetwork> network;
    };

public:
    class Locked {
    public:
        explicit operator bool() const { return place_->network != nullptr; }
        FlooredNetwork* operator->() const { return place_->network.get(); }
        void set(std::unique_ptr<FlooredNetwork> network) { place_->network = std::move(network); }

    private:
        friend class FlooredNetworks;
        explicit Locked(Place& place) : place_(&place), lock_(place.mutex) {}

        Place* place_;
        std::unique_lock<std::mutex> lock_;
    };

    Locked lock(const std::string& name);
    // Lets networks that nobody works on delete filter tables that are no longer used; false if some
    // are left for later.
    bool reclaim_tables();
    // All names asked for so far.
    std::vector<std::string> names();
    void clear();

private:
    std::mutex mutex_;
    std::map<std::string, Place> places_;
};

} // namespace virfloor
