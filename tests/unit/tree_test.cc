// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virfloor/tree.h"

#include "support.h"

#include <linux/if_ether.h>

#include <algorithm>
#include <set>

namespace virfloor::test {
namespace {

ClassId id(unsigned number) { return {static_cast<std::uint16_t>(number)}; }

Shape shape(std::uint64_t rate, std::uint32_t quantum = 1514) { return {{rate}, {1000000}, {15625}, {15625}, quantum}; }

Class leaf(unsigned number, std::uint64_t rate, unsigned parent = 1)
{
    return {.id = id(number), .parent = id(parent), .shape = shape(rate)};
}

Class root(std::uint64_t rate) { return {.id = root_class, .parent = {}, .shape = shape(rate), .inner = true}; }

Tree tree(std::vector<Class> classes, std::map<MacAddress, ClassId> steering = {})
{
    Tree result;
    result.root = result.filters = true;
    for (const Class& at : classes)
        result.classes.emplace(at.id, at);
    result.steering = std::move(steering);
    return result;
}

// A kernel that is strict: it carries out one step or says what is wrong with it.
class Abstract {
public:
    explicit Abstract(Tree start) : tree(std::move(start)) {}

    void apply(const Change& change)
    {
        for (std::size_t i = 0; i < change.size(); ++i) {
            const std::string wrong = std::visit([this](const auto& step) { return carry_out(step); }, change[i]);
            if (!wrong.empty()) {
                ADD_FAILURE() << "step " << i << ": " << wrong;
                return;
            }
        }
    }

