// SPDX-License-Identifier: LGPL-2.1-or-later
//
// From the steps of a change to the requests that carry them out, given what the kernel has.
// Not thread-safe.
#pragma once

#include "mac_table.h"
#include "reader.h"
#include "request.h"
#include "virfloor/tree.h"

#include <optional>
#include <vector>

namespace virfloor::tc {

class Translator {
public:
    // Starts again from what was read; says what of it is a tree of ours. Libvirt's filters for addresses that guests
    // took, and that went with its preference since the last time, are said to be there: AddFilters puts them back.
    Tree load(Picture picture);

    std::vector<Reversible> translate(const Step& step);
    std::vector<Reversible> leaf_of(ClassId id) const;

    // The best queue the kernel has; unknown until a tree has been read or made.
    std::optional<Leaf> leaf() const { return leaf_; }
    void set_leaf(Leaf leaf) { leaf_ = leaf; }

    MacTable& addresses() { return addresses_; }
    const MacTable& addresses() const { return addresses_; }

    // Whether tables of ours may be there that no dump shows, since somebody deleted their preference
    // while others had u32 filters.
    bool hides_tables() const;
    // Numbered where ours, lowest first, are not.
    static constexpr U32Table revealing_table{reserved_table - 1, 256, {our_preference, any_protocol}};

private:
    // A filter of libvirt's for an address that a guest took, as others see it and with all that it is made of.
    struct GuestFilter {
        ForeignFilter seen;
        LibvirtFilter copy;
    };
    static std::vector<GuestFilter> guest_filters(const Picture& picture);
    std::vector<ForeignFilter> find_lost(const std::vector<GuestFilter>& before);

    std::vector<Reversible> add_root();
    std::vector<Reversible> add_filters();
    bool must_give_way() const;
    bool can_be_reserved() const;
    bool others_use_u32() const;
    bool others_use_libvirt_preference() const;
    bool others_can_be_moved() const;

    MacTable addresses_;
    std::optional<Leaf> leaf_;
    bool other_root_ = false;
    bool has_our_preference_ = false;
    std::optional<std::uint16_t> libvirt_protocol_;
    std::uint16_t libvirt_root_table_ = 0;
    std::vector<LibvirtFilter> libvirts_;
    std::vector<GuestFilter> guests_; // there, or lost
    std::vector<LibvirtFilter> lost_; // of guests_
    bool moved_ = false;              // since they were read
    bool has_reservation_ = false;
    bool has_other_u32_ = false;
    std::vector<ForeignFilter> foreign_;
    std::uint16_t our_root_table_ = 0;
    std::vector<std::uint32_t> our_nodes_;
};

} // namespace virfloor::tc
