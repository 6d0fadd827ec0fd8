// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A real kernel, in a network namespace of our own. Skipped where that is not to be had.
#include "floored_network.h"
#include "netlink.h"
#include "reader.h"
#include "request.h"
#include "support.h"
#include "virfloor/device_tree.h"
#include "virfloor/monitor.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <net/if.h>
#include <netlink/msg.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

namespace virfloor::tc {
namespace {

using namespace std::chrono_literals;
using test::LogCapture;
using test::mac;
using test::rate;
using test::TemporaryDirectory;
using test::uuid;

constexpr char bridge[] = "floortest0";

class KernelTest : public testing::Test {
protected:
    static void SetUpTestSuite()
    {
        if (geteuid() != 0)
            missing = "needs root";
        else if (unshare(CLONE_NEWNET) < 0)
            missing = std::string("no network namespace: ") + std::strerror(errno);
    }

    void SetUp() override
    {
        if (!missing.empty())
            GTEST_SKIP() << missing;
        netlink_ = open_netlink();
        make_bridge();
        if (!has("htb and u32"))
            GTEST_SKIP() << missing;
    }
    void TearDown() override
    {
        if (netlink_)
            link(RTM_DELLINK, 0);
    }

    void link(std::uint16_t type, std::uint16_t flags)
    {
        // ip link add floortest0 type bridge; struct ifinfomsg is shorter than tcmsg by 4 bytes.
        static_assert(sizeof(ifinfomsg) + 4 == sizeof(tcmsg));
        tcmsg header{};
        Message message(type, static_cast<std::uint16_t>(NLM_F_ACK | flags), header);
        message.header()->nlmsg_len = NLMSG_LENGTH(sizeof(ifinfomsg));
        message.put(IFLA_IFNAME, bridge);
        if (type == RTM_NEWLINK) {
            nlattr* info = message.begin(IFLA_LINKINFO);
            message.put(IFLA_INFO_KIND, "bridge");
            message.end(info);
        }
        const auto answer = netlink_->transact({&message, 1}).front();
        ASSERT_EQ(answer.error, 0) << answer.text;
    }
    void make_bridge() { link(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL); }

    Answer ask(const Request& request)
    {
        const Message message = encode(request, static_cast<int>(if_nametoindex(bridge)), MacKey::destination);
        return netlink_->transact({&message, 1}).front();
    }
    bool has(const char* what)
    {
        const bool all = ask({Verb::add, RootQdisc{}}).error == 0 &&
                         ask({Verb::add, U32Table{1, 256, {10, any_protocol}}}).error == 0;
        ask({Verb::remove, RootQdisc{}});
        if (!all)
            missing = std::string("this kernel lacks ") + what;
        return all;
    }
    // A u32 filter as QEMU's driver makes it at preference 2.
    void add_qemu_filter(MacAddress address, ClassId target)
    {
        U32Match match{{0x800, 0, 0x805}, address, target};
        Message message = encode({Verb::add, match}, static_cast<int>(if_nametoindex(bridge)), MacKey::destination);
        static_cast<tcmsg*>(nlmsg_data(message.header()))->tcm_info = 2u << 16 | htons(ETH_P_IP);
        const auto answer = netlink_->transact({&message, 1}).front();
        ASSERT_EQ(answer.error, 0) << kernel_error("QEMU's filter", answer).what();
    }

    std::unique_ptr<FlooredNetwork> floored(unsigned ports)
    {
        Network network("tenants", bridge, rate(100000, 200000), {1500});
        for (unsigned i = 1; i <= ports; ++i)
            network.plug(uuid(i), mac(i % 2 ? i : i << 8), {10 + i % 90});
        return std::make_unique<FlooredNetwork>(std::move(network), DeviceTree(netlink_, bridge, Direction::inbound),
                                                directory_);
    }
    void expect_read_back(const FlooredNetwork& network)
    {
        DeviceTree tree(netlink_, bridge, Direction::inbound);
        const Tree have = tree.read();
        Tree want = network.promises().tree();
        want.leaf = have.leaf;
        EXPECT_TRUE(difference(have, want).empty());
        want.steering.merge(taken_addresses(have, want));
        EXPECT_EQ(have.steering, want.steering);
        EXPECT_EQ(have.classes.size(), want.classes.size());
        for (const auto& [id, at] : want.classes) {
            ASSERT_TRUE(have.classes.contains(id));
            EXPECT_EQ(have.classes.at(id).shape.rate, at.shape.rate);
            EXPECT_EQ(have.classes.at(id).shape.burst, at.shape.burst);
        }
    }
    std::size_t size_of_picture()
    {
        const auto picture = read_picture(*netlink_, static_cast<int>(if_nametoindex(bridge)), MacKey::destination);
        return picture.classes.size() + picture.ours.matches.size() + picture.ours.links.size();
    }

