// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What a plug, a change of a floor and an unplug cost: our part as the plugin does it (admission,
// status file, kernel) against the bare netlink messages that no program could do without.
//
//     floor-bench ROUNDS PORTS…
//     floor-bench hold PORTS
//
// For each number of ports there are three equal bridges: one for our part, one for the bare
// messages, one for our part put together from its pieces with a clock between them. Each round takes
// all of them in turn, with the same guest, one operation after the other. The samples are printed
// as JSON, in microseconds, the n-th of each series from the n-th round.
//
// With "hold" there is one bridge, and what is printed is the bare messages of a plug, a change, the
// change back and an unplug, a line of hexadecimal digits each, for who sends them himself in this process's
// network namespace; it ends with its input.
//
// In a network namespace of its own; needs root, and /run/libvirt to be what it is on a host, a tmpfs.
#include "floored_network.h"
#include "tc/netlink.h"
#include "tc/reader.h"
#include "tc/request.h"
#include "tc/translator.h"

#include <netlink/route/link/bridge.h>

#include <malloc.h>
#include <net/if.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace virfloor;

constexpr KilobytesPerSecond floor_of_each{10}, other_floor{20};
constexpr KilobytesPerSecond average{4'000'000};
const std::filesystem::path state_dir = "/run/libvirt/floor-bench-" + std::to_string(getpid());

void check(bool good, const char* what)
{
    if (!good)
        throw std::runtime_error(what);
}

class Stopwatch {
public:
    // Microseconds since it was made, or since the last lap.
    double lap()
    {
        const auto now = Clock::now();
        return std::chrono::duration<double, std::micro>(now - std::exchange(start_, now)).count();
    }

private:
    using Clock = std::chrono::steady_clock;
    Clock::time_point start_ = Clock::now();
};

double timed(const auto& call)
{
    Stopwatch watch;
    call();
    return watch.lap();
}

using Series = std::map<std::string, std::vector<double>>;
std::map<std::string, Series> results; // by operation

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
    guest.mac = {{0x52, 0x54, 0x00, static_cast<std::uint8_t>(chance()), static_cast<std::uint8_t>(chance()),
                  static_cast<std::uint8_t>(chance())}};
    return guest;
}

// Bytes that this process has written to files so far; netlink is not among them.
std::uint64_t bytes_written()
{
    std::ifstream file("/proc/self/io");
    for (std::string key; file >> key;)
        if (std::uint64_t count = 0; key == "wchar:" && file >> count)
            return count;
    throw std::runtime_error("no count of bytes written");
}

std::size_t heap_used()
{
    const auto heap = mallinfo2();
    return heap.uordblks + heap.hblkhd;
}

int make_bridge(const std::string& name)
{
    const std::unique_ptr<nl_sock, void (*)(nl_sock*)> socket(nl_socket_alloc(), nl_socket_free);
    check(nl_connect(socket.get(), NETLINK_ROUTE) == 0, "no netlink");
    check(rtnl_link_bridge_add(socket.get(), name.c_str()) == 0, "no bridge");
    return static_cast<int>(if_nametoindex(name.c_str()));
}

// A bridge with a number of ports that have floors. All of one number have the same.
class Host {
public:
    Host(const std::string& name, int ports)
        : ifindex_(make_bridge(name)), directory_(state_dir), netlink_(tc::open_netlink())
    {
        const std::size_t heap_before = heap_used();
        network_ = std::make_unique<FlooredNetwork>(Network(name, name, Rate{average, {}, {}, {}}, Bytes{1500}),
                                                    tc::DeviceTree(netlink_, name, Direction::inbound), directory_);
        network_->write_down();
        network_->reconcile();
        const std::uint64_t written_before = bytes_written();
        std::mt19937 chance(static_cast<unsigned>(ports));
        while (static_cast<int>(network_->promises().ports().size()) < ports) {
            const Guest guest = random_guest(chance);
            network_->plug(guest.uuid, guest.mac, floor_of_each, {});
        }
        written_a_plug_ = static_cast<double>(bytes_written() - written_before) / ports;
        heap_a_port_ = static_cast<double>(heap_used() - heap_before) / ports;
    }

