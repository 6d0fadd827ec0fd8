// SPDX-License-Identifier: LGPL-2.1-or-later
//
// When to look after a tree that others may have changed: soon after a change, and ever more rarely
// if what was put right is undone again and again. A plain value: the time is told.
//
// Not thread-safe; the owner's lock covers it.
#pragma once

#include <chrono>
#include <optional>

namespace virfloor {

class Pacer {
public:
    using Clock = std::chrono::steady_clock;
    using Time = Clock::time_point;
    using Duration = Clock::duration;

    // A change is given this long to be complete, so that many make one look.
    static constexpr Duration settling = std::chrono::milliseconds(50);
    // So many repairs in a row are made at once; after that, the time between doubles with each.
    static constexpr int patience = 10;
    static constexpr Duration longest = std::chrono::seconds(60);
    // Repairs are in a row if they come this soon one after the other, or twice their distance.
    static constexpr Duration calm = std::chrono::seconds(2);

    // Something may have changed.
    void suspect(Time now);
    bool is_due(Time now) const { return due_ && *due_ <= now; }
    // A look is over, that began at `start`. trouble: something had to be put right, or could not be.
    void looked(Time start, Time end, bool trouble);

    // Others undo what is put right, and the looks have become rare for it. This ends when nothing had
    // to be put right for a while.
    bool contested(Time now) const;
    // The next time at which something is to be done: a look, or the end of a contest.
    std::optional<Time> next(Time now) const;
    // Repairs in a row, the last look's among them.
    int repairs() const { return row_; }

private:
    // Between two repairs of the row that there is now.
    Duration distance() const;
    Duration calm_time() const;

    std::optional<Time> due_;
    std::optional<Time> last_trouble_;
    Time earliest_; // of the next look
    int row_ = 0;   // repairs in a row
};

} // namespace virfloor