    Tree tree;

private:
    bool has_children(ClassId of) const
    {
        return std::any_of(tree.classes.begin(), tree.classes.end(),
                           [of](const auto& at) { return at.second.parent == of; });
    }
    bool is_used(ClassId of) const
    {
        return std::any_of(tree.steering.begin(), tree.steering.end(),
                           [of](const auto& at) { return at.second == of; }) ||
               std::any_of(tree.foreign.begin(), tree.foreign.end(), [of](const auto& at) { return at.target == of; });
    }
    std::string carry_out(const AddRoot&)
    {
        if (tree.root)
            return "root is there";
        tree.root = true;
        return "";
    }
    std::string carry_out(const AddFilters&)
    {
        if (!tree.root || tree.filters)
            return "no place for filters";
        tree.filters = true;
        tree.steering.clear();
        return "";
    }
    std::string carry_out(const AddClass& step)
    {
        if (!tree.root)
            return "class without a root";
        if (step.added.parent && !tree.classes.contains(*step.added.parent))
            return "class without its parent";
        if (!tree.classes.emplace(step.added.id, step.added).second)
            return "class is there";
        tree.classes.at(step.added.id).leaf = tree.leaf;
        return "";
    }
    std::string carry_out(const ChangeClass& step)
    {
        const auto at = tree.classes.find(step.to.id);
        if (at == tree.classes.end() || !(at->second == step.from) || step.from.parent != step.to.parent)
            return "changed class is another";
        at->second.shape = step.to.shape;
        return "";
    }
    std::string carry_out(const RemoveClass& step)
    {
        if (!tree.classes.contains(step.removed.id))
            return "removed class is not there";
        if (has_children(step.removed.id))
            return "removed class has children";
        if (is_used(step.removed.id))
            return "removed class is in use";
        tree.classes.erase(step.removed.id);
        return "";
    }
    std::string carry_out(const ReplaceLeaf& step)
    {
        const auto at = tree.classes.find(step.of);
        if (at == tree.classes.end() || at->second.leaf != step.from)
            return "replaced leaf is another";
        at->second.leaf = tree.leaf;
        return "";
    }
    std::string carry_out(const AddSteering& step)
    {
        if (!tree.filters)
            return "no tables";
        if (!tree.classes.contains(step.target))
            return "steered to nowhere";
        return tree.steering.emplace(step.mac, step.target).second ? "" : "address is there";
    }
    std::string carry_out(const RemoveSteering& step)
    {
        const auto at = tree.steering.find(step.mac);
        if (at == tree.steering.end() || at->second != step.target)
            return "removed address is not there";
        tree.steering.erase(at);
        return "";
    }
    std::string carry_out(const RemoveForeign& step)
    {
        const auto at = std::find(tree.foreign.begin(), tree.foreign.end(), step.removed);
        if (at == tree.foreign.end())
            return "removed foreign filter is not there";
        tree.foreign.erase(at);
        return "";
    }
};

// Equal in all that a wanted tree says.
void expect_is(const Tree& have, const Tree& want)
{
    EXPECT_EQ(have.root, want.root);
    EXPECT_EQ(have.filters, want.filters);
    EXPECT_EQ(have.steering, want.steering);
    ASSERT_EQ(have.classes.size(), want.classes.size());
    for (const auto& [id, at] : want.classes) {
        const Class& there = have.classes.at(id);
        EXPECT_EQ(there.parent, at.parent);
        EXPECT_EQ(there.shape.rate, at.shape.rate);
        EXPECT_EQ(there.shape.ceil, at.shape.ceil);
        if (!at.inner) {
            EXPECT_EQ(there.shape, at.shape);
            EXPECT_TRUE(there.leaf && *there.leaf <= want.leaf);
        }
    }
}

template <class Step>
std::size_t position(const Change& change, unsigned number)
{
    for (std::size_t i = 0; i < change.size(); ++i) {
        const auto* step = std::get_if<Step>(&change[i]);
        if constexpr (std::is_same_v<Step, AddClass>) {
            if (step && step->added.id == id(number))
                return i;
        } else if constexpr (std::is_same_v<Step, RemoveClass>) {
            if (step && step->removed.id == id(number))
                return i;
        } else if constexpr (std::is_same_v<Step, ChangeClass>) {
            if (step && step->to.id == id(number))
                return i;
        } else if (step && step->target == id(number)) {
            return i;
        }
    }
    ADD_FAILURE() << "no such step for class " << number;
    return 0;
}

TEST(Difference, OfEqualTreesIsEmpty)
{
    const Tree some = tree({root(100), leaf(2, 70), leaf(3, 30)}, {{mac(1), id(3)}});
    EXPECT_TRUE(difference(some, some).empty());
    EXPECT_TRUE(difference({}, {}).empty());
}

TEST(Difference, IgnoresTheQuantumOfAnInnerClass)
{
    Tree have = tree({root(100), leaf(2, 100)});
    have.classes.at(root_class).shape.quantum = 7;
    const Tree want = tree({root(100), leaf(2, 100)});
    EXPECT_TRUE(difference(have, want).empty());
    have.classes.at(id(2)).shape.quantum = 7;
    EXPECT_EQ(difference(have, want).size(), 1u);
}

TEST(Difference, MakesATreeFromNothing)
{
    const Tree want = tree({root(100), leaf(2, 70), leaf(3, 30)}, {{mac(1), id(3)}});
    const Change change = difference({}, want);
    EXPECT_EQ(change.size(), 6u);
    EXPECT_TRUE(std::holds_alternative<AddRoot>(change.front()));
    Abstract kernel({});
    kernel.apply(change);
    expect_is(kernel.tree, want);
}

TEST(Difference, WhatGoesDownGoesFirst)
{
    const Tree before = tree({root(100), leaf(2, 70), leaf(3, 20), leaf(4, 10)}, {{mac(1), id(3)}, {mac(2), id(4)}});
    // 3 grows at the cost of the catchment.
    Change change = difference(before, tree({root(100), leaf(2, 50), leaf(3, 40), leaf(4, 10)}, before.steering));
    EXPECT_EQ(change.size(), 2u);
    EXPECT_LT(position<ChangeClass>(change, 2), position<ChangeClass>(change, 3));
    // 3 shrinks.
    change = difference(before, tree({root(100), leaf(2, 80), leaf(3, 10), leaf(4, 10)}, before.steering));
    EXPECT_LT(position<ChangeClass>(change, 3), position<ChangeClass>(change, 2));
    // The root grows before its children and shrinks after them.
    change = difference(before, tree({root(120), leaf(2, 60), leaf(3, 50), leaf(4, 10)}, before.steering));
    EXPECT_LT(position<ChangeClass>(change, 2), position<ChangeClass>(change, 1));
    EXPECT_LT(position<ChangeClass>(change, 1), position<ChangeClass>(change, 3));
    change = difference(before, tree({root(80), leaf(2, 60), leaf(3, 10), leaf(4, 10)}, before.steering));
    EXPECT_LT(position<ChangeClass>(change, 3), position<ChangeClass>(change, 1));
    EXPECT_LT(position<ChangeClass>(change, 2), position<ChangeClass>(change, 1));
}

TEST(Difference, SteersAfterTheClassIsThereAndBeforeItIsGone)
{
    const Tree without = tree({root(100), leaf(2, 100)});
    const Tree with = tree({root(100), leaf(2, 70), leaf(3, 30)}, {{mac(1), id(3)}});
    Change change = difference(without, with);
    EXPECT_LT(position<ChangeClass>(change, 2), position<AddClass>(change, 3));
    EXPECT_LT(position<AddClass>(change, 3), position<AddSteering>(change, 3));
    change = difference(with, without);
    EXPECT_LT(position<RemoveSteering>(change, 3), position<RemoveClass>(change, 3));
    EXPECT_LT(position<RemoveClass>(change, 3), position<ChangeClass>(change, 2));
}

TEST(Difference, AddressesMoveBetweenClasses)
{
    const Tree have = tree({root(100), leaf(2, 70), leaf(3, 20), leaf(4, 10)}, {{mac(1), id(3)}, {mac(2), id(4)}});
    const Tree want = tree({root(100), leaf(2, 70), leaf(3, 20), leaf(4, 10)}, {{mac(1), id(4)}, {mac(2), id(3)}});
    Abstract kernel(have);
    kernel.apply(difference(have, want));
    expect_is(kernel.tree, want);
}

TEST(Difference, MovesAClassToAnotherParent)
{
    const Tree have = tree({root(100), leaf(2, 70), leaf(3, 30, 2)}, {{mac(1), id(3)}});
    const Tree want = tree({root(100), leaf(2, 70), leaf(3, 30)}, {{mac(1), id(3)}});
    Abstract kernel(have);
    kernel.apply(difference(have, want));
    expect_is(kernel.tree, want);
}

// A class that is moved takes its children along: they must go before it and come after it.
TEST(Difference, MovesAClassThatHasChildren)
{
    const Tree have =
        tree({root(100), leaf(2, 40), leaf(5, 60), leaf(3, 30, 2), leaf(4, 10, 2)}, {{mac(1), id(3)}, {mac(2), id(4)}});
    const Tree want = tree({root(100), leaf(5, 60), leaf(2, 40, 5), leaf(3, 30, 2), leaf(4, 10, 2)},
                           {{mac(1), id(3)}, {mac(2), id(4)}});
    Abstract kernel(have);
    kernel.apply(difference(have, want));
    expect_is(kernel.tree, want);
}

TEST(Difference, RemovesChildrenBeforeParents)
{
    const Tree have = tree({root(100), leaf(9, 50), leaf(5, 50, 9), leaf(3, 50, 5), leaf(2, 50)}, {{mac(1), id(3)}});
    const Tree want = tree({root(100), leaf(2, 100)});
    Abstract kernel(have);
    kernel.apply(difference(have, want));
    expect_is(kernel.tree, want);
    Abstract back(want);
    back.apply(difference(want, have));
    expect_is(back.tree, have);
}

TEST(Difference, ReplacesWorseLeavesAndUnknownOnes)
{
    Tree have = tree({root(100), leaf(2, 50), leaf(3, 20), leaf(4, 20), leaf(5, 10)});
    have.classes.at(id(2)).leaf = Leaf::fq_codel;
    have.classes.at(id(3)).leaf = Leaf::sfq;
    have.classes.at(id(4)).leaf = std::nullopt;
    Tree want = tree({root(100), leaf(2, 50), leaf(3, 20), leaf(4, 20), leaf(5, 10)});
    const auto replaced = [&](Leaf best) {
        want.leaf = have.leaf = best;
        std::set<unsigned> classes;
        for (const Step& step : difference(have, want))
            classes.insert(std::get<ReplaceLeaf>(step).of.minor);
        return classes;
    };
    EXPECT_EQ(replaced(Leaf::pfifo), (std::set<unsigned>{4}));
    EXPECT_EQ(replaced(Leaf::sfq), (std::set<unsigned>{4, 5}));
    EXPECT_EQ(replaced(Leaf::fq_codel), (std::set<unsigned>{3, 4, 5}));
}

TEST(Difference, MakesFiltersAnewWhereTheyCannotBeGoneOnWith)
{
    Tree have = tree({root(100), leaf(2, 70), leaf(3, 30)});
    have.filters = false;
    const Tree want = tree({root(100), leaf(2, 70), leaf(3, 30)}, {{mac(1), id(3)}});
    const Change change = difference(have, want);
    ASSERT_EQ(change.size(), 2u);
    EXPECT_TRUE(std::holds_alternative<AddFilters>(change[0]));
    Abstract kernel(have);
    kernel.apply(change);
    expect_is(kernel.tree, want);
}

TEST(ForeignFilters, GoIfTheyStandAgainstAPromise)
{
    const ForeignFilter mark{1, ETH_P_ALL, 1, "fw", id(1), {}};
    const ForeignFilter stocks{2, ETH_P_IP, 0x80000003, "u32", id(3), mac(1)};
    const ForeignFilter bound{7, ETH_P_IP, 0x80100800, "u32", id(4), {}};
    Tree have = tree({root(100), leaf(2, 60), leaf(3, 30), leaf(4, 10)});
    have.foreign = {mark, stocks, bound};
    const Tree want = tree({root(100), leaf(2, 70), leaf(3, 30)}, {{mac(1), id(3)}});
    Abstract kernel(have);
    kernel.apply(difference(have, want));
    expect_is(kernel.tree, want);
    EXPECT_TRUE(kernel.tree.foreign.empty());
}

TEST(ForeignFilters, StayOtherwise)
{
    Tree have = tree({root(100), leaf(2, 70), leaf(3, 30)}, {{mac(1), id(3)}});
    const Tree want = have;
    have.foreign = {
        {1, ETH_P_ALL, 2, "fw", id(1), {}},              // another mark
        {1, ETH_P_IP, 1, "fw", id(1), {}},               // another protocol
        {3, ETH_P_ALL, 1, "fw", id(1), {}},              // another preference
        {1, ETH_P_ALL, 1, "u32", id(2), {}},             // another kind
        {2, ETH_P_IP, 0x80000800, "u32", id(2), mac(2)}, // of an address without a floor
        {3, ETH_P_IP, 0x80200800, "u32", id(3), mac(2)}, // of another address, and not libvirt's
        {2, ETH_P_IP, 0x80000801, "u32", id(2), mac(1)}, // another class
        {2, ETH_P_IP, 0x80000802, "u32", id(3), {}},     // more than an address
        {2, ETH_P_IP, 0x80000803, "u32", {}, mac(1)},    // no class: an action
        {5, ETH_P_ALL, 1, "bpf", id(3), {}},
    };
    EXPECT_TRUE(difference(have, want).empty());
}

TEST(ForeignFilters, TellOfAddressesThatGuestsTook)
{
    const Tree want = tree({root(100), leaf(2, 40), leaf(3, 30), leaf(4, 30)}, {{mac(1), id(3)}, {mac(2), id(4)}});
    Tree have = want;
    have.foreign = {{2, ETH_P_IP, 0x80000803, "u32", id(3), mac(9)}};
    Tree taken = want;
    taken.steering.emplace(mac(9), id(3));

    Abstract kernel(have);
    kernel.apply(difference(have, want));
    expect_is(kernel.tree, taken);
    EXPECT_EQ(kernel.tree.foreign, have.foreign);
    EXPECT_TRUE(difference(kernel.tree, want).empty());

    kernel.tree.foreign.clear(); // the guest has its own address again
    kernel.apply(difference(kernel.tree, want));
    expect_is(kernel.tree, want);

    have.foreign.front().mac = mac(2); // nobody takes what is promised to another
    EXPECT_TRUE(difference(have, want).empty());
    EXPECT_TRUE(taken_addresses(have, want).empty());
}

// A random tree of up to three levels below the qdisc, with rates that add up.
Tree random_tree(std::mt19937& random)
{
    Tree result;
    if (random() % 10 == 0)
        return result;
    result.root = true;
    result.filters = random() % 10 != 0;
    std::vector<unsigned> inner;
    const auto add = [&](unsigned number, std::optional<ClassId> parent, bool has_children) {
        Class at{.id = id(number), .parent = parent, .shape = shape(1 + random() % 1000, 1500 + random() % 3)};
        at.inner = has_children;
        if (result.classes.emplace(at.id, at).second && has_children)
            inner.push_back(number);
    };
    add(1, {}, true);
    for (unsigned number = 10; number < 16; ++number)
        if (random() % 3 == 0)
            add(number, id(inner[random() % inner.size()]), true);
    for (unsigned number = 2; number < 40; ++number)
        if (number < 10 || number > 15)
            if (random() % 2)
                add(number, id(inner[random() % inner.size()]), false);
    // Inner classes have children.
    for (const unsigned number : inner)
        if (std::none_of(result.classes.begin(), result.classes.end(),
                         [&](const auto& at) { return at.second.parent == id(number); }))
            result.classes.at(id(number)).inner = false;
    for (auto& [number, at] : result.classes)
        if (!at.inner)
            at.leaf = random() % 4 ? std::optional(static_cast<Leaf>(random() % 3)) : std::nullopt;
    if (result.filters)
        for (unsigned i = 0; i < 30; ++i) {
            const auto target = result.classes.find(id(2 + random() % 38));
            if (target != result.classes.end() && !target->second.inner)
                result.steering.emplace(mac(random() % 40), target->first);
        }
    return result;
}

Tree random_wanted(std::mt19937& random)
{
    Tree result;
    while (!result.root || !result.filters)
        result = random_tree(random);
    return result;
}

ForeignFilter random_foreign(std::mt19937& random, const Tree& tree)
{
    ForeignFilter filter{static_cast<std::uint16_t>(1 + random() % 3),
                         ETH_P_ALL,
                         static_cast<std::uint32_t>(1 + random() % 1000),
                         random() % 2 ? "fw" : "u32",
                         {},
                         {}};
    auto at = tree.classes.begin();
    if (!tree.classes.empty()) {
        std::advance(at, random() % tree.classes.size());
        filter.target = at->first;
    }
    if (random() % 2)
        filter.mac = mac(random() % 40);
    return filter;
}

// The steps lead to the wanted tree with the addresses that guests took, and nothing is left to do then.
void expect_leads(const Tree& have, const Tree& want)
{
    Abstract kernel(have);
    kernel.apply(difference(have, want));
    Tree expected = want;
    expected.steering.merge(taken_addresses(kernel.tree, want));
    expect_is(kernel.tree, expected);
    EXPECT_TRUE(difference(kernel.tree, want).empty());
}

TEST(Difference, LeadsFromAnyTreeToAnyOther)
{
    std::mt19937 random(7);
    for (int i = 0; i < 3000; ++i) {
        Tree have = random_tree(random), want = random_wanted(random);
        have.leaf = want.leaf = static_cast<Leaf>(random() % 3);
        if (have.root)
            for (unsigned j = random() % 4; j > 0; --j)
                have.foreign.push_back(random_foreign(random, have));
        SCOPED_TRACE("tree " + std::to_string(i));
        expect_leads(have, want);
        if (HasFailure())
            return;
    }
}

// The trees of a network, where all classes hang on one: this is what there is today.
TEST(Difference, LeadsFromAnyFlatTreeToAnyOther)
{
    std::mt19937 random(8);
    const auto flat = [&random] {
        Tree result = random_wanted(random);
        for (auto& [number, at] : result.classes) {
            at.inner = number == root_class;
            if (at.parent)
                at.parent = root_class;
        }
        return result;
    };
    for (int i = 0; i < 3000; ++i) {
        Tree have = flat();
        const Tree want = flat();
        have.leaf = want.leaf;
        for (unsigned j = random() % 4; j > 0; --j)
            have.foreign.push_back(random_foreign(random, have));
        SCOPED_TRACE("tree " + std::to_string(i));
        expect_leads(have, want);
        if (HasFailure())
            return;
    }
}

} // namespace
} // namespace virfloor::test
