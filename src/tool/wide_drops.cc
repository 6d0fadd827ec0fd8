// SPDX-License-Identifier: LGPL-2.1-or-later
#include "wide_drops.h"

#include <utility>

namespace virfloor::tool {

namespace {

// Nobody drops as much between two looks: what seems to is a queue that was replaced.
constexpr std::uint32_t most_at_once = UINT32_MAX / 2;

} // namespace

std::uint64_t WideDrops::count(const std::string& of, const tc::Counters& now)
{
    Seen& seen = seen_[of] = before_[of];
    const std::uint32_t more = now.drops - seen.last.drops; // modulo 2^32
    const bool anew = now.packets < seen.last.packets || now.sent < seen.last.sent || more > most_at_once;
    seen.drops = anew ? now.drops : seen.drops + more;
    seen.last = now;
    return seen.drops;
}

void WideDrops::end_of_look() { before_ = std::exchange(seen_, {}); }

} // namespace virfloor::tool
