// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virfloor/pacer.h"

#include <algorithm>

namespace virfloor {

namespace {

// A look that took long, at a large tree, is not repeated soon: at most this part of the time.
constexpr int looks_share = 10;
// Doublings after which the others are said to contest the tree, at 0.8 s.
constexpr int contested_doublings = 4;

} // namespace

Pacer::Duration Pacer::distance() const
{
    Duration result = settling;
    for (int i = patience; i < row_ && result < longest; ++i)
        result *= 2;
    return std::min(result, longest);
}

Pacer::Duration Pacer::calm_time() const { return std::max(calm, 2 * distance()); }

void Pacer::suspect(Time now)
{
    if (!due_)
        due_ = std::max(now + settling, earliest_);
}

void Pacer::looked(Time start, Time end, bool trouble)
{
    due_.reset();
    if (!last_trouble_ || start - *last_trouble_ > calm_time())
        row_ = 0;
    if (trouble) {
        ++row_;
        last_trouble_ = end;
    }
    earliest_ = end + std::max(distance(), looks_share * (end - start));
}

bool Pacer::contested(Time now) const
{
    return row_ >= patience + contested_doublings && now - *last_trouble_ <= calm_time();
}

std::optional<Pacer::Time> Pacer::next(Time now) const
{
    if (due_)
        return due_;
    if (contested(now))
        return *last_trouble_ + calm_time() + settling;
    return {};
}

} // namespace virfloor
