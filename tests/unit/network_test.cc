// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virfloor/network.h"

#include "support.h"

#include <map>

namespace virfloor::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr Bytes mtu{1500};

Network network(const Rate& limits = rate(10000, 20000)) { return {"tenants", "virbr7", limits, mtu}; }

std::uint64_t sum_of_children(const Tree& tree, ClassId parent)
{
    std::uint64_t sum = 0;
    for (const auto& [id, at] : tree.classes)
        if (at.parent == parent)
            sum += at.shape.rate.count;
    return sum;
}

void expect_sound(const Network& network)
{
    const Tree tree = network.tree();
    const auto& root = tree.classes.at(root_class);
    ASSERT_TRUE(root.inner);
    ASSERT_FALSE(root.parent);
    ASSERT_EQ(sum_of_children(tree, root_class), root.shape.rate.count);
    ASSERT_TRUE(tree.root && tree.filters);
    std::map<MacAddress, std::uint64_t> largest;
    for (const auto& [uuid, port] : network.ports()) {
        largest[port.mac] = std::max(largest[port.mac], port.floor.count);
        ASSERT_EQ(tree.steering.at(port.mac), port.id);
    }
    std::uint64_t floors = 0;
    for (const auto& [address, floor] : largest) {
        floors += floor;
        ASSERT_EQ(tree.classes.at(tree.steering.at(address)).shape.rate.count, floor * 1000);
    }
    ASSERT_EQ(tree.classes.size(), largest.size() + 2);
    ASSERT_EQ(tree.steering.size(), largest.size());
    ASSERT_EQ(network.floor_sum().count, floors);
    for (const auto& [id, at] : tree.classes) {
        ASSERT_GT(at.shape.rate.count, 0u);
        ASSERT_GE(at.shape.ceil, at.shape.rate);
        ASSERT_GT(at.shape.burst.count, 0u);
        ASSERT_GT(at.shape.cburst.count, 0u);
        ASSERT_LE(at.shape.quantum, max_quantum);
        ASSERT_GE(at.shape.quantum, std::min<std::uint64_t>(network.mtu().count, max_quantum));
        ASSERT_EQ(at.parent.has_value(), id != root_class);
    }
}

TEST(Network, NeedsAnAverage)
{
    const auto error = error_of([] { network(rate(0, 5)); });
    EXPECT_EQ(error.refusal(), Refusal::config_unsupported);
    EXPECT_THAT(error.what(), HasSubstr("tenants"));
}

TEST(Network, StartsWithRootAndCatchment)
{
    const Network empty = network();
    EXPECT_EQ(empty.name(), "tenants");
    EXPECT_EQ(empty.bridge(), "virbr7");
    EXPECT_EQ(empty.direction(), Direction::inbound);
    EXPECT_EQ(taken_ids(empty), "0-2");
    const Tree tree = empty.tree();
    EXPECT_EQ(tree.classes.size(), 2u);
    EXPECT_EQ(tree.classes.at(root_class).shape.rate.count, 10'000'000u);
    EXPECT_EQ(tree.classes.at(root_class).shape.ceil.count, 20'000'000u);
    EXPECT_EQ(tree.classes.at(catchment_class).shape.rate.count, 10'000'000u);
    EXPECT_EQ(tree.classes.at(catchment_class).parent, root_class);
    expect_sound(empty);
}

TEST(Network, PlugsAndUnplugs)
{
    Network tenants = network();
    const Port& one = tenants.plug(uuid(1), mac(1), {3000});
    EXPECT_EQ(one, (Port{uuid(1), mac(1), {3}, {3000}}));
    EXPECT_EQ(tenants.plug(uuid(2), mac(2), {1000}).id, ClassId{4});
    EXPECT_EQ(tenants.floor_sum().count, 4000u);
    EXPECT_EQ(tenants.tree().classes.at(catchment_class).shape.rate.count, 6'000'000u);
    EXPECT_EQ(taken_ids(tenants), "0-4");
    expect_sound(tenants);
    tenants.unplug(uuid(1));
    EXPECT_EQ(tenants.find(uuid(1)), nullptr);
    EXPECT_EQ(taken_ids(tenants), "0-2,4");
    EXPECT_EQ(tenants.plug(uuid(3), mac(1), {1}).id, ClassId{3});
    expect_sound(tenants);
}

