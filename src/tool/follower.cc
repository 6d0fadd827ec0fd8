// SPDX-License-Identifier: LGPL-2.1-or-later
#include "follower.h"

#include "virfloor/text.h"

#include <net/if.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <set>
#include <thread>
#include <utility>

namespace virfloor::tool {

namespace {

constexpr auto longest_trust = std::chrono::minutes(1);
// A port is there before its domain's XML names it.
constexpr int tries_for_names = 3;
constexpr auto patience_at_the_end = std::chrono::milliseconds(200);

// A daemon for guests may be away where the one for networks is there: names stay as they were.
void keep_names(std::vector<NetworkState>& networks, const std::vector<NetworkState>& before)
{
    std::map<Uuid, const Interface*> known;
    for (const NetworkState& network : before)
        for (const Interface& at : network.interfaces)
            known[at.port] = &at;
    for (NetworkState& network : networks)
        for (Interface& at : network.interfaces)
            if (const auto was = known.find(at.port); at.device.empty() && was != known.end()) {
                at.domain = was->second->domain;
                at.device = was->second->device;
            }
}

// Whether a class has come or changed that is no interface's.
bool has_unowned(const std::vector<NetworkState>& networks, const std::vector<ClassChange>& changes)
{
    return std::ranges::any_of(changes, [&](const ClassChange& change) {
        std::set<ClassId> unowned = change.there;
        unowned.erase(root_class);
        unowned.erase(catchment_class);
        for (const NetworkState& network : networks)
            if (network.name == change.network)
                for (const Interface& at : network.interfaces)
                    if (at.id)
                        unowned.erase(*at.id);
        return !unowned.empty();
    });
}

} // namespace

Follower::Follower(std::vector<std::string> uris, std::optional<std::string> only)
    : uris_(std::move(uris)), only_(std::move(only))
{
}

News Follower::first()
{
    try {
        connections_ = connect(uris_, Access::read_only);
    } catch (const NoConnection& error) {
        networks_ = read_inventory(uris_, only_);
        return {networks_, error.what()};
    }
    seen_ = list();
    networks_ = read_inventory(connections_, only_);
    note_bridges(seen_);
    read_at_ = std::chrono::steady_clock::now();
    return {networks_, {}};
}

News Follower::look(const std::vector<ClassChange>& changes)
{
    try {
        return try_to_look(changes);
    } catch (const std::exception&) {
        connections_.clear(); // the daemon was started anew, perhaps
    }
    try {
        return try_to_look(changes);
    } catch (const std::exception& error) {
        connections_.clear();
        return {{}, error.what()};
    }
}

News Follower::try_to_look(const std::vector<ClassChange>& changes)
{
    const auto now = std::chrono::steady_clock::now();
    const bool all = connections_.empty() || now - read_at_ > longest_trust;
    if (all)
        connections_ = connect(uris_, Access::read_only);
    Seen seen = list();
    note_bridges(seen);
    if (!all && changes.empty() && seen == seen_ && !lacks_names())
        return {};
    auto networks = all ? refresh_inventory(connections_, {}, {}, only_) : read(changes);
    keep_names(networks, networks_);
    networks_ = std::move(networks);
    note_bridges(seen);
    seen_ = std::move(seen); // its ports are from before the reading: what changed meanwhile is seen the next time
    if (all)
        read_at_ = now;
    return {networks_, {}};
}

bool Follower::lacks_names() const
{
    return std::ranges::any_of(networks_, [&](const NetworkState& network) {
        return std::ranges::any_of(network.interfaces, [&](const Interface& at) {
            const auto tried = nameless_.find(at.port);
            return at.device.empty() && (tried == nameless_.end() || tried->second < tries_for_names);
        });
    });
}

// What is new, what the changes speak of, and what had no name.
std::vector<NetworkState> Follower::read(const std::vector<ClassChange>& changes)
{
    const auto tried = std::exchange(nameless_, {});
    auto networks = refresh_inventory(
        connections_, networks_,
        [&](const NetworkState& network, const Interface& at) {
            const bool changed = std::ranges::any_of(changes, [&](const ClassChange& change) {
                return at.id && change.network == network.name &&
                       (change.there.contains(*at.id) || change.gone.contains(*at.id));
            });
            if (!at.device.empty())
                return changed;
            const auto before = tried.find(at.port);
            int& tries = nameless_[at.port] = before == tried.end() ? 0 : before->second;
            tries = std::min(tries + 1, tries_for_names + 1);
            return changed || tries <= tries_for_names;
        },
        only_);
    if (has_unowned(networks, changes)) // an interface that had no floor has one now
        networks = refresh_inventory(
            connections_, networks, [](const NetworkState&, const Interface& at) { return !at.floor; }, only_);
    return networks;
}

Follower::Seen Follower::list() const
{
    Seen seen;
    for (const auto& network : take_list<NetworkHandle>(_("Cannot list networks"), [&](virNetworkPtr** items) {
             return virConnectListAllNetworks(connections_.front().get(), items, VIR_CONNECT_LIST_NETWORKS_ACTIVE);
         })) {
        const std::string name = virNetworkGetName(network.get());
        if (only_ && name != *only_)
            continue;
        PortsSeen& of = seen[name];
        for (const auto& port : take_list<PortHandle>(_("Cannot list ports"), [&](virNetworkPortPtr** items) {
                 return virNetworkListAllPorts(network.get(), items, 0);
             }))
            if (Uuid uuid; virNetworkPortGetUUID(port.get(), uuid.bytes.data()) == 0)
                of.ports.push_back(uuid);
        std::ranges::sort(of.ports);
    }
    return seen;
}

void Follower::note_bridges(Seen& seen) const
{
    for (const NetworkState& network : networks_)
        if (const auto of = seen.find(network.name); of != seen.end())
            of->second.ifindex = static_cast<int>(if_nametoindex(network.bridge.c_str()));
}

struct BackgroundFollower::Shared {
    explicit Shared(Follower of) : follower(std::move(of)), descriptor(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK))
    {
        if (descriptor < 0)
            throw Error(Refusal::system, _("Cannot make an eventfd"), errno);
    }
    ~Shared() { close(descriptor); }
    Shared(const Shared&) = delete;
    Shared& operator=(const Shared&) = delete;