    static std::string missing;
    std::shared_ptr<Netlink> netlink_;
    LogCapture log_;
    TemporaryDirectory temporary_;
    StatusDirectory directory_{temporary_.path()};
};

std::string KernelTest::missing;

TEST_F(KernelTest, WhatIsReadBackIsWhatIsWanted)
{
    for (const unsigned ports : {1u, 100u, 1000u}) {
        auto network = floored(ports);
        EXPECT_GT(network->reconcile(), 0u);
        expect_read_back(*network);
        EXPECT_EQ(network->reconcile(), 0u);
    }
}

TEST_F(KernelTest, RemovalLeavesNothing)
{
    auto network = floored(300);
    network->reconcile();
    for (unsigned i = 1; i <= 300; ++i)
        network->unplug(uuid(i));
    expect_read_back(*network);
    EXPECT_EQ(size_of_picture(), 3u); // root, catchment, link to the first table
    std::this_thread::sleep_for(50ms);
    network->plug(uuid(1), mac(1), {10}, {});
    network->unplug(uuid(1));
    const auto picture = read_picture(*netlink_, static_cast<int>(if_nametoindex(bridge)), MacKey::destination);
    EXPECT_EQ(picture.ours.tables.size(), 1u);
}

TEST_F(KernelTest, DriftIsRepaired)
{
    auto network = floored(100);
    network->reconcile();
    const auto repaired = [&] {
        EXPECT_GT(network->reconcile(), 0u);
        expect_read_back(*network);
        EXPECT_EQ(network->reconcile(), 0u);
    };
    ASSERT_EQ(ask({Verb::remove, Preference{our_preference, any_protocol}}).error, 0);
    repaired();
    ASSERT_EQ(ask({Verb::remove, Preference{libvirt_preference, ip_protocol}}).error, 0);
    repaired();
    ASSERT_EQ(ask({Verb::remove, RootQdisc{}}).error, 0);
    repaired();
    ASSERT_EQ(ask({Verb::change, HtbClass{{3}, root_class, {{5000}, {6000}, {1000}, {1000}, 2000}}}).error, 0);
    repaired();
    ASSERT_EQ(ask({Verb::add, HtbClass{{0x9999}, root_class, {{5000}, {6000}, {1000}, {1000}, 2000}}}).error, 0);
    repaired();
    network->plug(uuid(2000), mac(0x777777), {5}, {});
    ask({Verb::remove, RootQdisc{}});
    network->plug(uuid(2001), mac(0x777778), {5}, {});
    expect_read_back(*network);
}

TEST_F(KernelTest, ATreeThatIsRightIsNotTouched)
{
    auto network = floored(50);
    network->reconcile();
    FlooredNetwork restarted(Network(network->promises()), DeviceTree(netlink_, bridge, Direction::inbound),
                             directory_);
    EXPECT_EQ(restarted.reconcile(), 0u);
    for (unsigned i = 60; i < 90; ++i)
        restarted.plug(uuid(i), mac(i << 8), {5}, {});
    expect_read_back(restarted);
}

TEST_F(KernelTest, QemusFiltersWorkBesideOurs)
{
    auto network = floored(20);
    network->reconcile();
    add_qemu_filter(mac(0x123456), {3});
    EXPECT_EQ(network->reconcile(), 1u); // ours, for the same address
    EXPECT_EQ(network->reconcile(), 0u);
    network->unplug(uuid(5));
    expect_read_back(*network);
}

// The tables of a deleted preference live on beside another u32 preference, with what is in them.
TEST_F(KernelTest, OurFiltersAreRepairedBesideQemus)
{
    auto network = floored(20);
    network->reconcile();
    add_qemu_filter(mac(0x123456), catchment_class);
    ASSERT_EQ(ask({Verb::remove, Preference{our_preference, any_protocol}}).error, 0);
    EXPECT_GT(network->reconcile(), 0u);
    EXPECT_EQ(network->reconcile(), 0u);
    expect_read_back(*network);
    EXPECT_NO_THROW(network->unplug(uuid(5)));
    expect_read_back(*network);
}

// As it is after libvirt has deleted its preference and made a filter there again, but for that one's action,
// which not every kernel has.
TEST_F(KernelTest, LibvirtsFilterIsPutBackIntoTable800)
{
    auto network = floored(20);
    network->reconcile();
    const Preference libvirts{libvirt_preference, ip_protocol};
    ASSERT_EQ(ask({Verb::remove, libvirts}).error, 0);
    tc_u32_sel selector{};
    selector.flags = TC_U32_TERMINAL;
    selector.nkeys = 1;
    const tc_u32_key port{htonl(0xffff), htonl(68), 20, 0};
    LibvirtFilter filter{{0, 0, 0x800}, libvirts, std::vector<unsigned char>(sizeof selector + sizeof port), {}, {}};
    std::memcpy(filter.selector.data(), &selector, sizeof selector);
    std::memcpy(filter.selector.data() + sizeof selector, &port, sizeof port);
    ASSERT_EQ(ask({Verb::add, filter}).error, 0);
    const auto read = [this] {
        return read_picture(*netlink_, static_cast<int>(if_nametoindex(bridge)), MacKey::destination);
    };
    ASSERT_NE(read().libvirt_root_table, first_root_table);

    EXPECT_GT(network->reconcile(), 0u);
    EXPECT_EQ(network->reconcile(), 0u);
    expect_read_back(*network);
    filter.handle.table = first_root_table;
    EXPECT_EQ(read().libvirt_root_table, first_root_table);
    EXPECT_EQ(read().libvirts, std::vector{filter});
    add_qemu_filter(mac(0x123456), {3});
    EXPECT_EQ(network->reconcile(), 1u);
}

TEST_F(KernelTest, ARefusalHasTheKernelsText)
{
    auto network = floored(1);
    network->reconcile();
    const auto answer = ask({Verb::remove, HtbClass{root_class, {}, {}}});
    EXPECT_EQ(answer.error, EBUSY);
    EXPECT_NE(answer.text, "");
    EXPECT_EQ(ask({Verb::add, RootQdisc{}}).error, EEXIST);
}

TEST_F(KernelTest, RatesOf64BitsAreKept)
{
    Network fast("fast", bridge, rate(12'500'000, 12'500'000), {9000});
    fast.plug(uuid(1), mac(1), {5'000'000});
    FlooredNetwork network(std::move(fast), DeviceTree(netlink_, bridge, Direction::inbound), directory_);
    network.reconcile();
    expect_read_back(network);
    EXPECT_EQ(network.reconcile(), 0u);
}

TEST_F(KernelTest, ABridgeThatGoesIsAnError)
{
    auto network = floored(1);
    network->reconcile();
    link(RTM_DELLINK, 0);
    const auto error = test::error_of([&] { network->plug(uuid(9), mac(9), {5}, {}); });
    EXPECT_EQ(error.system_errno(), ENODEV);
    EXPECT_EQ(network->promises().ports().size(), 1u);
    make_bridge();
    network->plug(uuid(9), mac(9), {5}, {});
    expect_read_back(*network);
}

// --- notices

class MonitorTest : public KernelTest {
protected:
    using About = Notice::About;

