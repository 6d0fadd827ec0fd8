// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virfloor/tree.h"

#include <linux/if_ether.h>

#include <algorithm>
#include <set>

namespace virfloor {

namespace {

constexpr std::uint16_t stock_mark_preference = 1;
constexpr std::uint32_t stock_mark = 1;

bool same_shape(const Class& have, const Class& want)
{
    Shape shape = have.shape;
    if (want.inner)
        shape.quantum = want.shape.quantum;
    return shape == want.shape;
}

// Classes with those nearer to the qdisc first.
std::vector<Class> parents_first(const Tree& tree, std::vector<Class> classes)
{
    if (classes.size() < 2)
        return classes;
    const auto depth = [&tree](const Class& of) {
        std::size_t depth = 0;
        auto parent = of.parent;
        while (parent && depth <= tree.classes.size()) {
            const auto at = tree.classes.find(*parent);
            parent = at == tree.classes.end() ? std::nullopt : at->second.parent;
            ++depth;
        }
        return depth;
    };
    std::stable_sort(classes.begin(), classes.end(),
                     [&](const Class& a, const Class& b) { return depth(a) < depth(b); });
    return classes;
}

class Comparison {
public:
    Comparison(const Tree& have, const Tree& want) : have_(have), want_(want), steering_(want.steering)
    {
        steps_.reserve(usual_steps);
    }

    Change change()
    {
        sort_classes();
        for (const auto& [mac, target] : taken_addresses(have_, want_))
            if (!is_removed(target)) // else the filter that tells of it goes
                steering_.emplace(mac, target);
        if (want_.root && !have_.root)
            steps_.push_back(AddRoot{});
        if (want_.filters && !have_.filters)
            steps_.push_back(AddFilters{});
        remove_filters();
        for (auto at = removed_.rbegin(); at != removed_.rend(); ++at)
            steps_.push_back(RemoveClass{*at});
        // What a parent gives to its children must be there before they take it.
        change_classes([](const ChangeClass& c) { return !c.to.inner && !grows(c); });
        change_classes([](const ChangeClass& c) { return c.to.inner && grows(c); });
        for (const Class& added : parents_first(want_, added_))
            steps_.push_back(AddClass{added});
        change_classes([](const ChangeClass& c) { return !c.to.inner && grows(c); });
        std::reverse(changed_.begin(), changed_.end());
        change_classes([](const ChangeClass& c) { return c.to.inner && !grows(c); });
        for (const auto& [id, to] : want_.classes)
            replace_leaf(to);
        for (const auto& [mac, target] : steering_)
            if (!stays(mac, target))
                steps_.push_back(AddSteering{mac, target});
        for (const ForeignFilter& filter : have_.foreign)
            if (!stands_in_the_way(filter) && is_redundant(filter))
                steps_.push_back(RemoveForeign{filter});
        return std::move(steps_);
    }

private:
    static constexpr std::size_t usual_steps = 4; // of a plug, an unplug, or an update

    static bool grows(const ChangeClass& c) { return c.from.shape.rate < c.to.shape.rate; }

    bool is_removed(ClassId id) const { return removed_ids_.contains(id); }

    void remove_class(const Class& removed)
    {
        removed_.push_back(removed);
        removed_ids_.insert(removed.id);
    }

    bool stays(MacAddress mac, ClassId target) const
    {
        const auto there = have_.steering.find(mac);
        return there != have_.steering.end() && there->second == target && !is_removed(target);
    }

    void sort_classes()
    {
        for (const auto& [id, have] : have_.classes) {
            const auto want = want_.classes.find(id);
            if (want == want_.classes.end() || want->second.parent != have.parent)
                remove_class(have);
        }
        remove_children_of_removed();
        for (const auto& [id, have] : have_.classes) {
            const auto want = want_.classes.find(id);
            if (!is_removed(id) && !same_shape(have, want->second))
                changed_.push_back({have, want->second});
        }
        for (const auto& [id, want] : want_.classes)
            if (!have_.classes.contains(id) || is_removed(id))
                added_.push_back(want);
        removed_ = parents_first(have_, std::move(removed_));
    }

    // The kernel removes no class that has children.
    void remove_children_of_removed()
    {
        for (std::size_t before = 0; before != removed_.size();) {
            before = removed_.size();
            for (const auto& [id, have] : have_.classes)
                if (have.parent && is_removed(*have.parent) && !is_removed(id))
                    remove_class(have);
        }
    }

    void remove_filters()
    {
        for (const ForeignFilter& filter : have_.foreign)
            if (stands_in_the_way(filter))
                steps_.push_back(RemoveForeign{filter});
        for (const auto& [mac, target] : have_.steering) {
            const auto want = steering_.find(mac);
            if (want == steering_.end() || !stays(mac, want->second))
                steps_.push_back(RemoveSteering{mac, target});
        }
    }

    bool stands_in_the_way(const ForeignFilter& filter) const
    {
        if (filter.target && is_removed(*filter.target))
            return true;
        return filter.kind == "fw" && filter.preference == stock_mark_preference && filter.handle == stock_mark &&
               filter.protocol == ETH_P_ALL;
    }

    // The stock driver's, for an address that ours leads to the same class.
    bool is_redundant(const ForeignFilter& filter) const
    {
        const auto ours = filter.mac ? want_.steering.find(*filter.mac) : want_.steering.end();
        return ours != want_.steering.end() && ours->second == filter.target;
    }

    template <class Condition>
    void change_classes(Condition condition)
    {
        for (const ChangeClass& change : changed_)
            if (condition(change))
                steps_.push_back(change);
    }

    void replace_leaf(const Class& to)
    {
        const auto from = have_.classes.find(to.id);
        if (to.inner || from == have_.classes.end() || is_removed(to.id))
            return;
        const auto leaf = from->second.leaf;
        if (!leaf || *leaf > want_.leaf)
            steps_.push_back(ReplaceLeaf{to.id, leaf});
    }

    const Tree& have_;
    const Tree& want_;
    std::map<MacAddress, ClassId> steering_; // that ought to be, with what guests took
    std::vector<Class> removed_, added_;
    std::set<ClassId> removed_ids_;
    std::vector<ChangeClass> changed_;
    Change steps_;
};

} // namespace

const char* name(Leaf leaf) { return leaf == Leaf::fq_codel ? "fq_codel" : leaf == Leaf::sfq ? "sfq" : "pfifo"; }

bool tells_of_an_address(const ForeignFilter& filter)
{
    return filter.preference == libvirt_preference && filter.mac && filter.target;
}

std::map<MacAddress, ClassId> taken_addresses(const Tree& have, const Tree& want)
{
    std::set<ClassId> steered_to;
    for (const auto& [mac, target] : want.steering)
        steered_to.insert(target);
    std::map<MacAddress, ClassId> taken;
    for (const ForeignFilter& filter : have.foreign)
        if (tells_of_an_address(filter) && steered_to.contains(*filter.target) && !want.steering.contains(*filter.mac))
            taken.emplace(*filter.mac, *filter.target);
    return taken;
}

Change difference(const Tree& have, const Tree& want) { return Comparison(have, want).change(); }

} // namespace virfloor