    Follower follower; // the thread's
    const int descriptor;
    std::mutex mutex; // covers what follows
    std::condition_variable changed;
    bool asked = false, ending = false, ended = false;
    std::vector<ClassChange> changes;                           // since the last look began
    std::optional<std::chrono::steady_clock::time_point> since; // when the look that is under way began
    std::optional<News> news;
};

BackgroundFollower::BackgroundFollower(Follower follower) : shared_(std::make_shared<Shared>(std::move(follower)))
{
    // The thread has its share: it may be left behind.
    std::thread([shared = shared_] { work(*shared); }).detach();
}

BackgroundFollower::~BackgroundFollower()
{
    std::unique_lock lock(shared_->mutex);
    shared_->ending = true;
    shared_->changed.notify_all();
    shared_->changed.wait_for(lock, patience_at_the_end, [this] { return shared_->ended; });
}

void BackgroundFollower::work(Shared& shared)
{
    std::unique_lock lock(shared.mutex);
    while (true) {
        shared.changed.wait(lock, [&] { return shared.asked || shared.ending; });
        if (shared.ending)
            break;
        const auto changes = std::exchange(shared.changes, {});
        shared.asked = false;
        shared.since = std::chrono::steady_clock::now();
        lock.unlock();
        News news = shared.follower.look(changes);
        lock.lock();
        shared.since.reset();
        // News that nobody took yet are older, and still news where there are no others.
        if (!news.networks && shared.news)
            news.networks = std::move(shared.news->networks);
        shared.news = std::move(news);
        eventfd_write(shared.descriptor, 1);
    }
    shared.ended = true;
    shared.changed.notify_all();
}

void BackgroundFollower::ask(std::vector<ClassChange> changes)
{
    const std::lock_guard lock(shared_->mutex);
    shared_->asked = true;
    std::ranges::move(changes, std::back_inserter(shared_->changes));
    shared_->changed.notify_all();
}

std::optional<News> BackgroundFollower::take()
{
    const std::lock_guard lock(shared_->mutex);
    eventfd_t count;
    eventfd_read(shared_->descriptor, &count);
    return std::exchange(shared_->news, std::nullopt);
}

int BackgroundFollower::descriptor() const { return shared_->descriptor; }

std::optional<std::chrono::steady_clock::duration> BackgroundFollower::waiting() const
{
    const std::lock_guard lock(shared_->mutex);
    if (!shared_->since)
        return {};
    return std::chrono::steady_clock::now() - *shared_->since;
}

} // namespace virfloor::tool
