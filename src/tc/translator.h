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
#include <set>
#include <vector>

namespace virfloor::tc {

class Translator {
public:
    // Starts again from what was read; says what of it is a tree of ours.
    Tree load(Picture picture);

    std::vector<Reversible> translate(const Step& step);
    std::vector<Reversible> leaf_of(ClassId id) const;

    // The best queue the kernel has; unknown until a tree has been read or made.
    std::optional<Leaf> leaf() const { return leaf_; }
    void set_leaf(Leaf leaf) { leaf_ = leaf; }

    MacTable& addresses() { return addresses_; }

private:
    std::vector<Reversible> add_root();
    std::vector<Reversible> add_filters();
    bool libvirt_preference_is_ours() const;

    MacTable addresses_;
    std::optional<Leaf> leaf_;
    bool other_root_ = false;
    bool has_our_preference_ = false;
    std::optional<std::uint16_t> libvirt_protocol_;
    bool has_reservation_ = false;
    std::vector<ForeignFilter> foreign_;
    std::set<std::uint16_t> tables_; // of u32, whosever they are or were
};

} // namespace virfloor::tc
