// SPDX-License-Identifier: LGPL-2.1-or-later
#include "differences.h"
#include "support.h"

namespace virfloor::tool {
namespace {

using test::mac;
using test::uuid;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr int ifindex = 5;

// A network with a guest that has a floor of 500 kB/s, and everything as it should be.
NetworkEvidence right()
{
    NetworkEvidence evidence;
    evidence.name = "lab";
    evidence.asked = evidence.knows_status = true;
    const Rate limits{.average = {4000}, .peak = {8000}, .floor = {}, .burst = {}};
    evidence.live = NetworkState{"lab", "virbr1", limits, Bytes{1500}, true, {}};
    evidence.live->interfaces = {{uuid(1), mac(1), "guest", "vnet0", ClassId{3}, {500}}};
    evidence.wishes = {{"guest", "lab", uuid(1), mac(1), {500}}};
    evidence.remembered = {{"lab", uuid(1), mac(1), {500}, ClassId{3}, "guest", "vnet0"}};
    evidence.saved = SavedNetwork{"lab", "virbr1", ifindex, {1500}, limits, Condition::kept, {}, {}};
    evidence.saved->ports = {{uuid(1), mac(1), ClassId{3}, {500}}};
    evidence.ifindex = ifindex;
    evidence.tree = promises(*evidence.saved).tree();
    return evidence;
}

// The same where no daemon runs.
NetworkEvidence without_daemon()
{
    NetworkEvidence evidence = right();
    evidence.asked = false;
    evidence.live.reset();
    evidence.wishes.clear();
    return evidence;
}

std::vector<std::string> texts(const NetworkEvidence& evidence)
{
    std::vector<std::string> result;
    for (const Difference& difference : differences(evidence)) {
        EXPECT_EQ(difference.network, "lab");
        result.push_back(difference.text);
    }
    return result;
}

const std::string guest = "guest (52:54:00:00:00:01)";

TEST(Differences, NoneWhereAllIsRight)
{
    EXPECT_THAT(texts(right()), IsEmpty());
    EXPECT_THAT(texts(without_daemon()), IsEmpty());
}

TEST(Differences, OfADomainAndItsPort)
{
    NetworkEvidence evidence = right();
    evidence.wishes[0].floor = evidence.remembered[0].floor = {700};
    EXPECT_THAT(texts(evidence),
                ElementsAre("domain 'guest' asks for 700 kB/s on 52:54:00:00:00:01; its port has 500 kB/s"));

    evidence.wishes[0].port = evidence.remembered[0].uuid = uuid(9);
    EXPECT_THAT(texts(evidence),
                ElementsAre("domain 'guest' asks for 700 kB/s on 52:54:00:00:00:01; libvirt has no port for it"));
}

TEST(Differences, OfADomainsStatus)
{
    NetworkEvidence evidence = right();
    evidence.remembered[0].floor = {300};
    EXPECT_THAT(texts(evidence), ElementsAre("the status of domain 'guest' names a floor of 300 kB/s for "
                                             "52:54:00:00:00:01; libvirt tells of 500 kB/s"));
    evidence = without_daemon();
    evidence.remembered[0].floor = {300};
    evidence.remembered[0].id = ClassId{10};
    EXPECT_THAT(texts(evidence), ElementsAre("the status of domain 'guest' names a floor of 300 kB/s for "
                                             "52:54:00:00:00:01; the status file has 500 kB/s",
                                             "the status of domain 'guest' names class 1:a for 52:54:00:00:00:01; the "
                                             "status file names class 1:3"));
}

TEST(Differences, OfAStatusFileThatLacksAPortOrHasOneTooMany)
{
    NetworkEvidence evidence = right();
    evidence.saved->ports[0].uuid = uuid(2);
    EXPECT_THAT(texts(evidence),
                ElementsAre("the port of " + guest + " has a floor of 500 kB/s; the status file does not name it",
                            "the status file names a floor of 500 kB/s for " + guest + "; libvirt has no such port"));
}

TEST(Differences, OfLimitsAndBridge)
{
    NetworkEvidence evidence = right();
    evidence.saved->limits.average = {5000};
    evidence.saved->limits.peak = {};
    evidence.saved->ifindex = 9;
    EXPECT_THAT(texts(evidence),
                ElementsAre("its bridge virbr1 has the interface index 5; the status file is of one with index 9",
                            "its inbound average is 4000 kB/s; the status file says 5000 kB/s",
                            "its inbound peak is 8000 kB/s; the status file says 0 kB/s"));
    evidence = right();
    evidence.saved->bridge = "virbr7";
    EXPECT_THAT(texts(evidence), ElementsAre("its bridge is virbr1; the status file names virbr7"));
}

TEST(Differences, EachConditionIsSaid)
{
    NetworkEvidence evidence = right();
    for (const auto& [condition, word] :
         {std::pair{Condition::contested, "contested"}, {Condition::broken, "broken"}, {Condition::absent, "absent"}}) {
        evidence.saved->condition = condition;
        EXPECT_THAT(texts(evidence), ElementsAre(HasSubstr(std::string("the status file says ") + word)));
    }
}

TEST(Differences, WhoIsToBeAskedAboutAMissingStatusFile)
{
    NetworkEvidence evidence = right();
    evidence.saved.reset();
    EXPECT_THAT(texts(evidence), ElementsAre(HasSubstr("libvirt-floor does not look after it")));
    evidence.daemon = Daemon{"libvirtd", 12, Daemon::Module::missing};
    EXPECT_THAT(texts(evidence), ElementsAre(HasSubstr("libvirtd (process 12) runs without libvirt-floor")));
    evidence.daemon->module = Daemon::Module::loaded;
    EXPECT_THAT(texts(evidence), ElementsAre(HasSubstr("the log of libvirtd (process 12) says why")));
    evidence.live->floored = false;
    EXPECT_THAT(texts(evidence), IsEmpty());
    EXPECT_FALSE(promised(evidence));
}

TEST(Differences, WhatIsNotKnownIsNoDifference)
{
    NetworkEvidence evidence = right();
    evidence.knows_status = false;
    evidence.saved.reset();
    evidence.remembered.clear();
    EXPECT_THAT(texts(evidence), IsEmpty());
}

TEST(Differences, ADamagedFileDoesNotHideTheKernel)
{
    NetworkEvidence evidence = right();
    evidence.saved.reset();
    evidence.damage = "lab.xml: no valid mtu";
    evidence.tree->classes.erase(ClassId{3});
    EXPECT_THAT(texts(evidence), ElementsAre("its status file cannot be trusted: lab.xml: no valid mtu",
                                             "the kernel lacks class 1:3 of " + guest + " with its rate of 500 kB/s"));
}

TEST(Differences, ANetworkThatEnded)
{
    NetworkEvidence evidence = right();
    evidence.live.reset();
    evidence.wishes.clear();
    evidence.remembered.clear();
    EXPECT_THAT(texts(evidence), ElementsAre("it has a status file, but does not run"));
}

TEST(Differences, NoBridgeAndNoTree)
{
    for (NetworkEvidence evidence : {right(), without_daemon()}) {
        evidence.tree = Tree{};
        EXPECT_THAT(texts(evidence), ElementsAre(HasSubstr("bridge virbr1 has no tree")));
        evidence.ifindex = no_ifindex;
        evidence.tree.reset();
        EXPECT_THAT(texts(evidence), ElementsAre("there is no bridge virbr1"));
    }
}

TEST(Differences, NoFiltersIsOneSentence)
{
    NetworkEvidence evidence = right();
    evidence.tree->filters = false;
    evidence.tree->steering.clear();
    EXPECT_THAT(texts(evidence), ElementsAre("bridge virbr1 lacks the filters that lead addresses to classes"));
}

TEST(Differences, OfSteering)
{
    NetworkEvidence evidence = right();
    evidence.tree->steering = {{mac(1), catchment_class}, {mac(2), ClassId{3}}};
    EXPECT_THAT(texts(evidence),
                ElementsAre("a filter of the kernel leads " + guest + " to class 1:2; it should lead to class 1:3",
                            "a filter of the kernel leads 52:54:00:00:00:02 to class 1:3; the address has no floor"));
}

TEST(Differences, OfEachPartOfAShape)
{
    const auto changed = [](ClassId id, const std::function<void(Shape&)>& change) {
        NetworkEvidence evidence = right();
        change(evidence.tree->classes.at(id).shape);
        return texts(evidence);
    };
    EXPECT_THAT(changed(ClassId{3}, [](Shape& shape) { shape.rate = {400500}; }),
                ElementsAre("class 1:3 of " + guest + " has a rate of 400 kB/s; its floor is 500 kB/s"));
    EXPECT_THAT(changed(catchment_class, [](Shape& shape) { shape.rate = {1}; }),
                ElementsAre(HasSubstr("class 1:2, the catchment, has a rate of 0.0 kB/s; it should be 3500 kB/s")));
    EXPECT_THAT(changed(root_class, [](Shape& shape) { shape.ceil = {9'000'000}; }),
                ElementsAre("class 1:1, the root, has a ceiling of 9000 kB/s; it should be 8000 kB/s"));
    EXPECT_THAT(changed(ClassId{3}, [](Shape& shape) { shape.quantum = 7; }),
                ElementsAre(HasSubstr("has a quantum of 7 bytes; it should be ")));
    EXPECT_THAT(changed(ClassId{3}, [](Shape& shape) { shape.burst = {7}; }),
                ElementsAre("class 1:3 of " + guest + " has bursts that do not go with its rate and its ceiling"));
}

TEST(Differences, OfClassesAndQueues)
{
    NetworkEvidence evidence = right();
    evidence.tree->leaf = Leaf::fq_codel;
    evidence.tree->classes.at(catchment_class).leaf = Leaf::fq_codel;
    evidence.tree->classes.at(ClassId{3}).parent.reset();
    evidence.tree->classes.at(ClassId{3}).leaf.reset();
    Class other = evidence.tree->classes.at(catchment_class);
    other.id = ClassId{9};
    evidence.tree->classes.emplace(other.id, other);
    EXPECT_THAT(texts(evidence), ElementsAre("class 1:3 of " + guest + " hangs in the wrong place of the tree",
                                             "the kernel has a class 1:9 with a rate of 3500 kB/s, which nobody has a "
                                             "promise of"));
    evidence.tree->classes.at(ClassId{3}).parent = root_class;
    evidence.tree->classes.erase(ClassId{9});
    EXPECT_THAT(texts(evidence), ElementsAre("class 1:3 of " + guest + " has a queue that is not as it should be"));
}

TEST(Differences, OfFiltersOfOthers)
{
    NetworkEvidence evidence = right();
    const ForeignFilter harmless{.preference = 3, .handle = 1, .kind = "u32", .target = ClassId{3}, .mac = mac(7)};
    const ForeignFilter late{.preference = 11, .handle = 2, .kind = "u32", .target = catchment_class, .mac = mac(1)};
    evidence.tree->foreign = {harmless, late};
    EXPECT_THAT(texts(evidence), IsEmpty());

    ForeignFilter early = late;
    early.preference = 9;
    evidence.tree->foreign.push_back(early);
    EXPECT_THAT(texts(evidence),
                ElementsAre("a filter of others on bridge virbr1 (preference 9, kind u32) comes before "
                            "ours and takes " +
                            guest + " to class 1:2 instead of class 1:3"));
    early.target.reset();
    evidence.tree->foreign = {early};
    EXPECT_THAT(texts(evidence), ElementsAre(HasSubstr(" to no class instead of class 1:3")));

    evidence.tree->foreign = {
        {.preference = 1, .protocol = 3, .handle = 1, .kind = "fw", .target = catchment_class, .mac = {}}};
    EXPECT_THAT(texts(evidence),
                ElementsAre("a filter that stands in the way is on bridge virbr1: preference 1, kind fw, "
                            "handle 1"));
}

} // namespace
} // namespace virfloor::tool
