// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Class IDs of one tree, lowest free first, over the whole range 3 … 65535.
//
// Invariants: 1. 0, 1 and 2 are never given out. 2. An ID is given out once until it is released.
// Not thread-safe; the owner's lock covers it.
#pragma once

#include "virfloor/identity.h"

#include <optional>
#include <vector>

namespace virfloor {

class ClassIdAllocator {
public:
    ClassIdAllocator();

    // The lowest free ID; nothing when all 65533 are taken.
    std::optional<ClassId> take();
    // This one, if it is a port's ID and free.
    bool take(ClassId id);
    void release(ClassId id);
    bool is_free(ClassId id) const;

private:
    // One bit an ID, set where it is taken; grows with the highest ID ever taken.
    std::vector<std::uint64_t> words_;
    // No word below this one has a free bit.
    std::size_t first_free_word_ = 0;
};

} // namespace virfloor
