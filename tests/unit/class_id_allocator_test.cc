// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virfloor/class_id_allocator.h"

#include "support.h"

#include <set>

namespace virfloor::test {
namespace {

constexpr unsigned first = 3, last = 65535;

ClassId id(unsigned number) { return {static_cast<std::uint16_t>(number)}; }

TEST(ClassIdAllocator, GivesTheLowestFirst)
{
    ClassIdAllocator ids;
    EXPECT_EQ(taken_ids(ids), "0-2");
    EXPECT_EQ(ids.take(), id(3));
    EXPECT_EQ(ids.take(), id(4));
    EXPECT_EQ(ids.take(), id(5));
    ids.release(id(4));
    EXPECT_EQ(taken_ids(ids), "0-3,5");
    EXPECT_EQ(ids.take(), id(4));
    EXPECT_EQ(ids.take(), id(6));
    EXPECT_EQ(taken_ids(ids), "0-6");
}

TEST(ClassIdAllocator, GivesAllIdsOnceAndThenNone)
{
    ClassIdAllocator ids;
    for (unsigned i = first; i <= last; ++i)
        ASSERT_EQ(ids.take(), id(i));
    EXPECT_FALSE(ids.take());
    EXPECT_FALSE(ids.take());
    EXPECT_EQ(taken_ids(ids), "0-65535");
    for (const unsigned freed : {65535u, 3u, 64u, 63u, 40000u}) {
        ids.release(id(freed));
        EXPECT_TRUE(ids.is_free(id(freed)));
        EXPECT_EQ(ids.take(), id(freed));
        EXPECT_FALSE(ids.take());
    }
}

TEST(ClassIdAllocator, NeverGivesTheReservedOnes)
{
    ClassIdAllocator ids;
    for (unsigned i = 0; i < first; ++i) {
        EXPECT_FALSE(ids.is_free(id(i)));
        EXPECT_FALSE(ids.take(id(i)));
        ids.release(id(i));
    }
    EXPECT_EQ(taken_ids(ids), "0-2");
    EXPECT_EQ(ids.take(), id(3));
}

TEST(ClassIdAllocator, TakesOneThatIsAskedFor)
{
    ClassIdAllocator ids;
    EXPECT_TRUE(ids.take(id(65535)));
    EXPECT_FALSE(ids.take(id(65535)));
    EXPECT_TRUE(ids.take(id(4)));
    EXPECT_EQ(taken_ids(ids), "0-2,4,65535");
    EXPECT_EQ(ids.take(), id(3));
    EXPECT_EQ(ids.take(), id(5));
    ids.release(id(65535));
    EXPECT_EQ(taken_ids(ids), "0-5");
}

TEST(ClassIdAllocator, ReleasingTwiceChangesNothing)
{
    ClassIdAllocator ids;
    ids.take();
    ids.release(id(3));
    ids.release(id(3));
    ids.release(id(60000));
    EXPECT_EQ(taken_ids(ids), "0-2");
}

TEST(ClassIdAllocator, BitmapCrossesWords)
{
    ClassIdAllocator ids;
    for (const unsigned taken : {62u, 63u, 64u, 65u, 127u, 128u, 192u, 65534u})
        EXPECT_TRUE(ids.take(id(taken)));
    EXPECT_EQ(taken_ids(ids), "0-2,62-65,127-128,192,65534");
}

TEST(ClassIdAllocator, AgreesWithASetAfterRandomCalls)
{
    ClassIdAllocator ids;
    std::set<unsigned> taken;
    std::mt19937 random(1);
    for (int i = 0; i < 20000; ++i) {
        const unsigned number = first + random() % 300;
        switch (random() % 3) {
        case 0: {
            unsigned lowest = first;
            while (taken.contains(lowest))
                ++lowest;
            ASSERT_EQ(ids.take(), id(lowest));
            taken.insert(lowest);
            break;
        }
        case 1: ASSERT_EQ(ids.take(id(number)), taken.insert(number).second); break;
        default: ids.release(id(number)); taken.erase(number);
        }
        ASSERT_EQ(ids.is_free(id(number)), !taken.contains(number));
    }
}

} // namespace
} // namespace virfloor::test
