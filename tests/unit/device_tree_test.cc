// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virfloor/device_tree.h"

#include "fake_kernel.h"
#include "netlink.h"
#include "request.h"
#include "support.h"

#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <vector>

namespace virfloor::tc {
namespace {

using namespace std::chrono_literals;
using test::error_of;
using test::FakeKernel;
using test::LogCapture;
using test::mac;
using test::rate;
using test::uuid;
using testing::HasSubstr;

class DeviceTreeTest : public testing::Test {
protected:
    // Reads, and changes what differs; the number of steps.
    std::size_t reconcile()
    {
        const Tree have = tree_.read();
        Tree want = network_.tree();
        want.leaf = have.leaf;
        const Change change = difference(have, want);
        tree_.apply(change);
        return change.size();
    }
    void plug(unsigned first, unsigned count, unsigned step = 1)
    {
        for (unsigned i = first; i < first + count; ++i)
            network_.plug(uuid(i), mac(i * step), {10 + i % 7});
    }
    void expect_in_step()
    {
        DeviceTree fresh(netlink_, "virbr7", Direction::inbound);
        const Tree have = fresh.read();
        Tree want = network_.tree();
        want.leaf = have.leaf;
        EXPECT_EQ(difference(have, want).size(), 0u);
        want.steering.merge(taken_addresses(have, want));
        EXPECT_EQ(have.steering, want.steering);
        EXPECT_EQ(have.classes.size(), want.classes.size());
    }

