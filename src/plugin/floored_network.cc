// SPDX-License-Identifier: LGPL-2.1-or-later
#include "floored_network.h"

#include "virfloor/error.h"
#include "virfloor/log.h"

#include <cerrno>
#include <utility>

namespace virfloor {

namespace {

// What the kernel answers when the tree is not what it was taken for, because somebody else
// changed it.
bool speaks_of_drift(const Error& error)
{
    switch (error.system_errno()) {
    case EBUSY:
    case EEXIST:
    case EINVAL:
    case ENODEV:
    case ENOENT:
    case ENOSPC:
    case ESRCH:
        return true;
    default:
        return false;
    }
}

} // namespace

FlooredNetwork::FlooredNetwork(Network network, tc::DeviceTree tree,
                               const StatusDirectory& directory)
    : network_(std::move(network)), tree_(std::move(tree)), 
      file_(directory.save(network_, tc::find_device(network_.bridge())))
{
}

std::size_t FlooredNetwork::reconcile()
{
    // What a change leaves behind is read again: the best queue, for one, is known only once a tree
    // is there.
    constexpr int most_passes = 4;
    in_step_ = false;
    std::size_t steps = 0;
    for (int pass = 0; pass < most_passes; ++pass) {
        const Tree have = tree_.read();
        Tree want = network_.tree();
        want.leaf = have.leaf;
        const Change change = difference(have, want);
        if (change.empty()) {
            in_step_ = true;
            return steps;
        }
        tree_.apply(change);
        steps += change.size();
    }
    log(Severity::warning, "network '" + network_.name() + "': the tree on bridge " +
                               network_.bridge() + " does not stay as it was made");
    in_step_ = true;
    return steps;
}

void FlooredNetwork::carry_out(const Uuid& uuid, MacAddress mac, const Tree& before)
{
    file_.update(network_, uuid);
    change_kernel(before, mac);
}

void FlooredNetwork::change_kernel(const Tree& before, MacAddress mac)
{
    if (std::exchange(in_step_, false)) {
        try {
            tree_.apply(difference(before, network_.branch(mac)));
            in_step_ = true;
            return;
        } catch (const Error& error) {
            if (!speaks_of_drift(error))
                throw;
            log(Severity::warning, "network '" + network_.name() + "': the tree on bridge " +
                                       network_.bridge() + " was changed by somebody else (" +
                                       error.what() + "); putting it right");
        }
    }
    reconcile();
}

const Port& FlooredNetwork::add(const Uuid& uuid, MacAddress mac, KilobytesPerSecond floor,
                                std::optional<ClassId> preferred, bool admitted)
{
    const Tree before = network_.branch(mac);
    const Port& port = admitted ? network_.restore(uuid, mac, floor, preferred)
                                : network_.plug(uuid, mac, floor, preferred);
    try {
        carry_out(uuid, mac, before);
    } catch (...) {
        network_.unplug(uuid);
        file_.update(network_, uuid);
        throw;
    }
    return port;
}

const Port& FlooredNetwork::plug(const Uuid& uuid, MacAddress mac, KilobytesPerSecond floor,
                                 std::optional<ClassId> preferred)
{
    return add(uuid, mac, floor, preferred, false);
}

const Port& FlooredNetwork::reclaim(const Uuid& uuid, MacAddress mac, KilobytesPerSecond floor,
                                    std::optional<ClassId> preferred)
{
    return add(uuid, mac, floor, preferred, true);
}

const Port& FlooredNetwork::update(const Uuid& uuid, KilobytesPerSecond floor)
{
    const Port old = *network_.find(uuid);
    const Tree before = network_.branch(old.mac);
    const Port& port = network_.update(uuid, floor);
    try {
        carry_out(uuid, old.mac, before);
    } catch (...) {
        network_.set_floor(uuid, old.floor);
        file_.update(network_, uuid);
        throw;
    }
    return port;
}

void FlooredNetwork::unplug(const Uuid& uuid)
{
    const Port old = *network_.find(uuid);
    const Tree before = network_.branch(old.mac);
    network_.unplug(uuid);
    try {
        carry_out(uuid, old.mac, before);
    } catch (...) {
        network_.restore(uuid, old.mac, old.floor, old.id);
        file_.update(network_, uuid);
        throw;
    }
}

void FlooredNetwork::forget(const Uuid& uuid)
{
    const auto attempt = [this](const auto& step) {
        try {
            step();
        } catch (const std::exception& error) {
            in_step_ = false;
            log(Severity::error, "network '" + network_.name() +
                                     "': a port is gone, but not all of its floor: " + error.what());
        }
    };
    const Port old = *network_.find(uuid);
    const Tree before = network_.branch(old.mac);
    network_.unplug(uuid);
    attempt([&] { file_.update(network_, uuid); });
    attempt([&] { change_kernel(before, old.mac); });
}

FlooredNetworks::Locked FlooredNetworks::lock(const std::string& name)
{
    Place* place;
    {
        const std::lock_guard guard(mutex_);
        place = &places_[name];
    }
    return Locked(*place);
}

bool FlooredNetworks::reclaim_tables()
{
    const std::lock_guard guard(mutex_);
    bool all = true;
    for (auto& [name, place] : places_) {
        const std::unique_lock lock(place.mutex, std::try_to_lock);
        all &= lock && (!place.network || place.network->reclaim_tables());
    }
    return all;
}

std::vector<std::string> FlooredNetworks::names()
{
    const std::lock_guard guard(mutex_);
    std::vector<std::string> names;
    for (const auto& [name, place] : places_)
        names.push_back(name);
    return names;
}

void FlooredNetworks::clear()
{
    for (const auto& name : names())
        lock(name).set(nullptr);
}

} // namespace virfloor