TEST(Network, HonoursAPreferredIdThatIsFree)
{
    Network tenants = network();
    EXPECT_EQ(tenants.plug(uuid(1), mac(1), {1}, ClassId{77}).id, ClassId{77});
    EXPECT_EQ(tenants.plug(uuid(2), mac(2), {1}, ClassId{77}).id, ClassId{3});
    for (unsigned reserved = 0; reserved < 3; ++reserved)
        EXPECT_EQ(
            tenants.plug(uuid(10 + reserved), mac(10 + reserved), {1}, ClassId{static_cast<std::uint16_t>(reserved)})
                .id.minor,
            4 + reserved);
    EXPECT_EQ(tenants.plug(uuid(3), mac(3), {1}, ClassId{65535}).id, ClassId{65535});
}

TEST(Network, AdmitsUpToThePeakAndNoMore)
{
    Network tenants = network();
    tenants.plug(uuid(1), mac(1), {15000});
    EXPECT_REFUSED(operation_invalid, tenants.plug(uuid(2), mac(2), {5001}));
    EXPECT_EQ(tenants.plug(uuid(2), mac(2), {5000}).id, ClassId{4});
    const Tree tree = tenants.tree();
    EXPECT_EQ(tree.classes.at(catchment_class).shape.rate, tenants.reserve());
    EXPECT_EQ(tree.classes.at(root_class).shape.rate, in_bytes(KilobytesPerSecond{20000}) + tenants.reserve());
    EXPECT_EQ(tree.classes.at(root_class).shape.ceil, tree.classes.at(root_class).shape.rate);
    expect_sound(tenants);
    EXPECT_REFUSED(operation_invalid, tenants.plug(uuid(3), mac(3), {1}));
}

TEST(Network, AdmitsUpToTheAverageWithoutPeak)
{
    Network tenants = network(rate(1000));
    EXPECT_THAT(error_of([&] { tenants.plug(uuid(1), mac(1), {1001}); }).what(), HasSubstr("average=1000"));
    tenants.plug(uuid(1), mac(1), {1000});
    expect_sound(tenants);
}

TEST(Network, PeakBelowAverageIsTheLimit)
{
    Network tenants = network(rate(1000, 500));
    EXPECT_THAT(error_of([&] { tenants.plug(uuid(1), mac(1), {501}); }).what(), HasSubstr("peak=500"));
    tenants.plug(uuid(1), mac(1), {500});
    expect_sound(tenants);
}

TEST(Network, FloorAboveAverageButNotAbovePeakIsTaken)
{
    Network tenants = network();
    tenants.plug(uuid(1), mac(1), {19000});
    const Tree tree = tenants.tree();
    EXPECT_GT(tree.classes.at(root_class).shape.rate.count, 19'000'000u);
    EXPECT_LE(tree.classes.at(root_class).shape.ceil.count, 20'000'000u);
    expect_sound(tenants);
}

TEST(Network, ARefusalSaysWhatStoodInTheWay)
{
    Network tenants = network();
    tenants.plug(uuid(1), mac(1), {15000});
    const auto error = error_of([&] { tenants.plug(uuid(2), mac("52:54:00:aa:bb:cc"), {6000}); });
    EXPECT_EQ(error.refusal(), Refusal::operation_invalid);
    EXPECT_THAT(error.what(),
                AllOf(HasSubstr("would overcommit"), HasSubstr("tenants"), HasSubstr("virbr7"),
                      HasSubstr("52:54:00:aa:bb:cc"), HasSubstr("21000"), HasSubstr("peak=20000"), HasSubstr("6000")));
    EXPECT_EQ(tenants.ports().size(), 1u);
    EXPECT_EQ(taken_ids(tenants), "0-3");
    EXPECT_EQ(tenants.floor_sum().count, 15000u);
}

TEST(Network, RefusesHugeFloorsWithoutOverflow)
{
    Network tenants = network();
    tenants.plug(uuid(1), mac(1), {15000});
    for (const std::uint64_t floor : {max_rate.count, UINT64_MAX, UINT64_MAX - 15000 + 1, UINT64_MAX - 14999})
        EXPECT_REFUSED(operation_invalid, tenants.plug(uuid(2), mac(2), {floor})) << floor;
    EXPECT_REFUSED(operation_invalid, tenants.update(uuid(1), {UINT64_MAX}));
    expect_sound(tenants);
}

