// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What one frame costs on its way through a device's tree, in CPU time of its sender, for trees of
// several sizes and addresses of several kinds. Frames of 60 bytes go out by AF_PACKET and sendmmsg,
// through the qdisc of a bridge that then drops them, as it knows none of the addresses; so what
// they cost is the sender's alone. Variants are measured in turn:
//
//     ours              our tree, our filters
//     ours by priority  the class named by SO_PRIORITY, where HTB asks no filter: what the classes cost
//     flat              the same classes, one u32 filter an address in one list
//     flat by priority
//     none              the same classes without filters: all frames are of the default class
//
// The trees are made by the product's own code. Rates are such that nothing is ever delayed. In the
// end each class must have counted the frames that were meant for it, to the last one.
//
//     packet-bench SECONDS PORTS[,PORTS…] KIND…
//
// measures for that long, once all trees are there, and prints a line of JSON for each of our trees, and
// one for each sample (nanoseconds a frame).
//
// In a network namespace of its own; needs root, and Linux 6.14 or later for the priority of a frame.
#include "tc/netlink.h"
#include "tc/reader.h"
#include "tc/request.h"
#include "virfloor/device_tree.h"
#include "virfloor/network.h"
#include "virfloor/tree.h"

#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/pkt_sched.h>
#include <netlink/cache.h>
#include <netlink/route/class.h>
#include <netlink/route/qdisc.h>
#include <netlink/route/tc.h>

#include <arpa/inet.h>
#include <sched.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

namespace {

using namespace virfloor;

constexpr unsigned most_ports = 4096;
constexpr int least_rounds = 10;
// Far above what one processor sends to one guest.
constexpr KilobytesPerSecond floor_of_each{1'000'000};
constexpr KilobytesPerSecond average{2 * most_ports * floor_of_each.count};
// A sample is about this many frames, or one to each port if that is more. Of a long flat list it is
// fewer, which take long, and empty the caches with every frame.
constexpr std::size_t least_frames = 2048;
constexpr std::size_t frames_of_flat = 256;
// To send with a priority costs a check of the sender's rights, so all frames have one: this, which HTB
// does not find, where the filters are to be asked.
constexpr ClassId no_class = last_class;
// Variants on the same tree take turns after this many frames or one to each port.
constexpr std::size_t least_turn = 256;

void check(bool good, const std::string& what)
{
    if (!good)
        throw std::runtime_error(what);
}

void check_errno(bool good, const char* what)
{
    if (!good)
        throw std::system_error(errno, std::generic_category(), what);
}

// --- addresses

using Random = std::mt19937;

std::uint8_t any_byte(Random& random) { return static_cast<std::uint8_t>(random()); }

MacAddress sequential_address(unsigned number, Random&)
{
    return {{0x52, 0x54, 0, static_cast<std::uint8_t>(number >> 16), static_cast<std::uint8_t>(number >> 8),
             static_cast<std::uint8_t>(number)}};
}

// As libvirt makes them.
MacAddress random_address(unsigned, Random& random)
{
    return {{0x52, 0x54, 0, any_byte(random), any_byte(random), any_byte(random)}};
}

MacAddress same_first_four(unsigned, Random& random)
{
    return {{0x52, 0x54, 0, 0, any_byte(random), any_byte(random)}};
}

MacAddress same_last_two(unsigned, Random& random)
{
    return {{0x52, any_byte(random), any_byte(random), any_byte(random), 0, 0}};
}

// No byte tells more than a quarter of them apart.
MacAddress four_values_a_byte(unsigned, Random& random)
{
    MacAddress mac;
    for (auto& byte : mac.bytes)
        byte = random() % 4;
    mac.bytes[0] = static_cast<std::uint8_t>(mac.bytes[0] << 2 | 2); // unicast, locally administered
    return mac;
}

const std::map<std::string, MacAddress (*)(unsigned, Random&)> kinds{
    {"random", random_address},
    {"sequential", sequential_address},
    {"same last two bytes", same_last_two},
    {"same first four bytes", same_first_four},
    {"four values a byte", four_values_a_byte},
};

// In the order in which they come.
std::vector<MacAddress> addresses(const std::string& kind, unsigned count)
{
    Random random(count);
    std::set<MacAddress> drawn;
    std::vector<MacAddress> result;
    for (unsigned number = 0; result.size() < count; ++number) {
        const MacAddress mac = kinds.at(kind)(number, random);
        if (drawn.insert(mac).second)
            result.push_back(mac);
    }
    return result;
}

// --- trees

// Bridges with a port each, as one without has no carrier and its qdisc no frames. The port takes no
// frames for unknown addresses.
void make_bridges(const std::vector<std::string>& names)
{
    const std::unique_ptr<FILE, int (*)(FILE*)> ip(popen("ip -batch -", "w"), pclose);
    check(ip != nullptr, "cannot run ip");
    for (const auto& name : names)
        std::fprintf(ip.get(),
                     "link add %s up type bridge mcast_snooping 0\n"
                     "link add p%s up master %s type ifb\n"
                     "link set p%s type bridge_slave flood off\n",
                     name.c_str(), name.c_str(), name.c_str(), name.c_str());
}

// The way to an address through our tables.
struct Way {
    unsigned tables = 0;  // of 256 buckets
    unsigned matches = 0; // compared, the right one included
};

class Ways {
public:
    explicit Ways(const tc::MacTable::Dump& dump)
    {
        for (const auto& link : dump.links) {
            if (link.handle.table >= tc::first_root_table)
                top_ = link;
            else
                links_[{link.handle.table, link.handle.bucket}] = link;
        }
        for (const auto& match : dump.matches)
            chains_[{match.handle.table, match.handle.bucket}].insert({match.handle.node, match.mac});
    }

