// SPDX-License-Identifier: LGPL-2.1-or-later
#include "floored_network.h"

#include "virfloor/error.h"
#include "virfloor/log.h"
#include "virfloor/text.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace virfloor {

namespace {

constexpr Pacer::Duration longest_reclaim_wait = std::chrono::seconds(1);

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
    case ESRCH: return true;
    default: return false;
    }
}

// A tree with one branch in place of another.
Tree exchanged(Tree tree, const Tree& branch, const Tree& by)
{
    for (const auto& [id, there] : branch.classes)
        tree.classes.erase(id);
    for (const auto& [mac, id] : branch.steering)
        tree.steering.erase(mac);
    tree.classes.insert(by.classes.begin(), by.classes.end());
    tree.steering.insert(by.steering.begin(), by.steering.end());
    return tree;
}

// Whether a tree is not as it was left. A guest that takes or leaves an address which is not promised to it
// does no harm: it is followed.
bool is_harmed(const Tree& have, Tree left)
{
    left.leaf = have.leaf;
    const auto follows = [&left](const Step& step) {
        const auto* added = std::get_if<AddSteering>(&step);
        const auto* removed = std::get_if<RemoveSteering>(&step);
        return (added && !left.steering.contains(added->mac)) || (removed && !left.steering.contains(removed->mac));
    };
    return !std::ranges::all_of(difference(have, left), follows);
}

// What asks for a floor, and counts if it is refused.
template <class Asking>
const Port& counting_refusal(FlooredNetwork& network, Asking ask)
{
    try {
        return ask();
    } catch (const Error&) {
        network.count_refusal();
        throw;
    }
}

} // namespace

FlooredNetwork::FlooredNetwork(Network network, tc::DeviceTree tree, const StatusDirectory& directory)
    : network_(std::move(network)), tree_(std::move(tree)), ifindex_(tree_.locate()), device_name_(network_.bridge()),
      file_(directory.file(network_.name()))
{
}

void FlooredNetwork::write_down() { file_.describe(network_, ifindex_, condition_, counts_); }

void FlooredNetwork::go_on_from(const SavedNetwork& left)
{
    counts_ = left.counts;
    disturbed_ = left.ifindex != no_ifindex && left.condition != Condition::broken;
}

void FlooredNetwork::count(std::uint64_t Counts::*what) noexcept
{
    ++(counts_.*what);
    const bool news = file_.is_written();
    try {
        write_down();
    } catch (const std::exception& error) {
        if (news)
            log(Severity::warning, format(_("network '%s': %s"), network_.name().c_str(), error.what()));
    }
}

std::size_t FlooredNetwork::put_right(const Tree& before, const Tree& after)
{
    // What a change leaves behind is read again: the best queue, for one, is known only once a tree
    // is there.
    constexpr int most_passes = 4;
    disturbed_ |= std::exchange(in_step_, false);
    const int ifindex = tree_.locate();
    if (ifindex == no_ifindex)
        throw Error(Refusal::operation_invalid,
                    format(_("network '%s' has lost its bridge %s (%s); end the network and start it again"),
                           network_.name().c_str(), network_.bridge().c_str(), std::strerror(ENODEV)),
                    ENODEV);
    ifindex_ = ifindex;
    std::size_t steps = 0;
    bool harmed = false;
    for (int pass = 0; pass < most_passes; ++pass) {
        const Tree have = tree_.read();
        Tree want = network_.tree();
        want.leaf = have.leaf;
        addresses_taken_ = std::ranges::any_of(have.foreign, tells_of_an_address);
        if (pass == 0 && disturbed_)
            harmed = is_harmed(have, exchanged(want, after, before));
        const Change change = difference(have, want);
        if (change.empty()) {
            in_step_ = true;
            break;
        }
        tree_.apply(change);
        steps += change.size();
    }
    disturbed_ = false;
    if (harmed)
        count(&Counts::repairs);
    return steps;
}

void FlooredNetwork::carry_out(const Uuid& uuid, MacAddress mac, const Tree& before)
{
    file_.update(network_, uuid);
    change_kernel(before, mac);
}

void FlooredNetwork::take_back(const Uuid& uuid) noexcept
{
    try {
        file_.update(network_, uuid);
    } catch (const std::exception& error) {
        log(Severity::warning, format(_("network '%s': %s"), network_.name().c_str(), error.what()));
    }
}