TEST(Network, PortsOfOneMacShareAClass)
{
    Network tenants = network();
    tenants.plug(uuid(1), mac(1), {100});
    EXPECT_EQ(tenants.plug(uuid(2), mac(1), {300}, ClassId{77}).id, ClassId{3});
    EXPECT_EQ(tenants.floor_sum().count, 300u); // the largest counts
    EXPECT_EQ(taken_ids(tenants), "0-3");
    expect_sound(tenants);
    tenants.update(uuid(1), {500});
    EXPECT_EQ(tenants.floor_sum().count, 500u);
    tenants.unplug(uuid(1));
    EXPECT_EQ(tenants.floor_sum().count, 300u);
    EXPECT_EQ(tenants.find(uuid(2))->id, ClassId{3});
    expect_sound(tenants);
    tenants.unplug(uuid(2));
    EXPECT_EQ(tenants.floor_sum().count, 0u);
    EXPECT_EQ(taken_ids(tenants), "0-2");
    EXPECT_TRUE(tenants.tree().steering.empty());
}

TEST(Network, ASharedClassIsAdmittedOnce)
{
    Network tenants = network(rate(1000));
    tenants.plug(uuid(1), mac(1), {600});
    tenants.plug(uuid(2), mac(1), {1000});
    EXPECT_REFUSED(operation_invalid, tenants.plug(uuid(3), mac(1), {1001}));
    EXPECT_REFUSED(operation_invalid, tenants.plug(uuid(3), mac(2), {1}));
    EXPECT_REFUSED(operation_invalid, tenants.update(uuid(1), {1001}));
    tenants.update(uuid(1), {1000});
    tenants.unplug(uuid(2));
    EXPECT_EQ(tenants.floor_sum().count, 1000u);
    expect_sound(tenants);
}

TEST(Network, RefusesWhenAllIdsAreTaken)
{
    Network tenants = network(rate(100000));
    for (unsigned i = 3; i <= 65535; ++i)
        ASSERT_EQ(tenants.plug(uuid(i), mac(i), {1}).id.minor, i);
    EXPECT_EQ(taken_ids(tenants), "0-65535");
    const auto error = error_of([&] { tenants.plug(uuid(70000), mac(70000), {1}); });
    EXPECT_EQ(error.refusal(), Refusal::operation_invalid);
    EXPECT_THAT(error.what(),
                AllOf(HasSubstr("class IDs"), HasSubstr("65535"), HasSubstr("tenants"), HasSubstr(mac(70000).text())));
    EXPECT_EQ(tenants.floor_sum().count, 65533u);
    tenants.unplug(uuid(40000));
    EXPECT_EQ(tenants.plug(uuid(70000), mac(70000), {1}).id.minor, 40000);
    expect_sound(tenants);
}

TEST(Network, UpdatesInPlace)
{
    Network tenants = network();
    tenants.plug(uuid(1), mac(1), {15000});
    tenants.plug(uuid(2), mac(2), {1000});
    EXPECT_REFUSED(operation_invalid, tenants.update(uuid(1), {19001}));
    EXPECT_EQ(tenants.find(uuid(1))->floor.count, 15000u);
    EXPECT_EQ(tenants.update(uuid(1), {19000}).id, ClassId{3});
    EXPECT_EQ(tenants.floor_sum().count, 20000u);
    expect_sound(tenants);
    tenants.update(uuid(1), {1});
    EXPECT_EQ(tenants.floor_sum().count, 1001u);
    expect_sound(tenants);
    EXPECT_THROW(tenants.update(uuid(9), {1}), std::exception);
}

TEST(Network, RestoresBeyondTheLimit)
{
    Network tenants = network(rate(1000));
    tenants.restore(uuid(1), mac(1), {900}, ClassId{9});
    tenants.restore(uuid(2), mac(2), {900}, ClassId{9});
    EXPECT_EQ(tenants.find(uuid(2))->id, ClassId{3});
    EXPECT_EQ(tenants.floor_sum().count, 1800u);
    expect_sound(tenants);
    EXPECT_REFUSED(operation_invalid, tenants.plug(uuid(3), mac(3), {1}));
    EXPECT_REFUSED(operation_invalid, tenants.update(uuid(1), {901}));
    tenants.set_floor(uuid(1), {2000});
    expect_sound(tenants);
    EXPECT_REFUSED(operation_invalid, tenants.restore(uuid(3), mac(3), max_rate, {}));
    EXPECT_EQ(taken_ids(tenants), "0-3,9");
    EXPECT_THROW(tenants.restore(uuid(1), mac(4), {1}, {}), std::logic_error);
    EXPECT_THROW(tenants.restore(uuid(4), mac(4), {0}, {}), std::logic_error);
    expect_sound(tenants);
}