    FlooredNetwork& network() { return *network_; }
    const Network& promises() const { return network_->promises(); }
    const StatusDirectory& directory() const { return directory_; }
    int ifindex() const { return ifindex_; }
    tc::Netlink& netlink() { return *netlink_; }
    // Means over all the ports.
    double heap_a_port() const { return heap_a_port_; }
    double written_a_plug() const { return written_a_plug_; }

private:
    int ifindex_;
    StatusDirectory directory_;
    std::shared_ptr<tc::Netlink> netlink_;
    std::unique_ptr<FlooredNetwork> network_;
    double heap_a_port_ = 0, written_a_plug_ = 0;
};

// Messages ready to be sent in one go over a plain socket, all but the last without a wish for an
// answer: the kernel answers what it refuses all the same.
class BareMessages {
public:
    BareMessages(int socket, int ifindex, const std::vector<tc::Request>& requests) : socket_(socket)
    {
        for (const auto& request : requests) {
            const auto message = tc::encode(request, ifindex, tc::MacKey::destination);
            auto* header = message.header();
            if (&request != &requests.back())
                header->nlmsg_flags = static_cast<std::uint16_t>(header->nlmsg_flags & ~NLM_F_ACK);
            const auto* bytes = reinterpret_cast<const char*>(header);
            buffer_.insert(buffer_.end(), bytes, bytes + NLMSG_ALIGN(header->nlmsg_len));
        }
    }

    void send() const
    {
        check(::send(socket_, buffer_.data(), buffer_.size(), 0) > 0, "cannot send");
        std::array<char, 4096> answer;
        check(recv(socket_, answer.data(), answer.size(), 0) >= static_cast<ssize_t>(NLMSG_LENGTH(sizeof(nlmsgerr))),
              "no answer");
        const auto* header = reinterpret_cast<const nlmsghdr*>(answer.data());
        check(static_cast<const nlmsgerr*>(NLMSG_DATA(header))->error == 0, "refused");
    }

    const std::vector<char>& bytes() const { return buffer_; }

private:
    int socket_;
    std::vector<char> buffer_;
};

class Bare {
public:
    explicit Bare(const Host& host)
        : ifindex_(host.ifindex()), promises_(host.promises()),
          socket_(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE))
    {
        const int on = 1;
        check(setsockopt(socket_, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on) == 0, "no short answers");
    }
    ~Bare() { close(socket_); }
    Bare(const Bare&) = delete;
    Bare& operator=(const Bare&) = delete;

    BareMessages messages(const std::vector<tc::Request>& requests) const { return {socket_, ifindex_, requests}; }

    // What is asked for in the life of a guest's port, as our own code works it out.
    struct Life {
        tc::Request less_for_others, add_class, add_filter; // plug
        tc::Request even_less_for_others, raise;            // a higher floor
        tc::Request lower;                                  // the old floor; then less_for_others
        tc::Request remove_filter, remove_class, as_before; // unplug
    };
    Life life_of(const Guest& guest)
    {
        using enum tc::Verb;
        const auto htb = [](const Tree& tree, ClassId id) {
            const Class& of = tree.classes.at(id);
            return tc::HtbClass{of.id, of.parent, of.shape};
        };
        const Tree before = promises_.branch(guest.mac);
        const ClassId id = promises_.plug(guest.uuid, guest.mac, floor_of_each).id;
        const Tree plugged = promises_.branch(guest.mac);
        promises_.update(guest.uuid, other_floor);
        const Tree raised = promises_.branch(guest.mac);
        promises_.unplug(guest.uuid);
        const tc::U32Match match{{1, guest.mac.bytes[5], 0x7ff}, guest.mac, id};
        return {{change, htb(plugged, catchment_class)},
                {add, htb(plugged, id)},
                {add, match},
                {change, htb(raised, catchment_class)},
                {change, htb(raised, id)},
                {change, htb(plugged, id)},
                {remove, match},
                {remove, htb(plugged, id)},
                {change, htb(before, catchment_class)}};
    }

private:
    int ifindex_;
    Network promises_;
    int socket_;
};

