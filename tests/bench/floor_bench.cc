// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What one plug and one unplug cost: our part as the plugin does it (admission, status file, kernel)
// against the bare netlink messages that no program could do without, on the same kernel, in one
// run. In a network namespace of its own; needs root, and /run/libvirt to be what it is on a host, a tmpfs.
//
// Run with random interleaving and several repetitions, and compare medians: ./run bench does.
#include "floored_network.h"
#include "tc/netlink.h"
#include "tc/request.h"

#include <benchmark/benchmark.h>
#include <netlink/route/link/bridge.h>

#include <net/if.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <malloc.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <stdexcept>
#include <vector>

namespace {

using namespace virfloor;

constexpr KilobytesPerSecond floor_of_each{10};
constexpr KilobytesPerSecond average{4'000'000};
const std::filesystem::path state_dir = "/run/libvirt/floor-bench-" + std::to_string(getpid());

void check(bool good, const char* what)
{
    if (!good)
        throw std::runtime_error(what);
}

struct Guest {
    Uuid uuid;
    MacAddress mac;
};

// Addresses as libvirt makes them: 52:54:00 and three bytes of chance.
Guest random_guest(std::mt19937& chance)
{
    Guest guest;
    for (auto& byte : guest.uuid.bytes)
        byte = static_cast<std::uint8_t>(chance());
    guest.mac = {{0x52, 0x54, 0x00, static_cast<std::uint8_t>(chance()),
                  static_cast<std::uint8_t>(chance()), static_cast<std::uint8_t>(chance())}};
    return guest;
}

// A bridge with a number of ports that have floors.
class Host {
public:
    explicit Host(int ports)
        : name_("br" + std::to_string(ports)), ifindex_(make_bridge(name_)),
          directory_(state_dir), netlink_(tc::open_netlink())
    {
        const std::size_t before = mallinfo2().uordblks;
        network_ = std::make_unique<FlooredNetwork>(
            Network(name_, name_, Rate{average, {}, {}, {}}, Bytes{1500}),
            tc::DeviceTree(netlink_, name_, Direction::inbound), directory_);
        network_->reconcile();
        std::mt19937 chance(static_cast<unsigned>(ports));
        while (static_cast<int>(network_->promises().ports().size()) < ports) {
            const Guest guest = random_guest(chance);
            network_->plug(guest.uuid, guest.mac, floor_of_each, {});
        }
        bytes_a_port_ = static_cast<double>(mallinfo2().uordblks - before) / ports;
        do
            guest_ = random_guest(chance);
        while (network_->promises().find(guest_.uuid));
    }

    FlooredNetwork& network() { return *network_; }
    const Guest& guest() const { return guest_; }
    int ifindex() const { return ifindex_; }
    double bytes_a_port() const { return bytes_a_port_; }

    static Host& with(int ports)
    {
        static std::map<int, std::unique_ptr<Host>> hosts;
        auto& host = hosts[ports];
        if (!host)
            host = std::make_unique<Host>(ports);
        return *host;
    }

private:
    static int make_bridge(const std::string& name)
    {
        const std::unique_ptr<nl_sock, void (*)(nl_sock*)> socket(nl_socket_alloc(), nl_socket_free);
        check(nl_connect(socket.get(), NETLINK_ROUTE) == 0, "no netlink");
        check(rtnl_link_bridge_add(socket.get(), name.c_str()) == 0, "no bridge");
        return static_cast<int>(if_nametoindex(name.c_str()));
    }

    std::string name_;
    int ifindex_;
    StatusDirectory directory_;
    std::shared_ptr<tc::Netlink> netlink_;
    std::unique_ptr<FlooredNetwork> network_;
    Guest guest_;
    double bytes_a_port_ = 0;
};

// The three messages of a plug, or of an unplug, ready to be sent; a plain socket, and the answers
// looked at no more than has to be.
class BareMessages {
public:
    BareMessages(const Host& host, const std::vector<tc::Request>& requests)
        : socket_(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE))
    {
        const int on = 1;
        setsockopt(socket_, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
        for (const auto& request : requests) {
            const auto message = tc::encode(request, host.ifindex(), tc::MacKey::destination);
            const auto* bytes = reinterpret_cast<const char*>(message.header());
            buffer_.insert(buffer_.end(), bytes, bytes + NLMSG_ALIGN(message.header()->nlmsg_len));
            ++messages_;
        }
    }
    ~BareMessages() { close(socket_); }
    BareMessages(const BareMessages&) = delete;
    BareMessages& operator=(const BareMessages&) = delete;

    void send()
    {
        check(::send(socket_, buffer_.data(), buffer_.size(), 0) > 0, "cannot send");
        for (int answers = 0; answers < messages_; ++answers) {
            std::array<char, 4096> answer;
            check(recv(socket_, answer.data(), answer.size(), 0) >=
                      static_cast<ssize_t>(NLMSG_LENGTH(sizeof(nlmsgerr))),
                  "no answer");
            const auto* header = reinterpret_cast<const nlmsghdr*>(answer.data());
            check(static_cast<const nlmsgerr*>(NLMSG_DATA(header))->error == 0, "refused");
        }
    }

private:
    int socket_;
    int messages_ = 0;
    std::vector<char> buffer_;
};

struct BarePlug {
    explicit BarePlug(Host& host)
        : plug(host, requests(host, true)), unplug(host, requests(host, false))
    {
    }