TEST(Network, ReserveIsOnePartIn200WithinBounds)
{
    EXPECT_EQ(network(rate(1)).reserve().count, 1000u);
    EXPECT_EQ(network(rate(200)).reserve().count, 1000u);
    EXPECT_EQ(network(rate(1000)).reserve().count, 5000u);
    EXPECT_EQ(network(rate(25000)).reserve().count, 125000u);
    EXPECT_EQ(network(rate(12500000)).reserve().count, 125000u);
    EXPECT_EQ(network({max_rate, {}, {}, {}}).reserve().count, 125000u);
}

TEST(Network, TheTotalStaysBelowTheAverageUnlessFloorsNeedMore)
{
    Network tenants = network();
    tenants.plug(uuid(1), mac(1), {9900});
    EXPECT_EQ(tenants.tree().classes.at(root_class).shape.rate.count, 10'000'000u);
    tenants.update(uuid(1), {9950});
    EXPECT_EQ(tenants.tree().classes.at(root_class).shape.rate.count, 10'000'000u);
    tenants.update(uuid(1), {9951});
    EXPECT_EQ(tenants.tree().classes.at(root_class).shape.rate.count, 10'001'000u);
}

TEST(Network, BurstFollowsTheXml)
{
    const auto root_of = [](const Network& of) { return of.tree().classes.at(root_class).shape; };
    // 512 KiB at 10 MB/s are 52.4288 ms of 64 ns.
    EXPECT_EQ(root_of(network(rate(10000, 0, 0, 512))).burst.count, 819200u);
    EXPECT_EQ(root_of(network(rate(10000, 0, 0, 512))).cburst.count, 819200u);
    EXPECT_EQ(root_of(network(rate(10000, 20000, 0, 512))).burst.count, 819200u);
    EXPECT_EQ(root_of(network(rate(10000, 20000, 0, 512))).cburst.count, 78125u);
    EXPECT_EQ(root_of(network()).burst.count, 78125u); // 5 ms
    EXPECT_EQ(root_of(network({{1}, {}, {}, max_burst})).burst.count, UINT32_MAX);
}