// Our part again, from its pieces.
class Staged {
public:
    explicit Staged(Host& host)
        : host_(host), network_(host.promises()), file_(host.directory().file(network_.name() + "-staged"))
    {
        file_.describe(network_, host.ifindex(), Condition::kept, {});
        translator_.load(tc::read_picture(host.netlink(), host.ifindex(), tc::MacKey::destination));
    }

    void plug(const Guest& guest)
    {
        carry_out("plug", guest, [&] { network_.plug(guest.uuid, guest.mac, floor_of_each); });
    }
    void update(const Guest& guest, KilobytesPerSecond floor)
    {
        carry_out("update", guest, [&] { network_.update(guest.uuid, floor); });
    }
    void unplug(const Guest& guest)
    {
        carry_out("unplug", guest, [&] { network_.unplug(guest.uuid); });
    }

private:
    void carry_out(const char* operation, const Guest& guest, const auto& promise)
    {
        Series& series = results[operation];
        Stopwatch watch;
        const Tree before = network_.branch(guest.mac);
        promise();
        const Change change = difference(before, network_.branch(guest.mac));
        series["promises"].push_back(watch.lap());
        file_.update(network_, guest.uuid);
        series["status"].push_back(watch.lap());
        std::vector<tc::Reversible> requests;
        for (const Step& step : change)
            std::ranges::move(translator_.translate(step), std::back_inserter(requests));
        std::vector<tc::Message> messages;
        messages.reserve(requests.size());
        for (const auto& each : requests)
            messages.push_back(tc::encode(each.request, host_.ifindex(), tc::MacKey::destination));
        series["messages"].push_back(watch.lap());
        const auto answers = host_.netlink().transact(messages);
        series["exchange"].push_back(watch.lap());
        for (const auto& answer : answers)
            check(answer.error == 0, "refused");
    }

    Host& host_;
    Network network_;
    StatusFile file_;
    tc::Translator translator_;
};

class Bench {
public:
    explicit Bench(int ports)
        : ports_(ports), ours_("ours" + std::to_string(ports), ports), theirs_("bare" + std::to_string(ports), ports),
          pieces_("part" + std::to_string(ports), ports), bare_(theirs_), staged_(pieces_),
          chance_(static_cast<unsigned>(ports) + 1)
    {
    }

    void run(int rounds)
    {
        results.clear();
        for (int round = 0; round < rounds; ++round) {
            Guest guest;
            do
                guest = random_guest(chance_);
            while (ours_.promises().find(guest.uuid) || ours_.promises().branch(guest.mac).steering.size() != 0);
            pairs(guest, round % 2);
            stages(guest);
            messages(guest);
            watched(guest);
        }
    }

    void print(bool last) const
    {
        std::printf(" {\"ports\": %d, \"heap_a_port\": %.0f, \"written_a_plug\": %.0f", ports_, ours_.heap_a_port(),
                    ours_.written_a_plug());
        for (const auto& [operation, series] : results) {
            std::printf(",\n  \"%s\": {", operation.c_str());
            const char* between = "";
            for (const auto& [name, samples] : series) {
                std::printf("%s\n   \"%s\": [", between, name.c_str());
                for (std::size_t i = 0; i < samples.size(); ++i)
                    std::printf(i == 0 ? "%.2f" : ", %.2f", samples[i]);
                std::printf("]");
                between = ",";
            }
            std::printf("}");
        }
        std::printf("}%s\n", last ? "" : ",");
    }

private:
    static void add(const char* operation, const std::string& series, double sample)
    {
        results[operation][series].push_back(sample);
    }