    Way to(MacAddress mac) const
    {
        Way way;
        auto link = top_;
        for (;;) {
            ++way.tables;
            const Bucket bucket{link.to, mac.bytes[link.byte]};
            const auto next = links_.find(bucket);
            if (next == links_.end()) {
                for (const auto& [node, found] : chains_.at(bucket)) {
                    ++way.matches;
                    if (found == mac)
                        return way;
                }
                throw std::runtime_error("no filter for " + mac.text());
            }
            link = next->second;
        }
    }

private:
    using Bucket = std::pair<std::uint16_t, std::uint8_t>;
    tc::MacTable::DumpedLink top_{};
    std::map<Bucket, tc::MacTable::DumpedLink> links_;
    std::map<Bucket, std::map<std::uint16_t, MacAddress>> chains_;
};

struct Target {
    MacAddress mac;
    ClassId id;
};

// A device with a tree. The frames sent to each class are counted.
struct Scene {
    std::string kind, filters, device;
    unsigned ports;
    int ifindex = no_ifindex;
    std::vector<Target> targets{};
    std::size_t worst = 0; // target whose way is longest
    std::vector<std::uint64_t> sent = std::vector<std::uint64_t>(std::size_t{last_class.minor} + 1);
};

Tree without_filters(Tree tree)
{
    tree.filters = false;
    tree.steering.clear();
    return tree;
}

// As a program would do that adds one filter for each guest. A list holds no more than 4095; what is
// beyond goes to a second one.
void add_flat_list(tc::Netlink& netlink, const Scene& scene)
{
    constexpr unsigned most_nodes = 0xfff;
    std::vector<tc::Message> messages;
    for (std::size_t i = 0; i < scene.targets.size(); ++i) {
        const auto list = static_cast<std::uint16_t>(i / most_nodes);
        const tc::U32Handle handle{static_cast<std::uint16_t>(tc::first_root_table + list), 0,
                                   static_cast<std::uint16_t>(1 + i % most_nodes)};
        const auto& [mac, id] = scene.targets[i];
        messages.push_back(
            tc::encode({tc::Verb::add, tc::U32Match{handle, mac, id}}, scene.ifindex, tc::MacKey::destination));
        auto* header = static_cast<tcmsg*>(NLMSG_DATA(messages.back().header()));
        header->tcm_info = TC_H_MAKE((std::uint32_t{our_preference} + list) << 16, htons(tc::any_protocol));
    }
    for (const auto& answer : netlink.transact(messages))
        check(answer.error == 0, "flat list: " + std::string(std::strerror(answer.error)) + " " + answer.text);
}

void plug_all(const std::shared_ptr<tc::Netlink>& netlink, Scene& scene)
{
    const bool ours = scene.filters == "ours";
    const auto part = [ours](Tree tree) { return ours ? tree : without_filters(std::move(tree)); };
    Network network(scene.device, scene.device, Rate{average, {}, {}, {}}, Bytes{1500});
    tc::DeviceTree tree(netlink, scene.device, Direction::inbound);
    tree.apply(difference(tree.read(), part(network.tree())));
    Uuid uuid;
    for (const MacAddress mac : addresses(scene.kind, scene.ports)) {
        for (auto& byte : uuid.bytes) // counts
            if (++byte != 0)
                break;
        const Tree before = part(network.branch(mac));
        scene.targets.push_back({mac, network.plug(uuid, mac, floor_of_each).id});
        tree.apply(difference(before, part(network.branch(mac))));
    }
    scene.ifindex = tree.locate();
}

void describe_ways(tc::Netlink& netlink, Scene& scene)
{
    const auto picture = tc::read_picture(netlink, scene.ifindex, tc::MacKey::destination);
    const Ways ways(picture.ours);
    std::vector<unsigned> tables, matches;
    unsigned longest = 0;
    for (std::size_t i = 0; i < scene.targets.size(); ++i) {
        const Way way = ways.to(scene.targets[i].mac);
        tables.push_back(way.tables);
        matches.push_back(way.matches);
        if (way.tables + way.matches > longest) {
            longest = way.tables + way.matches;
            scene.worst = i;
        }
    }
    const auto mean = [](const std::vector<unsigned>& of) {
        return std::accumulate(of.begin(), of.end(), 0.0) / static_cast<double>(of.size());
    };
    std::printf("{\"scene\": \"%s\", \"ports\": %u, \"tables\": %zu, \"tables passed\": %.4f, "
                "\"most tables passed\": %u, \"matches compared\": %.4f, \"most matches compared\": %u}\n",
                scene.kind.c_str(), scene.ports, picture.ours.tables.size(), mean(tables),
                *std::ranges::max_element(tables), mean(matches), *std::ranges::max_element(matches));
}

// --- frames

// Frames for the targets in the order given, as often as it takes. Which message holds which frame
// does not depend on how many targets there are, so the sender's own cost is the same for all.
class Sender {
public:
    Sender(Scene& scene, bool by_priority, const std::vector<std::size_t>& order)
        : scene_(scene), socket_(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0))
    {
        check_errno(socket_ >= 0, "cannot open a packet socket");
        sockaddr_ll address{};
        address.sll_family = AF_PACKET;
        address.sll_ifindex = scene.ifindex;
        check_errno(bind(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0,
                    "cannot bind a packet socket");
        for (const std::size_t at : order) {
            const auto& [mac, id] = scene.targets[at];
            frames_.push_back({mac, tc::class_handle(by_priority ? id : no_class)});
            classes_.push_back(scene.filters == "none" ? catchment_class : id);
        }
        for (std::size_t i = 0; i < batch; ++i)
            prepare(i);
    }
    ~Sender() { close(socket_); }
    Sender(const Sender&) = delete;
    Sender& operator=(const Sender&) = delete;

    // The frames of one turn; CPU time of this thread for all of them, in nanoseconds.
    double send(std::size_t first, std::size_t count)
    {
        const double start = now();
        for (std::size_t at = first; at < first + count; at += batch)
            send_batch(at, std::min(batch, first + count - at));
        const double taken = now() - start;
        for (std::size_t at = first; at < first + count; ++at)
            ++scene_.sent[classes_[at].minor];
        return taken;
    }

private:
    static constexpr std::size_t batch = 64;
    struct Frame {
        MacAddress mac;
        std::uint32_t priority;
    };
    struct Control {
        alignas(cmsghdr) std::array<unsigned char, CMSG_SPACE(sizeof(std::uint32_t))> bytes{};
        cmsghdr& header() { return *reinterpret_cast<cmsghdr*>(bytes.data()); }
    };

    static double now()
    {
        timespec time{};
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
        return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
    }

    void prepare(std::size_t i)
    {
        auto& frame = bytes_[i];
        constexpr std::array<std::uint8_t, 8> source_and_type{0x52, 0x54, 0, 0xff, 0xff, 0xff, 0x88, 0xb5};
        std::ranges::copy(source_and_type, frame.begin() + ETH_ALEN);
        cmsghdr& control = controls_[i].header();
        control.cmsg_len = CMSG_LEN(sizeof(std::uint32_t));
        control.cmsg_level = SOL_SOCKET;
        control.cmsg_type = SO_PRIORITY;
        parts_[i] = {frame.data(), frame.size()};
        auto& message = messages_[i].msg_hdr;
        message.msg_iov = &parts_[i];
        message.msg_iovlen = 1;
        message.msg_control = controls_[i].bytes.data();
        message.msg_controllen = controls_[i].bytes.size();
    }

    void send_batch(std::size_t first, std::size_t count)
    {
        for (std::size_t i = 0; i < count; ++i) {
            const Frame& frame = frames_[first + i];
            std::memcpy(bytes_[i].data(), frame.mac.bytes.data(), frame.mac.bytes.size());
            std::memcpy(CMSG_DATA(&controls_[i].header()), &frame.priority, sizeof frame.priority);
        }
        const int sent = sendmmsg(socket_, messages_.data(), static_cast<unsigned>(count), 0);
        check_errno(sent >= 0, "cannot send (a frame's SO_PRIORITY takes Linux 6.14)");
        check(static_cast<std::size_t>(sent) == count, "not all frames could be sent");
    }

    Scene& scene_;
    int socket_;
    std::vector<Frame> frames_;
    std::vector<ClassId> classes_;
    std::array<std::array<std::uint8_t, ETH_ZLEN>, batch> bytes_{};
    std::array<Control, batch> controls_{};
    std::array<iovec, batch> parts_{};
    std::array<mmsghdr, batch> messages_{};
};

// Each class has seen what was sent to it, and nothing was dropped or delayed.
void check_counters(const Scene& scene)
{
    const std::unique_ptr<nl_sock, void (*)(nl_sock*)> socket(nl_socket_alloc(), nl_socket_free);
    check(nl_connect(socket.get(), NETLINK_ROUTE) == 0, "no netlink");
    const auto each = [&](auto alloc_cache, const std::function<void(rtnl_tc*)>& look) {
        nl_cache* cache = nullptr;
        check(alloc_cache(&cache) == 0, "cannot read counters");
        for (nl_object* at = nl_cache_get_first(cache); at; at = nl_cache_get_next(at))
            look(reinterpret_cast<rtnl_tc*>(at));
        nl_cache_free(cache);
    };
    std::size_t seen = 0;
    each([&](nl_cache** cache) { return rtnl_class_alloc_cache(socket.get(), scene.ifindex, cache); },
         [&](rtnl_tc* at) {
             const auto minor = static_cast<std::uint16_t>(rtnl_tc_get_handle(at));
             if (rtnl_tc_get_handle(at) >> 16 != 1 || minor == root_class.minor)
                 return;
             ++seen;
             const auto packets = rtnl_tc_get_stat(at, RTNL_TC_PACKETS);
             check(packets == scene.sent[minor], scene.device + ": class 1:" + std::to_string(minor) + " saw " +
                                                     std::to_string(packets) + " frames instead of " +
                                                     std::to_string(scene.sent[minor]));
         });
    check(seen == scene.ports + 1, scene.device + ": classes are missing");
    each([&](nl_cache** cache) { return rtnl_qdisc_alloc_cache(socket.get(), cache); },
         [&](rtnl_tc* at) {
             if (rtnl_tc_get_ifindex(at) == scene.ifindex)
                 check(rtnl_tc_get_stat(at, RTNL_TC_DROPS) == 0 && rtnl_tc_get_stat(at, RTNL_TC_OVERLIMITS) == 0,
                       scene.device + ": frames were dropped or delayed");
         });
}

// Variants on one tree that are compared with one another.
struct Run {
    const Scene& scene;
    const char* to; // "all" or "one"
    std::size_t frames, turn;
    std::map<std::string, Sender> variants{};
};

std::vector<std::size_t> order_of(const Scene& scene, bool all, std::size_t frames)
{
    if (!all)
        return std::vector<std::size_t>(frames, scene.worst);
    std::vector<std::size_t> order(std::max<std::size_t>(frames, scene.ports));
    for (std::size_t i = 0; i < order.size(); ++i)
        order[i] = i % scene.ports;
    Random random(scene.ports);
    std::ranges::shuffle(order, random);
    order.resize(frames);
    return order;
}

void add_runs(std::vector<Run>& runs, Scene& scene)
{
    for (const bool all : {true, false}) {
        if (scene.filters == "none" && !all)
            continue; // one class takes them all, whichever address they have
        const std::size_t each = all ? scene.ports : 1;
        const bool slow = scene.filters == "flat" && scene.ports > frames_of_flat;
        const std::size_t turn = slow ? frames_of_flat : std::max(least_turn, each);
        const std::size_t frames = slow ? turn : turn * std::max<std::size_t>(1, least_frames / turn);
        Run& run = runs.emplace_back(Run{scene, all ? "all" : "one", frames, turn});
        const auto order = order_of(scene, all, frames);
        run.variants.try_emplace(scene.filters, scene, false, order);
        if (scene.filters != "none")
            run.variants.try_emplace(scene.filters + " by priority", scene, true, order);
    }
}

void take_sample(Run& run)
{
    std::map<std::string, double> taken;
    for (auto& [variant, sender] : run.variants)
        sender.send(0, run.turn); // what the caches hold must not depend on what ran before
    for (std::size_t first = 0; first < run.frames; first += run.turn)
        for (auto& [variant, sender] : run.variants)
            taken[variant] += sender.send(first, run.turn);
    for (const auto& [variant, sum] : taken)
        std::printf("{\"kind\": \"%s\", \"ports\": %u, \"filters\": \"%s\", \"to\": \"%s\", \"ns\": %.2f}\n",
                    run.scene.kind.c_str(), run.scene.ports, variant.c_str(), run.to,
                    sum / static_cast<double>(run.frames));
}

void stay_on_this_processor()
{
    cpu_set_t processors;
    CPU_ZERO(&processors);
    CPU_SET(sched_getcpu(), &processors);
    check_errno(sched_setaffinity(0, sizeof processors, &processors) == 0, "cannot choose a processor");
}

void no_ipv6()
{
    const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen("/proc/sys/net/ipv6/conf/default/disable_ipv6", "w"),
                                                     std::fclose);
    if (file)
        std::fputs("1", file.get());
}