void FlooredNetwork::withdraw(const Tree& before, MacAddress mac)
{
    if (in_step_ || tree_.locate() != no_ifindex)
        change_kernel(before, mac);
}

void FlooredNetwork::change_kernel(const Tree& before, MacAddress mac)
{
    const Tree after = network_.branch(mac);
    if (std::exchange(in_step_, false) && !addresses_taken_) {
        try {
            tree_.apply(difference(before, after));
            in_step_ = true;
            return;
        } catch (const Error& error) {
            if (!speaks_of_drift(error))
                throw;
            log(Severity::warning, format(_("network '%s': the tree on bridge %s was changed by somebody else (%s); "
                                            "putting it right"),
                                          network_.name().c_str(), network_.bridge().c_str(), error.what()));
            disturbed_ = true;
        }
    }
    put_right(before, after);
}

const Port& FlooredNetwork::add(const Uuid& uuid, MacAddress mac, KilobytesPerSecond floor,
                                std::optional<ClassId> preferred, bool admitted)
{
    const Tree before = network_.branch(mac);
    const Port& port = counting_refusal(*this, [&]() -> const Port& {
        return admitted ? network_.restore(uuid, mac, floor, preferred) : network_.plug(uuid, mac, floor, preferred);
    });
    try {
        carry_out(uuid, mac, before);
    } catch (...) {
        network_.unplug(uuid);
        take_back(uuid);
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
    const Port& port = counting_refusal(*this, [&]() -> const Port& { return network_.update(uuid, floor); });
    try {
        carry_out(uuid, old.mac, before);
    } catch (...) {
        network_.set_floor(uuid, old.floor);
        take_back(uuid);
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
        file_.update(network_, uuid);
        withdraw(before, old.mac);
    } catch (...) {
        network_.restore(uuid, old.mac, old.floor, old.id);
        take_back(uuid);
        throw;
    }
}

void FlooredNetwork::forget(const Uuid& uuid)
{
    const auto attempt = [this, &uuid](const auto& step) {
        try {
            step();
        } catch (const std::exception& error) {
            in_step_ = false;
            log(Severity::error, format(_("network '%s': port %s is gone, but not all of its floor: %s"),
                                        network_.name().c_str(), uuid.text().c_str(), error.what()));
        }
    };
    const Port old = *network_.find(uuid);
    const Tree before = network_.branch(old.mac);
    network_.unplug(uuid);
    attempt([&] { file_.update(network_, uuid); });
    attempt([&] { withdraw(before, old.mac); });
}

void FlooredNetwork::notice(const tc::Notice& notice, Time now)
{
    using About = tc::Notice::About;
    const bool ours = notice.ifindex == ifindex_;
    switch (notice.about) {
    case About::traffic_control:
    case About::device_gone:
        if (!ours)
            return;
        break;
    case About::device:
        if (ours ? notice.name == device_name_ : notice.name != network_.bridge())
            return;
        device_name_ = notice.name;
        if (notice.name != network_.bridge())
            log(Severity::warning, format(_("network '%s': its bridge %s is called %s now; floors are kept, "
                                            "but libvirt cannot plug new guests"),
                                          network_.name().c_str(), network_.bridge().c_str(), notice.name.c_str()));
        break;
    case About::anything: break;
    }
    disturbed_ |= std::exchange(in_step_, false);
    noticed_ = true;
    pacer_.suspect(now);
}

void FlooredNetwork::report(Condition condition, const std::string& trouble)
{
    const Condition before = std::exchange(condition_, condition);
    const bool news = std::exchange(trouble_, trouble) != trouble || before != condition;
    if (!news)
        ;
    else if (condition == Condition::kept)
        log(Severity::info, format(_("network '%s': the tree on bridge %s stays as it should"), network_.name().c_str(),
                                   network_.bridge().c_str()));
    else
        log(condition == Condition::broken ? Severity::error : Severity::warning, trouble);
    try {
        write_down();
    } catch (const std::exception& error) {
        if (news && condition != Condition::broken)
            log(Severity::warning, format(_("network '%s': %s"), network_.name().c_str(), error.what()));
    }
}

void FlooredNetwork::look_after(Time now)
{
    const bool noticed = std::exchange(noticed_, false);
    const auto began = Clock::now();
    const auto looked = [&](bool trouble) {
        const Time end = now + (Clock::now() - began);
        pacer_.looked(now, end, trouble);
        if (needs_repair())
            pacer_.suspect(end);
    };
    if (tree_.locate() == no_ifindex) {
        in_step_ = false;
        report(Condition::absent,
               format(_("network '%s': its bridge %s is gone; its floors wait until there is one of that name"),
                      network_.name().c_str(), network_.bridge().c_str()));
        looked(false);
        return;
    }
    try {
        const std::size_t steps = reconcile();
        write_down();
        // To finish what failed before is no repair in a row of them.
        looked(steps > 0 && noticed);
        if (pacer_.contested(now))
            report(Condition::contested, format(_("network '%s': others change the tree on bridge %s again and again; "
                                                  "it is put right ever more rarely until they stop"),
                                                network_.name().c_str(), network_.bridge().c_str()));
        else if (steps > 0 && condition_ == Condition::kept && (!noticed || pacer_.repairs() == 1))
            log(Severity::warning,
                format(plural("network '%s': the tree on bridge %s was not as it should be; %zu change put it right",
                              "network '%s': the tree on bridge %s was not as it should be; %zu changes put it right",
                              steps),
                       network_.name().c_str(), network_.bridge().c_str(), steps));
        else if (condition_ != Condition::kept)
            report(Condition::kept, "");
    } catch (const std::exception& error) {
        looked(true);
        report(Condition::broken, format(_("network '%s': floors cannot be kept as they should; it is tried again: %s"),
                                         network_.name().c_str(), error.what()));
    }
}

void FlooredNetwork::begin_anew(Time now)
{
    if (condition_ == Condition::kept)
        return;
    pacer_ = Pacer();
    noticed_ = false;
    pacer_.suspect(now);
}

void FlooredNetwork::tend(Time now)
{
    if (needs_repair())
        pacer_.suspect(now);
    if (pacer_.is_due(now))
        look_after(now);
    else if (condition_ == Condition::contested && !pacer_.contested(now))
        report(Condition::kept, "");
    if (!in_step_ || !tree_.has_unused_tables() || now < reclaim_at_)
        return;
    try {
        tree_.reclaim();
        // Somebody else may keep one in use for ever.
        reclaim_wait_ = tree_.has_unused_tables() ? std::min(2 * reclaim_wait_, longest_reclaim_wait) : Pacer::settling;
        reclaim_at_ = now + reclaim_wait_;
    } catch (const std::exception& error) {
        in_step_ = false;
        pacer_.suspect(now);
        report(Condition::broken, format(_("network '%s': cannot delete unused filter tables: %s"),
                                         network_.name().c_str(), error.what()));
    }
}

std::optional<FlooredNetwork::Time> FlooredNetwork::next_tending(Time now) const
{
    auto next = pacer_.next(now);
    if (!next && needs_repair())
        next = now + Pacer::settling;
    if (in_step_ && tree_.has_unused_tables())
        next = next ? std::min(*next, reclaim_at_) : reclaim_at_;
    return next;
}

FlooredNetworks::Locked::~Locked()
{
    if (lock_ && place_->network && place_->network->next_tending(FlooredNetwork::Clock::now()))
        owner_->on_work_();
}

FlooredNetworks::Locked FlooredNetworks::lock(const std::string& name)
{
    Place* place = nullptr;
    {
        const std::lock_guard guard(mutex_);
        place = &places_[name];
    }
    return Locked(*this, *place);
}

std::optional<FlooredNetwork::Time> FlooredNetworks::tend(std::span<const tc::Notice> notices, FlooredNetwork::Time now)
{
    std::vector<Place*> all;
    {
        const std::lock_guard guard(mutex_);
        for (auto& [name, place] : places_)
            all.push_back(&place);
    }
    std::optional<FlooredNetwork::Time> soonest;
    const auto come_again = [&soonest](FlooredNetwork::Time at) { soonest = soonest ? std::min(*soonest, at) : at; };
    for (Place* place : all) {
        const std::unique_lock lock(place->mutex, std::try_to_lock);
        if (!lock) {
            place->missed |= !notices.empty();
            come_again(now + Pacer::settling);
            continue;
        }
        const bool missed = std::exchange(place->missed, false);
        if (!place->network)
            continue;
        if (missed)
            place->network->notice({}, now);
        for (const tc::Notice& notice : notices)
            place->network->notice(notice, now);
        place->network->tend(now);
        if (const auto next = place->network->next_tending(now))
            come_again(*next);
    }
    return soonest;
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