    // Ours and the bare messages, one right after the other.
    void pairs(const Guest& guest, bool ours_first)
    {
        const auto pair = [&](const char* operation, const auto& ours, const auto& requests) {
            const BareMessages bare = bare_.messages(requests);
            double taken = 0;
            if (ours_first)
                taken = timed(ours);
            add(operation, "bare", timed([&] { bare.send(); }));
            add(operation, "ours", ours_first ? taken : timed(ours));
        };
        const auto life = bare_.life_of(guest);
        using Requests = std::vector<tc::Request>;
        pair(
            "plug", [&] { ours_.network().plug(guest.uuid, guest.mac, floor_of_each, {}); },
            Requests{life.less_for_others, life.add_class, life.add_filter});
        pair(
            "update", [&] { ours_.network().update(guest.uuid, other_floor); },
            Requests{life.even_less_for_others, life.raise});
        pair(
            "update", [&] { ours_.network().update(guest.uuid, floor_of_each); },
            Requests{life.lower, life.less_for_others});
        pair(
            "unplug", [&] { ours_.network().unplug(guest.uuid); },
            Requests{life.remove_filter, life.remove_class, life.as_before});
    }

    // Where the time of ours goes.
    void stages(const Guest& guest)
    {
        staged_.plug(guest);
        staged_.update(guest, other_floor);
        staged_.update(guest, floor_of_each);
        staged_.unplug(guest);
    }

    // Each bare message by itself, sent and answered.
    void messages(const Guest& guest)
    {
        const auto send = [&](const char* operation, const char* what, const tc::Request& request) {
            const BareMessages message = bare_.messages({request});
            add(operation, what, timed([&] { message.send(); }));
        };
        const auto life = bare_.life_of(guest);
        send("plug", "change of a class", life.less_for_others);
        send("plug", "class", life.add_class);
        send("plug", "filter", life.add_filter);
        send("unplug", "filter", life.remove_filter);
        send("unplug", "class", life.remove_class);
        send("unplug", "change of a class", life.as_before);
    }

    // Ours while somebody listens to the kernel's notices, as the module itself does.
    void watched(const Guest& guest)
    {
        const tc::Monitor monitor(ours_.netlink());
        FlooredNetwork& network = ours_.network();
        add("plug", "watched", timed([&] { network.plug(guest.uuid, guest.mac, floor_of_each, {}); }));
        for (const auto floor : {other_floor, floor_of_each})
            add("update", "watched", timed([&] { network.update(guest.uuid, floor); }));
        add("unplug", "watched", timed([&] { network.unplug(guest.uuid); }));
    }

    int ports_;
    Host ours_, theirs_, pieces_;
    Bare bare_;
    Staged staged_;
    std::mt19937 chance_;
};

void hold(int ports)
{
    const Host host("held", ports);
    Bare bare(host);
    std::mt19937 chance(static_cast<unsigned>(ports) + 1);
    const auto life = bare.life_of(random_guest(chance));
    using Requests = std::vector<tc::Request>;
    for (const auto& requests :
         {Requests{life.less_for_others, life.add_class, life.add_filter},
          Requests{life.even_less_for_others, life.raise}, Requests{life.lower, life.less_for_others},
          Requests{life.remove_filter, life.remove_class, life.as_before}}) {
        const BareMessages messages = bare.messages(requests);
        for (const char byte : messages.bytes())
            std::printf("%02x", static_cast<unsigned char>(byte));
        std::printf("\n");
    }
    std::fflush(stdout);
    while (std::getchar() != EOF) {
    }
}

void measure(int rounds, const std::vector<int>& sizes)
{
    std::printf("[\n");
    for (const int& ports : sizes) {
        Bench bench(ports);
        bench.run(rounds);
        bench.print(&ports == &sizes.back());
    }
    std::printf("]\n");
}

} // namespace

int main(int argc, char** argv)
{
    if (argc < 3) {
        std::fprintf(stderr, "usage: floor-bench ROUNDS PORTS... | hold PORTS\n");
        return EXIT_FAILURE;
    }
    if (unshare(CLONE_NEWNET) < 0) {
        std::perror("floor-bench needs root for a network namespace of its own");
        return EXIT_FAILURE;
    }
    int result = EXIT_SUCCESS;
    try {
        std::vector<int> sizes;
        for (int i = 2; i < argc; ++i)
            sizes.push_back(std::atoi(argv[i]));
        if (std::string(argv[1]) == "hold")
            hold(sizes.front());
        else
            measure(std::atoi(argv[1]), sizes);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "floor-bench: %s\n", error.what());
        result = EXIT_FAILURE;
    }
    std::filesystem::remove_all(state_dir);
    return result;
}