    FakeKernel kernel_;
    LogCapture log_;
    std::shared_ptr<Netlink> netlink_ = std::make_shared<Netlink>(20ms);
    DeviceTree tree_{netlink_, "virbr7", Direction::inbound};
    Network network_{"tenants", "virbr7", rate(10000, 20000), {1500}};
};

TEST_F(DeviceTreeTest, MakesATree)
{
    plug(1, 30);
    EXPECT_GT(reconcile(), 30u);
    expect_in_step();
    EXPECT_EQ(kernel_.qdiscs.at(TC_H_ROOT).default_class, 2u);
    EXPECT_EQ(kernel_.qdiscs.at(0x10002).kind, "fq_codel");
    EXPECT_EQ(kernel_.qdiscs.at(0x10003).kind, "fq_codel");
    EXPECT_FALSE(kernel_.qdiscs.contains(0x10001));
    EXPECT_EQ(kernel_.preferences.at(2).root, 0x800); // libvirt's
    EXPECT_EQ(kernel_.preferences.at(10).root, 0x801);
    kernel_.heal();
    EXPECT_EQ(reconcile(), 0u);
    EXPECT_EQ(kernel_.changes, 0u);
}

TEST_F(DeviceTreeTest, TakesTheNextBestLeaf)
{
    for (const auto& [missing, kind] :
         {std::pair<std::set<std::string>, std::string>{{"fq_codel"}, "sfq"}, {{"fq_codel", "sfq"}, ""}}) {
        kernel_.clear();
        kernel_.missing_kinds = missing;
        tree_ = DeviceTree(netlink_, "virbr7", Direction::inbound);
        plug(kind.empty() ? 20 : 1, 3);
        reconcile();
        expect_in_step();
        for (const auto& [handle, at] : kernel_.classes) {
            if (handle == 0x10001)
                continue;
            if (kind.empty())
                EXPECT_FALSE(kernel_.qdiscs.contains(handle));
            else
                EXPECT_EQ(kernel_.qdiscs.at(handle).kind, kind);
        }
    }
}

TEST_F(DeviceTreeTest, AsksForTheLeafOnce)
{
    kernel_.missing_kinds = {"fq_codel"};
    reconcile();
    kernel_.heal();
    plug(1, 1);
    reconcile();
    // Catchment, class, leaf, match.
    EXPECT_EQ(kernel_.changes, 4u);
}

TEST_F(DeviceTreeTest, NamesTheDeviceThatIsNotThere)
{
    DeviceTree other(netlink_, "virbr99", Direction::inbound);
    const auto error = error_of([&] { other.read(); });
    EXPECT_EQ(error.system_errno(), ENODEV);
    EXPECT_THAT(error.what(), HasSubstr("virbr99"));
}

TEST_F(DeviceTreeTest, TellsTheCommandAndTheKernelsText)
{
    kernel_.missing_kinds = {"htb"};
    const auto error = error_of([&] { reconcile(); });
    EXPECT_EQ(error.refusal(), Refusal::system);
    EXPECT_EQ(error.system_errno(), ENOENT);
    EXPECT_THAT(error.what(), HasSubstr("tc qdisc add dev virbr7 root handle 1: htb default 2"));
    EXPECT_THAT(error.what(), HasSubstr("Specified qdisc kind is unknown"));
    EXPECT_EQ(kernel_.picture(), "");
    kernel_.missing_kinds = {"u32"};
    EXPECT_THAT(error_of([&] { reconcile(); }).what(), HasSubstr("TC classifier not found"));
    EXPECT_EQ(kernel_.picture(), "");
}

// Each message of a change is made to fail, in turn and in several ways: the kernel is as before.
class EachMessage : public DeviceTreeTest {
protected:
    void expect_taken_back(const std::function<void()>& change_promises, FakeKernel::Fault fault)
    {
        reconcile();
        const std::string before = kernel_.picture();
        change_promises();
        std::size_t failed = 0;
        for (std::size_t number = 0; number < 500; ++number) {
            kernel_.heal();
            kernel_.fault = [=](std::size_t at, const nlmsghdr&) {
                return at == number ? std::optional(fault) : std::nullopt;
            };
            bool refused = false;
            try {
                reconcile();
            } catch (const Error& error) {
                refused = true;
                if (!fault.silent) {
                    EXPECT_EQ(error.system_errno(), fault.error);
                }
            }
            kernel_.queue.clear();
            if (kernel_.changes <= number)
                break; // past the last message
            if (refused) {
                ++failed;
                ASSERT_EQ(kernel_.picture(), before) << "message " << number;
            } else {
                // A leaf may be missing: then the next best is taken.
                kernel_.heal();
                expect_in_step();
                break;
            }
        }
        EXPECT_GT(failed, 0u);
        kernel_.heal();
        reconcile();
        expect_in_step();
    }
};

const FakeKernel::Fault refused{EPERM, "no", false, false};
const FakeKernel::Fault lost{0, "", true, false};
const FakeKernel::Fault lost_but_done{0, "", true, true};

TEST_F(EachMessage, OfAPlugRefused)
{
    expect_taken_back([&] { plug(1, 1); }, refused);
}
TEST_F(EachMessage, OfAPlugLost)
{
    expect_taken_back([&] { plug(1, 1); }, lost);
}
TEST_F(EachMessage, OfAPlugDoneWithoutAnswer)
{
    expect_taken_back([&] { plug(1, 1); }, lost_but_done);
}
TEST_F(EachMessage, OfManyPlugsWithASplitRefused)
{
    expect_taken_back([&] { plug(1, 12, 256); }, refused);
}
TEST_F(EachMessage, OfAnUnplugRefused)
{
    plug(1, 10, 256);
    expect_taken_back([&] { network_.unplug(uuid(4)); }, refused);
}
TEST_F(EachMessage, OfAnUnplugDoneWithoutAnswer)
{
    plug(1, 10, 256);
    expect_taken_back([&] { network_.unplug(uuid(4)); }, lost_but_done);
}
TEST_F(EachMessage, OfManyUnplugsThatEmptyATableRefused)
{
    plug(1, 10, 256);
    expect_taken_back(
        [&] {
            for (unsigned i = 1; i < 11; ++i)
                network_.unplug(uuid(i));
        },
        refused);
}
TEST_F(EachMessage, OfAnUpdateRefused)
{
    plug(1, 3);
    expect_taken_back([&] { network_.update(uuid(2), {15000}); }, refused);
}

// Everything up to the first question for a leaf, which may be refused.
TEST_F(DeviceTreeTest, AStartThatFailsLeavesNothing)
{
    plug(1, 3);
    for (std::size_t number = 0; number < 12; ++number) {
        kernel_.clear();
        kernel_.heal();
        kernel_.fail_at(number, EPERM, "no");
        tree_ = DeviceTree(netlink_, "virbr7", Direction::inbound);
        EXPECT_EQ(error_of([&] { reconcile(); }).system_errno(), EPERM) << number;
        EXPECT_EQ(kernel_.picture(), "") << number;
    }
}

TEST_F(DeviceTreeTest, AStartIsTakenBackWhereNoLeafIsAnswered)
{
    plug(1, 3);
    // Twelve messages make the tree; the next asks for the leaf.
    kernel_.fault = [](std::size_t at, const nlmsghdr&) { return at == 12 ? std::optional(lost) : std::nullopt; };
    EXPECT_EQ(error_of([&] { reconcile(); }).system_errno(), ETIMEDOUT);
    EXPECT_EQ(kernel_.picture(), "");
}

TEST_F(DeviceTreeTest, AStartIsTakenBackWhereALeafFails)
{
    plug(1, 3);
    kernel_.fail_at(14, ENOMEM);
    EXPECT_EQ(error_of([&] { reconcile(); }).system_errno(), ENOMEM);
    EXPECT_EQ(kernel_.picture(), "");
}

TEST_F(DeviceTreeTest, TellsWhatCannotBeTakenBack)
{
    reconcile();
    plug(1, 1);
    kernel_.heal();
    kernel_.fault = [](std::size_t at, const nlmsghdr&) -> std::optional<FakeKernel::Fault> {
        return at >= 1 ? std::optional(refused) : std::nullopt;
    };
    EXPECT_THAT(error_of([&] { reconcile(); }).what(),
                HasSubstr("not all could be taken back: tc class change dev virbr7"));
    kernel_.heal();
    kernel_.queue.clear();
    reconcile();
    expect_in_step();
}

TEST_F(DeviceTreeTest, RepairsDrift)
{
    plug(1, 40, 64);
    reconcile();
    const std::string whole = kernel_.picture();
    const auto drifted = [&](const std::function<void()>& drift) {
        drift();
        EXPECT_NE(kernel_.picture(), whole);
        EXPECT_GT(reconcile(), 0u);
        EXPECT_EQ(kernel_.picture(), whole);
        EXPECT_EQ(reconcile(), 0u);
    };
    drifted([&] { kernel_.clear(); });
    drifted([&] { kernel_.remove_preference(10); });
    drifted([&] { kernel_.remove_preference(2); });
    drifted([&] { kernel_.classes.at(0x10003).rate = 5; });
    drifted([&] {
        for (auto at = kernel_.nodes.begin(); at != kernel_.nodes.end(); ++at)
            if (at->second.target == 0x10004) {
                kernel_.nodes.erase(at);
                break;
            }
    });
    drifted([&] {
        std::erase_if(kernel_.nodes, [](const auto& at) { return at.second.target == 0x10005; });
        kernel_.classes.erase(0x10005);
        kernel_.qdiscs.erase(0x10005);
    });
    drifted([&] { kernel_.classes[0x19999] = {0x10001, 5, 5, 5, 5, 5}; });
    drifted([&] { kernel_.qdiscs.erase(0x10006); });
    drifted([&] { kernel_.add_fw(1, 1, 0x10001); });
    drifted([&] { kernel_.qdiscs.at(TC_H_ROOT).default_class = 0; });
    // The reservation alone, which is no part of the picture.
    ASSERT_EQ(kernel_.tables.erase(0x7fe), 1u);
    EXPECT_GT(reconcile(), 0u);
    EXPECT_TRUE(kernel_.tables.contains(0x7fe));
    EXPECT_EQ(kernel_.picture(), whole);
    EXPECT_EQ(reconcile(), 0u);
}

TEST_F(DeviceTreeTest, LeavesQemusFiltersAloneAndFollowsThem)
{
    plug(1, 20, 256);
    reconcile();
    kernel_.add_u32(2, ETH_P_IP, mac(0x123456), 0x10003); // for a changed address
    EXPECT_EQ(reconcile(), 1u);
    EXPECT_EQ(reconcile(), 0u);
    network_.unplug(uuid(9));
    reconcile();
    expect_in_step();
    EXPECT_EQ(std::count_if(kernel_.nodes.begin(), kernel_.nodes.end(),
                            [](const auto& at) { return at.second.preference == 2; }),
              1);
}

// With QEMU's filter in place the tables of a deleted preference live on in the kernel, with the
// nodes in them; a new preference of the same number shows them again.
TEST_F(DeviceTreeTest, RepairsOurFiltersBesideQemus)
{
    plug(1, 5);
    reconcile();
    kernel_.add_u32(2, ETH_P_IP, mac(0x123456), 0x10002);
    kernel_.remove_preference(10);
    EXPECT_GT(reconcile(), 0u);
    EXPECT_EQ(reconcile(), 0u);
    expect_in_step();
    network_.unplug(uuid(2));
    EXPECT_NO_THROW(reconcile());
    expect_in_step();
}

class FirewallReload : public DeviceTreeTest {
protected:
    // What libvirt's nftables backend does whenever it loads its rules anew.
    void reload()
    {
        kernel_.remove_preference(2);
        kernel_.add_checksum_filter();
    }
    const FakeKernel::Node& checksum_filter() const
    {
        return std::find_if(kernel_.nodes.begin(), kernel_.nodes.end(),
                            [](const auto& at) { return at.second.checksum.has_value(); })
            ->second;
    }
    // libvirt has made the root, and its filter, before us.
    void SetUp() override
    {
        kernel_.qdiscs[TC_H_ROOT] = {"htb", 0x10000, 2};
        kernel_.add_checksum_filter();
        plug(1, 20, 256);
        reconcile();
        ASSERT_EQ(kernel_.preferences.at(2).root, 0x800);
    }
};

TEST_F(FirewallReload, LibvirtsFilterIsLeftAloneBeforeIt)
{
    kernel_.heal();
    EXPECT_EQ(reconcile(), 0u);
    EXPECT_EQ(kernel_.changes, 0u);
    EXPECT_TRUE(kernel_.tables.contains(0x7fe));
}

TEST_F(FirewallReload, LibvirtsFilterIsPutBackIntoTable800)
{
    std::string whole; // ours is made anew, and need not be in the tables where it was
    for (int i = 0; i < 3; ++i) {
        reload();
        ASSERT_NE(kernel_.preferences.at(2).root, 0x800);
        EXPECT_GT(reconcile(), 0u);
        EXPECT_EQ(kernel_.preferences.at(2).root, 0x800);
        EXPECT_TRUE(kernel_.nodes.contains(0x80000800));
        EXPECT_TRUE(kernel_.tables.contains(0x7fe));
        if (i > 0) {
            EXPECT_EQ(kernel_.picture(), whole);
        }
        whole = kernel_.picture();
        EXPECT_EQ(checksum_filter().checksum, 17u); // of the IPv4 header and of UDP
        EXPECT_EQ(reconcile(), 0u);
        expect_in_step();
    }
}

TEST_F(FirewallReload, LibvirtsFilterOutlivesEachRefusedMessage)
{
    std::size_t failed = 0;
    for (std::size_t number = 0; number < 200; ++number) {
        reload();
        const auto selector = checksum_filter().selector;
        kernel_.heal();
        kernel_.fail_at(number, EPERM, "no");
        bool refused = false;
        try {
            reconcile();
        } catch (const Error&) {
            refused = true;
            ++failed;
        }
        ASSERT_EQ(checksum_filter().selector, selector) << number;
        kernel_.heal();
        reconcile();
        EXPECT_EQ(kernel_.preferences.at(2).root, 0x800);
        expect_in_step();
        if (!refused)
            break; // past the last message
    }
    EXPECT_GT(failed, 20u);
}

class GuestFilters : public FirewallReload {
protected:
    static constexpr unsigned taken = 0x123456;
    // A guest takes an address, and libvirt's QEMU driver leads it to its class.
    void SetUp() override
    {
        FirewallReload::SetUp();
        kernel_.add_u32(2, ETH_P_IP, mac(taken), 0x10003);
        reconcile();
        ASSERT_EQ(steered(), ClassId{3});
    }
    std::optional<ClassId> steered()
    {
        const auto steering = DeviceTree(netlink_, "virbr7", Direction::inbound).read().steering;
        const auto at = steering.find(mac(taken));
        return at == steering.end() ? std::nullopt : std::optional(at->second);
    }
    std::vector<std::uint32_t> of_libvirt() const
    {
        std::vector<std::uint32_t> handles;
        for (const auto& [handle, at] : kernel_.nodes)
            if (at.preference == 2 && at.target == 0x10003)
                handles.push_back(handle);
        return handles;
    }
    void expect_kept()
    {
        EXPECT_GT(reconcile(), 0u);
        EXPECT_THAT(of_libvirt(), testing::ElementsAre(0x80000801u));
        EXPECT_EQ(steered(), ClassId{3});
        EXPECT_EQ(reconcile(), 0u);
        expect_in_step();
    }
};

TEST_F(GuestFilters, AreKeptWhenTheirPreferenceIsMadeAnew)
{
    for (int i = 0; i < 3; ++i) {
        reload();
        ASSERT_TRUE(of_libvirt().empty());
        expect_kept();
    }
}

TEST_F(GuestFilters, AreKeptWhenTheirPreferenceIsDeleted)
{
    kernel_.remove_preference(2);
    expect_kept();
}

TEST_F(GuestFilters, AreKeptWhenTheTreeIsDeleted)
{
    kernel_.clear();
    expect_kept();
}

TEST_F(GuestFilters, AreKeptThoughTheirReturnIsRefusedAtFirst)
{
    reload();
    kernel_.heal();
    kernel_.fail_at(4, EPERM, "no");
    EXPECT_THROW(reconcile(), Error);
    kernel_.heal();
    expect_kept();
}

TEST_F(GuestFilters, DoNotComeBackWhenTheyWentAlone)
{
    kernel_.nodes.erase(0x80000801);
    EXPECT_EQ(reconcile(), 1u);
    reload();
    EXPECT_GT(reconcile(), 0u);
    EXPECT_TRUE(of_libvirt().empty());
    EXPECT_EQ(steered(), std::nullopt);
}

TEST_F(GuestFilters, GoWithTheirGuestInTheSameChange)
{
    reload();
    network_.unplug(uuid(1));
    EXPECT_NO_THROW(reconcile());
    EXPECT_TRUE(of_libvirt().empty());
    EXPECT_EQ(steered(), std::nullopt);
    EXPECT_EQ(reconcile(), 0u);
    expect_in_step();
}

TEST_F(GuestFilters, GiveWayToNewOnesOfTheSameNumber)
{
    reload();
    kernel_.add_u32(2, ETH_P_IP, mac(taken + 1), 0x10003);
    EXPECT_GT(reconcile(), 0u);
    EXPECT_THAT(of_libvirt(), testing::ElementsAre(0x80000801u));
    EXPECT_EQ(steered(), std::nullopt);
    expect_in_step();
}

TEST_F(GuestFilters, AreForgottenWhereTheReservationCannotBe)
{
    kernel_.add_u32(3, ETH_P_IP, mac(0x654321), 0x10002);
    kernel_.remove_preference(2);
    reconcile();
    EXPECT_TRUE(of_libvirt().empty());
    EXPECT_EQ(steered(), std::nullopt);
    expect_in_step();
}

// Other filters there, as far as they are known, are moved, too.
TEST_F(FirewallReload, FiltersThatGoInTheSameChangeAreFound)
{
    reload();
    kernel_.add_u32(2, ETH_P_IP, mac(256), 0x10003); // ours leads there
    kernel_.add_u32(2, ETH_P_IP, mac(0x123456), 0x10004);
    network_.unplug(uuid(2));
    EXPECT_NO_THROW(reconcile());
    EXPECT_EQ(kernel_.preferences.at(2).root, 0x800);
    EXPECT_EQ(std::ranges::count_if(kernel_.nodes, [](const auto& at) { return at.second.preference == 2; }), 1);
    expect_in_step();
}

TEST_F(FirewallReload, WhatCannotBeMadeAgainStays)
{
    const auto expect_left_alone = [&] {
        kernel_.heal();
        EXPECT_EQ(reconcile(), 0u);
        EXPECT_EQ(kernel_.changes, 0u);
        expect_in_step();
    };
    reload();
    FakeKernel::Node& filter = kernel_.nodes.at(std::uint32_t{kernel_.preferences.at(2).root} << 20 | 0x800);
    filter.link_to = 0x7fe;
    expect_left_alone();
    filter.link_to = 0;
    tc_u32_sel longer{};
    longer.nkeys = LibvirtFilter::most_keys + 1;
    filter.selector.assign(sizeof longer + longer.nkeys * sizeof(tc_u32_key), 0);
    std::memcpy(filter.selector.data(), &longer, sizeof longer);
    expect_left_alone();
}

TEST_F(FirewallReload, BesideOthersU32FiltersTheyStay)
{
    kernel_.add_u32(3, ETH_P_IP, mac(0x123456), 0x10002);
    reload();
    const std::string before = kernel_.picture();
    EXPECT_EQ(reconcile(), 0u);
    EXPECT_EQ(kernel_.picture(), before);
}

// u32 tables of others have numbers too, and a restart must not forget them.
TEST_F(DeviceTreeTest, SplitsBesideTablesOfOthersAfterARestart)
{
    reconcile();
    kernel_.add_u32(3, ETH_P_IP, mac(0x123456), 0x10002);
    for (std::uint16_t table = 2; table < 5; ++table)
        kernel_.tables[table] = {3, 1};
    tree_ = DeviceTree(netlink_, "virbr7", Direction::inbound);
    plug(1, 12, 256);
    EXPECT_NO_THROW(reconcile());
    expect_in_step();
}

TEST_F(DeviceTreeTest, TakesOverAStockTree)
{
    kernel_.qdiscs[TC_H_ROOT] = {"htb", 0x10000, 2};
    kernel_.classes[0x10001] = {TC_H_ROOT, 10'000'000, 20'000'000, 1, 1, 1};
    kernel_.classes[0x10002] = {0x10001, 9'990'000, 20'000'000, 1, 1, 1};
    kernel_.classes[0x10003] = {0x10001, 10'000, 20'000'000, 1, 1, 1};
    kernel_.qdiscs[0x10002] = {"sfq", 0x20000, 0};
    kernel_.qdiscs[0x10003] = {"sfq", 0x30000, 0};
    kernel_.add_fw(1, 1, 0x10001);
    kernel_.add_u32(2, ETH_P_IP, mac(1), 0x10003);
    network_.restore(uuid(1), mac(1), {10}, ClassId{3});
    EXPECT_GT(reconcile(), 0u);
    EXPECT_EQ(kernel_.qdiscs.at(0x10002).kind, "fq_codel"); // found to be the best
    EXPECT_EQ(reconcile(), 1u);
    expect_in_step();
    EXPECT_TRUE(kernel_.others.empty());
    EXPECT_EQ(std::count_if(kernel_.nodes.begin(), kernel_.nodes.end(),
                            [](const auto& at) { return at.second.preference == 2; }),
              0);
    EXPECT_EQ(kernel_.qdiscs.at(0x10003).kind, "fq_codel");
    EXPECT_EQ(reconcile(), 0u);
}

TEST_F(DeviceTreeTest, WorksOnSourceAddressesToo)
{
    DeviceTree outbound(netlink_, "virbr7", Direction::outbound);
    plug(1, 20, 256);
    outbound.read();
    outbound.apply(difference({}, network_.tree()));
    EXPECT_EQ(outbound.read().steering.size(), 20u);
    EXPECT_FALSE(tree_.read().filters);
}

TEST_F(DeviceTreeTest, EmptiedTablesGoWithTheNextChange)
{
    plug(1, 12, 256);
    reconcile();
    const std::size_t tables = kernel_.tables.size();
    for (unsigned i = 1; i < 13; ++i)
        network_.unplug(uuid(i));
    reconcile();
    EXPECT_EQ(kernel_.tables.size(), tables);
    plug(50, 1);
    reconcile();
    EXPECT_EQ(kernel_.tables.size(), tables - 1);
    expect_in_step();
}

TEST(OpenNetlink, OpensASocket)
{
    FakeKernel kernel;
    EXPECT_NE(open_netlink(), nullptr);
}

} // namespace
} // namespace virfloor::tc
