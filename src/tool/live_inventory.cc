// SPDX-License-Identifier: LGPL-2.1-or-later
#include "live_inventory.h"

#include "virfloor/device_tree.h"
#include "virfloor/monitor.h"
#include "virfloor/text.h"

#include <condition_variable>
#include <mutex>
#include <thread>

namespace virfloor::tool {

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

// Prometheus gives a scrape 10 s unless it is told otherwise.
constexpr auto patience = 3s;
// What a thread that is asked to end has for the question that it is at.
constexpr auto farewell = 1s;
// How long libvirt may take to tell of what the kernel has told of.
constexpr auto settled_after = 10s;
// For what no notice tells of, such as a daemon whose module was replaced.
constexpr auto longest_unread = 5min;

// Of notices that are taken at once: a storm of them, or a socket in trouble, is no reason to stay.
constexpr int most_rounds = 100;

// The thread's own.
class Reader {
public:
    explicit Reader(std::vector<std::string> uris) : uris_(std::move(uris)) {}

    // Throws Error. `told` keeps what it has where there is nothing new; before libvirt has answered once, it has what
    // files say.
    void read(Told& told)
    {
        listen();
        std::vector<Connection> connections;
        try {
            connections = connect(uris_, Access::read_only);
        } catch (const NoConnection&) {
            fall_back(told);
            throw;
        }
        told.answers = true;
        if (told.networks && connections.size() == connections_ && !is_due())
            return;
        connections_ = 0; // a read that fails is not the end of it
        read_at_ = Clock::now();
        told.networks = std::make_shared<const std::vector<NetworkState>>(read_all(connections));
        told.read_at = std::chrono::system_clock::now();
        connections_ = connections.size();
        told_by_libvirt_ = true;
    }

private:
    // A network that ends while it is read fails the whole; the second time it is no longer there.
    static std::vector<NetworkState> read_all(const std::vector<Connection>& connections)
    {
        try {
            return read_inventory(connections);
        } catch (const Error&) {
            return read_inventory(connections);
        }
    }

    // What was read last is better than files: they do not know interfaces without a floor.
    void fall_back(Told& told) const
    {
        if (told_by_libvirt_ || !uris_.empty() || !may_read_files())
            return;
        told.networks = std::make_shared<const std::vector<NetworkState>>(read_files());
        told.read_at = std::chrono::system_clock::now();
    }

    void listen()
    {
        bool more = true;
        for (int i = 0; more && i < most_rounds; ++i) {
            more = false;
            monitor_.take([&](const tc::Notice&) { more = true; });
            if (more)
                changed_at_ = Clock::now();
        }
    }

    bool is_due() const { return changed_at_ + settled_after > read_at_ || read_at_ + longest_unread < Clock::now(); }

    std::vector<std::string> uris_;
    std::shared_ptr<tc::Netlink> netlink_ = tc::open_netlink();
    tc::Monitor monitor_{*netlink_};
    Clock::time_point changed_at_ = Clock::now(), read_at_;
    std::size_t connections_ = 0;  // that answered when it was read
    bool told_by_libvirt_ = false; // once
};

} // namespace

struct LiveInventory::State {
    explicit State(std::vector<std::string> uris) : reader(std::move(uris)) {}

    void run()
    {
        std::unique_lock lock(mutex);
        while (true) {
            changed.wait(lock, [this] { return stopped || answered < asked; });
            if (stopped)
                break;
            const std::uint64_t question = asked;
            Told answer = told;
            answer.answers = false;
            answer.problem.clear();
            lock.unlock();
            try {
                reader.read(answer);
            } catch (const std::exception& error) {
                answer.problem = error.what();
            }
            lock.lock();
            told = std::move(answer);
            answered = question;
            changed.notify_all();
        }
        ended = true;
        changed.notify_all();
    }

    std::mutex mutex;
    std::condition_variable changed;
    std::uint64_t asked = 0, answered = 0;
    bool stopped = false, ended = false;
    Told told;
    Reader reader; // the thread's
};

LiveInventory::LiveInventory(std::vector<std::string> uris) : state_(std::make_shared<State>(std::move(uris)))
{
    std::thread([state = state_] { state->run(); }).detach();
}

LiveInventory::~LiveInventory()
{
    std::unique_lock lock(state_->mutex);
    state_->stopped = true;
    state_->changed.notify_all();
    state_->changed.wait_for(lock, farewell, [this] { return state_->ended; });
}

Told LiveInventory::ask()
{
    std::unique_lock lock(state_->mutex);
    const std::uint64_t question = ++state_->asked;
    state_->changed.notify_all();
    const bool answered =
        state_->changed.wait_for(lock, patience, [&] { return state_->stopped || state_->answered >= question; });
    Told told = state_->told;
    if (!answered) {
        told.answers = false;
        told.problem = _("libvirt does not answer");
    }
    return told;
}

} // namespace virfloor::tool
