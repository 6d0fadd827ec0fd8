// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virfloor/text.h"

#include <gtest/gtest.h>

namespace virfloor::test {
namespace {

TEST(TextTest, FormatsLikePrintf)
{
    EXPECT_EQ(format("network '%s': %zu floors", "lab", std::size_t{3}), "network 'lab': 3 floors");
    EXPECT_EQ(format("%s", ""), "");
    EXPECT_EQ(format("100 %%"), "100 %");
}

TEST(TextTest, FormatsWhatIsLongerThanAnyBuffer)
{
    const std::string longest(100'000, 'x');
    EXPECT_EQ(format("<%s>", longest.c_str()), "<" + longest + ">");
}

TEST(TextTest, TranslatorsMayTurnTheOrderRound) { EXPECT_EQ(format("%2$s of %1$d", 7, "class 1:3"), "class 1:3 of 7"); }

TEST(TextTest, IsEnglishWithoutALocale)
{
    bind_texts("/nowhere");
    EXPECT_STREQ(_("cannot open %s: %s"), "cannot open %s: %s");
    for (const unsigned long count : {0UL, 1UL, 2UL})
        EXPECT_STREQ(plural("%lu port", "%lu ports", count), count == 1 ? "%lu port" : "%lu ports");
}

} // namespace
} // namespace virfloor::test