    std::vector<Notice> taken(Monitor& monitor)
    {
        std::vector<Notice> notices;
        monitor.take([&notices](const Notice& notice) { notices.push_back(notice); });
        return notices;
    }
    // As another program would: over a socket of its own.
    int ask_as_other(const Request& request)
    {
        Netlink other;
        const Message message = encode(request, index(), MacKey::destination);
        return other.transact({&message, 1}).front().error;
    }
    static int index() { return static_cast<int>(if_nametoindex(bridge)); }
};

TEST_F(MonitorTest, TellsOfWhatOthersChange)
{
    Monitor monitor(*netlink_);
    EXPECT_THAT(taken(monitor), testing::IsEmpty());
    ASSERT_EQ(ask_as_other({Verb::add, RootQdisc{}}), 0);
    const Notice qdisc{About::traffic_control, index(), ""};
    EXPECT_THAT(taken(monitor), testing::Contains(qdisc));
    ASSERT_EQ(ask_as_other({Verb::add, U32Table{1, 256, {10, any_protocol}}}), 0);
    EXPECT_THAT(taken(monitor), testing::Contains(qdisc));
    ASSERT_EQ(ask_as_other({Verb::remove, RootQdisc{}}), 0);
    EXPECT_THAT(taken(monitor), testing::Contains(qdisc));
    EXPECT_THAT(taken(monitor), testing::IsEmpty());
}

TEST_F(MonitorTest, DoesNotTellOfOurOwnChanges)
{
    Monitor monitor(*netlink_);
    const auto network = floored(50);
    network->reconcile();
    network->unplug(uuid(7));
    for (const Notice& notice : taken(monitor))
        EXPECT_NE(notice.about, About::traffic_control);
}

TEST_F(MonitorTest, TellsOfDevicesByName)
{
    Netlink other;
    Monitor monitor(other);
    const int before = index();
    link(RTM_DELLINK, 0);
    EXPECT_THAT(taken(monitor), testing::Contains(Notice{About::device_gone, before, bridge}));
    make_bridge();
    EXPECT_THAT(taken(monitor), testing::Contains(Notice{About::device, index(), bridge}));
}

TEST_F(MonitorTest, SaysThatNoticesWereLost)
{
    Monitor monitor(*netlink_);
    const int small = 1;
    ASSERT_EQ(setsockopt(monitor.descriptor(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small), 0);
    for (int i = 0; i < 20; ++i) {
        ASSERT_EQ(ask_as_other({Verb::add, RootQdisc{}}), 0);
        ASSERT_EQ(ask_as_other({Verb::remove, RootQdisc{}}), 0);
    }
    EXPECT_THAT(taken(monitor), testing::Contains(Notice{About::anything, 0, ""}));
    EXPECT_THAT(taken(monitor), testing::IsEmpty());
}

} // namespace
} // namespace virfloor::tc