    // What our own code sends, as it works out for this guest at this moment.
    static std::vector<tc::Request> requests(Host& host, bool plug)
    {
        Network promises = host.network().promises();
        const Class catchment_before = promises.branch(host.guest().mac).classes.at(catchment_class);
        const Port port = promises.plug(host.guest().uuid, host.guest().mac, floor_of_each);
        const Tree with_port = promises.branch(port.mac);
        const auto htb = [](const Class& of) { return tc::HtbClass{of.id, of.parent, of.shape}; };
        const tc::HtbClass shaped = htb(with_port.classes.at(port.id));
        const tc::U32Match match{{1, port.mac.bytes[5], 0x7ff}, port.mac, port.id};
        if (plug)
            return {{tc::Verb::change, htb(with_port.classes.at(catchment_class))},
                    {tc::Verb::add, shaped},
                    {tc::Verb::add, match}};
        return {{tc::Verb::remove, match},
                {tc::Verb::remove, shaped},
                {tc::Verb::change, htb(catchment_before)}};
    }

    BareMessages plug, unplug;
};

using Clock = std::chrono::steady_clock;

// Only one of the two halves of a plug and unplug is timed.
template <class Plug, class Unplug>
void time_half(benchmark::State& state, bool time_plug, Plug plug, Unplug unplug)
{
    const auto seconds = [](auto&& call) {
        const auto start = Clock::now();
        call();
        return std::chrono::duration<double>(Clock::now() - start).count();
    };
    for (auto _ : state) {
        const double plugging = seconds(plug);
        const double unplugging = seconds(unplug);
        state.SetIterationTime(time_plug ? plugging : unplugging);
    }
}

void bare(benchmark::State& state, bool time_plug)
{
    Host& host = Host::with(static_cast<int>(state.range(0)));
    BarePlug messages(host);
    time_half(state, time_plug, [&] { messages.plug.send(); }, [&] { messages.unplug.send(); });
}

void ours(benchmark::State& state, bool time_plug)
{
    Host& host = Host::with(static_cast<int>(state.range(0)));
    const Guest guest = host.guest();
    time_half(
        state, time_plug, [&] { host.network().plug(guest.uuid, guest.mac, floor_of_each, {}); },
        [&] { host.network().unplug(guest.uuid); });
    state.counters["bytes_a_port"] = host.bytes_a_port();
}

void reconcile_right_tree(benchmark::State& state)
{
    Host& host = Host::with(static_cast<int>(state.range(0)));
    for (auto _ : state)
        check(host.network().reconcile() == 0, "the tree was not right");
}

void add(const char* name, void (*function)(benchmark::State&, bool), bool time_plug)
{
    benchmark::RegisterBenchmark(name, function, time_plug)
        ->Arg(10)->Arg(100)->Arg(1000)->UseManualTime()->Unit(benchmark::kMicrosecond);
}

} // namespace

int main(int argc, char** argv)
{
    if (unshare(CLONE_NEWNET) < 0) {
        std::perror("floor-bench needs root for a network namespace of its own");
        return EXIT_FAILURE;
    }
    add("plug/bare", bare, true);
    add("plug/ours", ours, true);
    add("unplug/bare", bare, false);
    add("unplug/ours", ours, false);
    benchmark::RegisterBenchmark("reconcile", reconcile_right_tree)
        ->Arg(10)->Arg(100)->Arg(1000)->Unit(benchmark::kMillisecond);
    benchmark::Initialize(&argc, argv);
    benchmark::RunSpecifiedBenchmarks();
    std::filesystem::remove_all(state_dir);
    return EXIT_SUCCESS;
}