TEST(Network, ABucketHoldsAMegabyteBetweenFiveMillisecondsAndOne)
{
    const auto bucket = [](std::uint64_t average) {
        return network(rate(average)).tree().classes.at(catchment_class).shape.burst.count;
    };
    EXPECT_EQ(bucket(200'000), 78125u);   // 5 ms
    EXPECT_EQ(bucket(500'000), 31250u);   // 2 ms
    EXPECT_EQ(bucket(1'000'000), 15625u); // 1 ms
    EXPECT_EQ(bucket(12'500'000), 15625u);
}

TEST(Network, ABucketNeverHoldsLessThanAFrame)
{
    Network slow("slow", "virbr8", rate(100), {9000});
    slow.plug(uuid(1), mac(1), {1});
    // 9014 bytes at 1000 bytes a second: 9.014 s.
    EXPECT_EQ(slow.tree().classes.at(ClassId{3}).shape.burst.count, 140843750u);
    EXPECT_EQ(slow.tree().classes.at(ClassId{3}).shape.cburst.count, 1408438u);
    expect_sound(slow);
}

TEST(Network, QuantumFollowsTheFloor)
{
    Network tenants = network(rate(10000));
    tenants.plug(uuid(1), mac(1), {1});
    tenants.plug(uuid(2), mac(2), {1000});
    tenants.plug(uuid(3), mac(3), {2000});
    const Tree tree = tenants.tree();
    EXPECT_EQ(tree.classes.at(ClassId{3}).shape.quantum, 1514u);
    EXPECT_EQ(tree.classes.at(ClassId{4}).shape.quantum, 50000u); // 50 ms
    EXPECT_EQ(tree.classes.at(ClassId{5}).shape.quantum, 100000u);
    Network jumbo("jumbo", "virbr9", rate(10), {65535});
    EXPECT_EQ(jumbo.tree().classes.at(catchment_class).shape.quantum, 65549u);
    EXPECT_EQ(network(rate(max_rate.count)).tree().classes.at(catchment_class).shape.quantum, max_quantum);
}

TEST(Network, ABranchIsAPartOfTheTree)
{
    Network tenants = network();
    tenants.plug(uuid(1), mac(1), {300});
    tenants.plug(uuid(2), mac(2), {400});
    const Tree whole = tenants.tree(), branch = tenants.branch(mac(2)), other = tenants.branch(mac(3));
    EXPECT_EQ(branch.classes.size(), 3u);
    for (const auto& [id, at] : branch.classes)
        EXPECT_EQ(at, whole.classes.at(id));
    EXPECT_EQ(branch.steering, (std::map<MacAddress, ClassId>{{mac(2), {4}}}));
    EXPECT_EQ(other.classes.size(), 2u);
    EXPECT_TRUE(other.steering.empty());
}

TEST(TransmitTime, IsRoundedUpAndBounded)
{
    EXPECT_EQ(transmit_time({1}, {15'625'000}).count, 1u);
    EXPECT_EQ(transmit_time({1}, {15'625'001}).count, 1u);
    EXPECT_EQ(transmit_time({2}, {15'625'001}).count, 2u);
    EXPECT_EQ(transmit_time({1514}, {1'000'000}).count, 23657u); // 23656.25
    EXPECT_EQ(transmit_time({0}, {1}).count, 0u);
    EXPECT_EQ(transmit_time({UINT64_MAX}, {1}).count, UINT32_MAX);
    EXPECT_EQ(transmit_time({1}, {UINT64_MAX}).count, 1u);
}

// Whatever happens, children's rates add up to their parent's, and a model of std::map agrees.
TEST(Network, StaysSoundThroughRandomOperations)
{
    for (const Rate& limits : {rate(10000, 20000), rate(10000), rate(20000, 5000), rate(1, 50000)}) {
        Network tenants = network(limits);
        const std::uint64_t limit = limits.peak ? limits.peak.count : limits.average.count;
        std::map<unsigned, std::pair<unsigned, std::uint64_t>> model; // uuid → mac, floor
        const auto sum = [](const auto& ports) {
            std::map<unsigned, std::uint64_t> largest;
            for (const auto& [id, port] : ports)
                largest[port.first] = std::max(largest[port.first], port.second);
            std::uint64_t all = 0;
            for (const auto& [address, floor] : largest)
                all += floor;
            return all;
        };
        // What does not raise the sum is never refused.
        const auto fits_with = [&](unsigned id, unsigned address, std::uint64_t floor) {
            auto after = model;
            after[id] = {address, floor};
            return sum(after) <= limit || sum(after) <= sum(model);
        };
        std::mt19937 random(42);
        for (int i = 0; i < 10000; ++i) {
            const unsigned id = random() % 60, address = random() % 70;
            const std::uint64_t floor = 1 + random() % (limit / (random() % 40 + 1));
            const bool there = model.contains(id);
            if (!there) {
                const bool fits = fits_with(id, address, floor);
                bool taken = true;
                try {
                    tenants.plug(uuid(id), mac(address), {floor},
                                 random() % 4 ? std::nullopt
                                              : std::optional(ClassId{static_cast<std::uint16_t>(random())}));
                } catch (const Error&) {
                    taken = false;
                }
                ASSERT_EQ(taken, fits);
                if (taken)
                    model[id] = {address, floor};
            } else if (random() % 2) {
                const bool fits = fits_with(id, model[id].first, floor);
                bool taken = true;
                try {
                    tenants.update(uuid(id), {floor});
                } catch (const Error&) {
                    taken = false;
                }
                ASSERT_EQ(taken, fits);
                if (taken)
                    model[id].second = floor;
            } else {
                tenants.unplug(uuid(id));
                model.erase(id);
            }
            ASSERT_EQ(tenants.floor_sum().count, sum(model));
            ASSERT_EQ(tenants.ports().size(), model.size());
            if (i % 10 == 0)
                expect_sound(tenants);
            if (HasFatalFailure())
                return;
        }
    }
}

} // namespace
} // namespace virfloor::test