void run(std::chrono::seconds time, const std::vector<unsigned>& sizes, const std::vector<std::string>& chosen_kinds)
{
    check_errno(unshare(CLONE_NEWNET) == 0, "no network namespace of its own (it takes root)");
    no_ipv6();
    std::vector<Scene> scenes;
    std::vector<std::string> devices;
    const auto add_scene = [&](const std::string& kind, const char* filters, unsigned ports) {
        devices.push_back(std::string("b").append(std::to_string(devices.size())));
        scenes.push_back({kind, filters, devices.back(), ports});
    };
    for (const unsigned ports : sizes) {
        check(ports > 0 && ports <= most_ports, "a number of ports is from 1 to " + std::to_string(most_ports));
        for (const auto& kind : chosen_kinds) {
            check(kinds.contains(kind), "no such kind of addresses: " + kind);
            add_scene(kind, "ours", ports);
        }
        for (const char* filters : {"flat", "none"})
            add_scene(chosen_kinds.front(), filters, ports);
    }
    make_bridges(devices);

    const auto netlink = tc::open_netlink();
    std::vector<Run> runs;
    for (Scene& scene : scenes) {
        plug_all(netlink, scene);
        scene.worst = scene.targets.size() - 1;
        if (scene.filters == "ours")
            describe_ways(*netlink, scene);
        else if (scene.filters == "flat")
            add_flat_list(*netlink, scene);
        add_runs(runs, scene);
    }
    stay_on_this_processor();
    const auto end = std::chrono::steady_clock::now() + time;
    for (int round = 0; round < least_rounds || std::chrono::steady_clock::now() < end; ++round) {
        for (std::size_t i = 0; i < runs.size(); ++i)
            take_sample(runs[round % 2 ? i : runs.size() - 1 - i]);
    }
    for (const Scene& scene : scenes)
        check_counters(scene);
}

} // namespace

int main(int argc, char** argv)
{
    try {
        check(argc > 3, "usage: packet-bench SECONDS PORTS[,PORTS…] KIND…");
        std::vector<unsigned> sizes;
        std::istringstream list(argv[2]);
        for (std::string size; std::getline(list, size, ',');)
            sizes.push_back(static_cast<unsigned>(std::atoi(size.c_str())));
        run(std::chrono::seconds(std::atoi(argv[1])), sizes, {argv + 3, argv + argc});
        return EXIT_SUCCESS;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "packet-bench: %s\n", error.what());
        return EXIT_FAILURE;
    }
}
