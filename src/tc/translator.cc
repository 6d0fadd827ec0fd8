// SPDX-License-Identifier: LGPL-2.1-or-later
#include "translator.h"

#include <linux/pkt_sched.h>

#include <algorithm>
#include <iterator>
#include <utility>

namespace virfloor::tc {

namespace {

template <class... Functions>
struct Overloaded : Functions... {
    using Functions::operator()...;
};
template <class... Functions>
Overloaded(Functions...) -> Overloaded<Functions...>;

Object htb(const Class& of) { return HtbClass{of.id, of.parent, of.shape}; }

constexpr Preference ours{our_preference, any_protocol};
constexpr Preference libvirts{libvirt_preference, ip_protocol};
constexpr U32Table reservation{reserved_table, 1, libvirts};

} // namespace

Tree Translator::load(Picture picture)
{
    Tree tree;
    const auto root = picture.qdiscs.find(TC_H_ROOT);
    tree.root = root != picture.qdiscs.end() && root->second.handle == root_qdisc && root->second.kind == "htb" &&
                root->second.default_class == catchment_class.minor;
    // A default qdisc has no handle, and gives way by itself.
    other_root_ = !tree.root && root != picture.qdiscs.end() && root->second.handle != 0;
    if (!tree.root)
        picture = {}; // all below another root goes with it
    has_our_preference_ = picture.has_our_preference;
    libvirt_protocol_ = picture.libvirt_protocol;
    libvirt_root_table_ = picture.libvirt_root_table;
    const std::vector<GuestFilter> guests_before = std::exchange(guests_, guest_filters(picture));
    libvirts_ = std::move(picture.libvirts);
    moved_ = false;
    has_reservation_ = picture.has_reservation;
    has_other_u32_ = picture.has_other_u32;
    our_root_table_ = picture.our_root_table;
    our_nodes_ = std::move(picture.our_nodes);
    leaf_.reset();
    foreign_ = picture.foreign;
    tree.foreign = std::move(picture.foreign);
    std::ranges::move(find_lost(guests_before), std::back_inserter(tree.foreign));
    tree.classes = std::move(picture.classes);
    tree.filters = addresses_.load(picture.ours, picture.tables) && !must_give_way();
    if (tree.filters)
        tree.steering = addresses_.steering();
    // The catchment has the best there is, unless the tree is the stock driver's.
    if (const auto catchment = tree.classes.find(catchment_class);
        catchment != tree.classes.end() && (!our_nodes_.empty() || catchment->second.leaf == Leaf::fq_codel))
        leaf_ = catchment->second.leaf;
    tree.leaf = leaf_.value_or(Leaf::pfifo);
    return tree;
}

std::vector<Translator::GuestFilter> Translator::guest_filters(const Picture& picture)
{
    std::vector<GuestFilter> guests;
    for (const ForeignFilter& seen : picture.foreign) {
        if (!tells_of_an_address(seen))
            continue;
        const auto copy = std::ranges::find(picture.libvirts, U32Handle::from(seen.handle), &LibvirtFilter::handle);
        if (copy == picture.libvirts.end())
            continue;
        GuestFilter guest{seen, *copy};
        guest.copy.handle.table = first_root_table;
        guest.seen.handle = guest.copy.handle.value();
        guests.push_back(std::move(guest));
    }
    return guests;
}

// What of them went with the preference. Where that is as it should be, and a filter is not, libvirt deleted the filter
// alone, since the guest has its own address again.
std::vector<ForeignFilter> Translator::find_lost(const std::vector<GuestFilter>& before)
{
    std::vector<ForeignFilter> found;
    lost_.clear();
    if (!can_be_reserved())
        return found;
    for (const GuestFilter& guest : before) {
        const auto is_there = [&guest](const LibvirtFilter& at) { return at.handle.node == guest.copy.handle.node; };
        if (std::ranges::any_of(libvirts_, is_there))
            continue;
        guests_.push_back(guest);
        lost_.push_back(guest.copy);
        found.push_back(guest.seen);
    }
    return found;
}

std::vector<Reversible> Translator::translate(const Step& step)
{
    return std::visit(
        Overloaded{
            [this](const AddRoot&) { return add_root(); },
            [this](const AddFilters&) { return add_filters(); },
            [this](const AddClass& add) {
                std::vector<Reversible> requests{{{Verb::add, htb(add.added)}, {{Verb::remove, htb(add.added)}}}};
                if (leaf_ && !add.added.inner)
                    std::ranges::move(leaf_of(add.added.id), std::back_inserter(requests));
                return requests;
            },
            [](const ChangeClass& change) {
                return std::vector<Reversible>{{{Verb::change, htb(change.to)}, {{Verb::change, htb(change.from)}}}};
            },
            [](const RemoveClass& remove) {
                Reversible request{{Verb::remove, htb(remove.removed)}, {{Verb::add, htb(remove.removed)}}};
                if (const auto leaf = remove.removed.leaf; leaf && *leaf != Leaf::pfifo)
                    request.undo.push_back({Verb::add, LeafQdisc{remove.removed.id, *leaf}});
                return std::vector<Reversible>{request};
            },
            [this](const ReplaceLeaf& replace) {
                // The kernel changes a queue's parameters in place, but not its kind.
                std::vector<Reversible> requests;
                if (replace.from != Leaf::pfifo)
                    requests.push_back({{Verb::remove, LeafQdisc{replace.of, Leaf::pfifo}}, {}});
                std::ranges::move(leaf_of(replace.of), std::back_inserter(requests));
                return requests;
            },
            [this](const AddSteering& add) { return addresses_.insert(add.mac, add.target); },
            [this](const RemoveSteering& remove) { return addresses_.erase(remove.mac); },
            [this](const RemoveForeign& remove) {
                const ForeignFilter& filter = remove.removed;
                OtherFilter object{{filter.preference, filter.protocol}, {}, filter.handle};
                if (moved_ && filter.preference == libvirt_preference) {
                    auto handle = U32Handle::from(filter.handle);
                    handle.table = first_root_table;
                    object.handle = handle.value();
                }
                filter.kind.copy(object.kind.data(), object.kind.size() - 1);
                return std::vector<Reversible>{{{Verb::remove, object}, {}}};
            },
        },
        step);
}

std::vector<Reversible> Translator::leaf_of(ClassId id) const
{
    if (leaf_.value_or(Leaf::pfifo) == Leaf::pfifo)
        return {};
    return {{{Verb::add, LeafQdisc{id, *leaf_}}, {}}};
}

std::vector<Reversible> Translator::add_root()
{
    std::vector<Reversible> requests;
    if (other_root_)
        requests.push_back({{Verb::remove, RootQdisc{}}, {}});
    requests.push_back({{Verb::add, RootQdisc{}}, {{Verb::remove, RootQdisc{}}}});
    other_root_ = false;
    return requests;
}

// An empty preference of theirs counts: it keeps hidden tables, and comes first, like any other. (The
// kernel takes the last one away when it is emptied, and no other: u32_delete, net/sched/cls_u32.c.)
bool Translator::others_use_u32() const
{
    return has_other_u32_ || std::ranges::any_of(foreign_, [](const auto& at) { return at.kind == "u32"; });
}

bool Translator::others_use_libvirt_preference() const
{
    return std::ranges::any_of(foreign_, [](const auto& at) { return at.preference == libvirt_preference; });
}

bool Translator::hides_tables() const { return !has_our_preference_ && others_use_u32(); }

// Where libvirt's preference was deleted and made again while ours was there, as libvirt itself does whenever it
// loads its firewall rules anew, its root table is another one. Its filters can be put back into 800: if they are
// the only ones of others, and it is known what they are made of.
bool Translator::others_can_be_moved() const
{
    const auto there =
        std::ranges::count_if(foreign_, [](const auto& at) { return at.preference == libvirt_preference; });
    return !has_other_u32_ && libvirt_protocol_ == libvirts.protocol && libvirt_root_table_ != 0 &&
           libvirt_root_table_ != first_root_table && static_cast<std::size_t>(there) == libvirts_.size();
}

// Whether libvirt's preference can be made, or made anew, with the reservation and all of libvirt's filters.
bool Translator::can_be_reserved() const
{
    if (others_can_be_moved())
        return true;
    // Nothing is left at libvirt's preference but its root table: the next who empties it takes it along.
    const bool unguarded =
        libvirt_protocol_ == libvirts.protocol && !has_reservation_ && !others_use_libvirt_preference();
    return !others_use_u32() && (!libvirt_protocol_ || unguarded);
}

// u32's tables have one space of numbers for the whole qdisc, and the first preference to be made
// gets the root table 800:, which libvirt must have. Where others have u32 filters that cannot be moved, it is
// given away for good.
bool Translator::must_give_way() const
{
    return can_be_reserved() || (!others_use_u32() && our_root_table_ == first_root_table);
}

// Where ours must give way, ours goes, the reservation is made, and ours comes after it; libvirt's filters that are
// moved, or were lost, come between the two. Where others use libvirt's preference it has table 800: already; the
// reservation joins them, so that the preference outlives their filters. Where others use u32 and that preference is
// not there, table 800: cannot be had before they are gone, and a reservation would be of no use. (Its table may still
// be there, out of sight, from a preference that was deleted: it could not be made, either.)
// A preference that is deleted leaves its tables behind as long as any u32 filter is there; so ours
// is emptied node by node where others have some.
std::vector<Reversible> Translator::add_filters()
{
    std::vector<Reversible> requests;
    const bool move = others_can_be_moved();
    const bool keep = others_use_u32() && !move;
    moved_ |= move;
    if (keep) {
        for (const auto handle : our_nodes_)
            requests.push_back({{Verb::remove, OtherFilter{ours, {"u32"}, handle}}, {}});
    } else {
        if (has_our_preference_)
            requests.push_back({{Verb::remove, ours}, {}});
        if (libvirt_protocol_ == libvirts.protocol && (move || !others_use_libvirt_preference())) {
            Reversible removal{{Verb::remove, libvirts}, {}};
            for (LibvirtFilter filter : libvirts_) {
                filter.handle.table = 0;
                removal.undo.push_back({Verb::add, filter});
            }
            requests.push_back(std::move(removal));
            libvirt_protocol_.reset();
            has_reservation_ = false;
        }
    }
    our_nodes_.clear();
    if (!libvirt_protocol_ && !keep) {
        requests.push_back({{Verb::add, reservation}, {{Verb::remove, libvirts}}});
        libvirt_protocol_ = libvirts.protocol;
        has_reservation_ = true;
        libvirt_root_table_ = first_root_table;
        std::ranges::move(lost_, std::back_inserter(libvirts_));
        lost_.clear();
        for (LibvirtFilter& filter : libvirts_) {
            filter.handle.table = first_root_table;
            requests.push_back({{Verb::add, filter}, {{Verb::remove, filter}}});
        }
    } else if (libvirt_protocol_ == libvirts.protocol && !has_reservation_) {
        requests.push_back({{Verb::add, reservation}, {{Verb::remove, reservation}}});
        has_reservation_ = true;
    }
    std::ranges::move(addresses_.create(keep), std::back_inserter(requests));
    has_our_preference_ = true;
    return requests;
}

} // namespace virfloor::tc
