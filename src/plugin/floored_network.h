// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A running network with floors: its promises, its status file, and its tree in the kernel, kept
// in step.
//
// Thread safety: the owner (FlooredNetworks::Locked) holds the lock.
// Invariants: 1. a call that throws leaves promises, file and tree as they were; 2. what is to be
// is written down before the kernel is changed; 3. once the kernel may differ from what is
// promised, the next call reads it and puts it right, and so does tend().
#pragma once

#include "virfloor/device_tree.h"
#include "virfloor/monitor.h"
#include "virfloor/network.h"
#include "virfloor/pacer.h"
#include "virfloor/status.h"

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace virfloor {

class FlooredNetwork {
public:
    using Clock = Pacer::Clock;
    using Time = Pacer::Time;

    // Nothing is done yet: write_down() and reconcile() follow.
    FlooredNetwork(Network network, tc::DeviceTree tree, const StatusDirectory& directory);
    // Another daemon left this behind: its counts go on, and what differs now is somebody else's doing.
    void go_on_from(const SavedNetwork& left);

    const Network& promises() const { return network_; }

    // Brings the status file up to date, where it is not.
    void write_down();
    // Reads the kernel's tree and changes what differs, until nothing does. Returns the number of
    // steps that took.
    std::size_t reconcile() { return put_right({}, {}); }
    // Somebody who may has asked for the tree to be put right, and it is: if looks had become rare, they are as soon as ever
    // again, and the first one says so.
    void begin_anew(Time now);

    // A floor that the caller refused, as promises().admit() says. The calls below count theirs.
    void count_refusal() noexcept { count(&Counts::refusals); }

    const Port& plug(const Uuid& uuid, MacAddress mac, KilobytesPerSecond floor, std::optional<ClassId> preferred);
    // For a port that a running guest had before: a floor beyond the limit is taken as well.
    const Port& reclaim(const Uuid& uuid, MacAddress mac, KilobytesPerSecond floor, std::optional<ClassId> preferred);
    const Port& update(const Uuid& uuid, KilobytesPerSecond floor);
    void unplug(const Uuid& uuid);
    // unplug for a port that is gone already: what fails is logged, and mended by the next call.
    void forget(const Uuid& uuid);

    // Somebody else changed a device: if that may be ours, it is looked after.
    void notice(const tc::Notice& notice, Time now);
    // Does what is to be done without being asked: puts right what others changed or what failed
    // before, and deletes filter tables that are not used any more. Does not throw; what fails is
    // logged once.
    void tend(Time now);
    // When tend() is to be called, if there is a reason to.
    std::optional<Time> next_tending(Time now) const;

private:
    const Port& add(const Uuid& uuid, MacAddress mac, KilobytesPerSecond floor, std::optional<ClassId> preferred,
                    bool admitted);
    // Brings status file and kernel to what the network has of a port; before: the branch of its
    // address until now.
    void carry_out(const Uuid& uuid, MacAddress mac, const Tree& before);
    void change_kernel(const Tree& before, MacAddress mac);
    // reconcile(), with the branch that a change of ours concerns, as it was and as it is to be.
    std::size_t put_right(const Tree& before, const Tree& after);
    // What cannot be written down is logged, and written with the rest of the file later.
    void count(std::uint64_t Counts::*what) noexcept;
    // change_kernel for what goes, which needs no device.
    void withdraw(const Tree& before, MacAddress mac);
    // Undoes what was written down of a port; does not throw.
    void take_back(const Uuid& uuid) noexcept;
    bool needs_repair() const { return (!in_step_ && condition_ != Condition::absent) || !file_.is_written(); }
    void look_after(Time now);
    // Logs what is new and writes it down.
    void report(Condition condition, const std::string& trouble);

    Network network_;
    tc::DeviceTree tree_;
    int ifindex_ = no_ifindex; // of the bridge as it was last seen
    std::string device_name_;  // likewise: others may rename it
    StatusFile file_;
    bool in_step_ = false;
    bool addresses_taken_ = false; // the tree has more than what is promised, and is read before a change
    bool noticed_ = false;         // it was somebody else, since the last look
    bool disturbed_ = false;       // it was in step until somebody else came, and that is not counted yet
    Pacer pacer_;
    Time reclaim_at_; // the next try to delete unused filter tables
    Pacer::Duration reclaim_wait_ = Pacer::settling;
    Condition condition_ = Condition::kept;
    Counts counts_;
    std::string trouble_; // the last that was reported
};

// The running networks by name.
//
// Thread safety: full. One lock a network name, also for names that have no floors (yet), so that
// start, destroy and plug of one network come one after the other.
class FlooredNetworks {
    struct Place {
        std::mutex mutex;
        std::unique_ptr<FlooredNetwork> network;
        bool missed = false; // notices, while somebody had the lock; tend() alone knows
    };

public:
    class Locked {
    public:
        Locked(Locked&&) = default;
        ~Locked();

        explicit operator bool() const { return place_->network != nullptr; }
        FlooredNetwork* operator->() const { return place_->network.get(); }
        void set(std::unique_ptr<FlooredNetwork> network) { place_->network = std::move(network); }

    private:
        friend class FlooredNetworks;
        Locked(const FlooredNetworks& owner, Place& place) : owner_(&owner), place_(&place), lock_(place.mutex) {}

        const FlooredNetworks* owner_;
        Place* place_;
        std::unique_lock<std::mutex> lock_;
    };

    Locked lock(const std::string& name);
    // Called by any thread when tend() has something to do; set before the first lock().
    void on_work(std::function<void()> callback) { on_work_ = std::move(callback); }
    // Gives the notices to all networks, and tends those that nobody works on; never waits for a
    // lock. Says when to come again, if there is a reason to. One thread at a time.
    std::optional<FlooredNetwork::Time> tend(std::span<const tc::Notice> notices, FlooredNetwork::Time now);
    // All names asked for so far.
    std::vector<std::string> names();
    void clear();

private:
    std::mutex mutex_;
    std::map<std::string, Place> places_;
    std::function<void()> on_work_ = [] {};
};

} // namespace virfloor
