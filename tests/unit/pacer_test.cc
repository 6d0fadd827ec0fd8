// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virfloor/pacer.h"

#include <gtest/gtest.h>

namespace virfloor::test {
namespace {

using namespace std::chrono_literals;

class PacerTest : public testing::Test {
protected:
    // Somebody undoes it at once, it is put right when it is time. Returns the time that took.
    Pacer::Duration fight_one_round(Pacer::Duration cost = 0ms)
    {
        const auto start = now_;
        pacer_.suspect(now_);
        now_ = *pacer_.next(now_);
        EXPECT_TRUE(pacer_.is_due(now_));
        pacer_.looked(now_, now_ + cost, true);
        now_ += cost;
        return now_ - start;
    }

    Pacer pacer_;
    Pacer::Time now_{24h};
};

TEST_F(PacerTest, HasNothingToDoAtFirst)
{
    EXPECT_FALSE(pacer_.next(now_));
    EXPECT_FALSE(pacer_.is_due(now_));
    EXPECT_FALSE(pacer_.contested(now_));
}

TEST_F(PacerTest, LooksOnceForManyChanges)
{
    pacer_.suspect(now_);
    pacer_.suspect(now_ + 30ms);
    EXPECT_FALSE(pacer_.is_due(now_ + 49ms));
    EXPECT_TRUE(pacer_.is_due(now_ + 50ms));
    pacer_.looked(now_ + 50ms, now_ + 50ms, false);
    EXPECT_FALSE(pacer_.next(now_ + 50ms));
}

TEST_F(PacerTest, ALookThatTookLongIsNotRepeatedSoon)
{
    pacer_.suspect(now_);
    pacer_.looked(now_, now_ + 100ms, false);
    pacer_.suspect(now_ + 110ms);
    EXPECT_EQ(*pacer_.next(now_ + 110ms), now_ + 1100ms);
}

TEST_F(PacerTest, BacksOffAndGivesUpNever)
{
    for (int i = 0; i < Pacer::patience; ++i)
        EXPECT_LE(fight_one_round(), 100ms) << i;
    EXPECT_FALSE(pacer_.contested(now_));
    Pacer::Duration last{};
    for (int i = 0; i < 12; ++i) {
        const auto took = fight_one_round();
        EXPECT_GE(took, last);
        last = took;
        EXPECT_EQ(pacer_.contested(now_), i >= 3) << i;
    }
    EXPECT_EQ(last, Pacer::longest);
    EXPECT_EQ(fight_one_round(), Pacer::longest);
}

TEST_F(PacerTest, TakesATenthOfTheTimeAtMost)
{
    const auto start = now_;
    for (int i = 0; i < 10; ++i)
        fight_one_round(200ms);
    EXPECT_GE(now_ - start, 18s);
}

TEST_F(PacerTest, AContestIsOverAfterAQuietWhile)
{
    while (!pacer_.contested(now_))
        fight_one_round();
    const auto over = *pacer_.next(now_);
    EXPECT_FALSE(pacer_.is_due(over));
    EXPECT_FALSE(pacer_.contested(over));
    EXPECT_FALSE(pacer_.next(over));
    now_ = over;
    EXPECT_EQ(fight_one_round(), Pacer::settling);
    EXPECT_EQ(pacer_.repairs(), 1);
}

TEST_F(PacerTest, RepairsNowAndThenAreNoRow)
{
    for (int i = 0; i < 50; ++i) {
        EXPECT_EQ(fight_one_round(), Pacer::settling);
        EXPECT_EQ(pacer_.repairs(), 1);
        now_ += Pacer::calm;
    }
}

} // namespace
} // namespace virfloor::test
