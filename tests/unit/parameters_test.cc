// SPDX-License-Identifier: LGPL-2.1-or-later
#include "parameters.h"

#include "support.h"

#include <climits>
#include <cstring>
#include <span>

namespace virfloor::plugin {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr char average[] = VIR_NETWORK_PORT_BANDWIDTH_IN_AVERAGE;
constexpr char peak[] = VIR_NETWORK_PORT_BANDWIDTH_IN_PEAK;
constexpr char floor_name[] = VIR_NETWORK_PORT_BANDWIDTH_IN_FLOOR;
constexpr char burst[] = VIR_NETWORK_PORT_BANDWIDTH_IN_BURST;

virTypedParameter parameter(const std::string& name, unsigned value, int type = VIR_TYPED_PARAM_UINT)
{
    virTypedParameter made;
    std::memset(&made, 0, sizeof made);
    name.copy(made.field, sizeof made.field);
    made.type = type;
    made.value.ui = value;
    return made;
}

SplitParameters split(const std::vector<virTypedParameter>& list)
{
    return split_floor(list.data(), static_cast<int>(list.size()));
}

std::vector<std::string> names(std::span<const virTypedParameter> list)
{
    std::vector<std::string> result;
    for (const auto& at : list)
        result.emplace_back(at.field, strnlen(at.field, sizeof at.field));
    return result;
}

class AddFloor : public testing::Test {
protected:
    void SetUp() override { ASSERT_EQ(virInitialize(), 0); }
    void have(const char* name, unsigned value)
    {
        int allocated = *list_.count();
        ASSERT_EQ(virTypedParamsAddUInt(list_.list(), list_.count(), &allocated, name, value), 0);
    }
    void add(std::uint64_t floor) { add_floor(list_.list(), list_.count(), {floor}); }
    std::span<virTypedParameter> all() { return {*list_.list(), static_cast<std::size_t>(*list_.count())}; }

    Parameters list_;
};

TEST(SplitFloor, TakesTheFloorOut)
{
    const auto result = split({parameter(average, 10), parameter(floor_name, 7), parameter(burst, 5)});
    EXPECT_EQ(result.floor.count, 7u);
    EXPECT_THAT(names(result.others), ElementsAre(average, burst));
    EXPECT_EQ(result.others[1].value.ui, 5u);
}

TEST(SplitFloor, IsZeroWhereNoneIsGiven)
{
    EXPECT_FALSE(split({}).floor);
    EXPECT_FALSE(split({parameter(average, 10)}).floor);
    EXPECT_EQ(split({parameter(floor_name, UINT_MAX)}).floor.count, UINT_MAX);
}

TEST(SplitFloor, TakesOtherNamesForOthers)
{
    for (const char* name : {"", "inbound.floo", "inbound.floors", "outbound.floor", "inbound.floor "})
        EXPECT_THAT(names(split({parameter(name, 1)}).others), ElementsAre(name));
}

TEST(SplitFloor, RefusesAnotherType)
{
    for (const int type :
         {-1, 0, int{VIR_TYPED_PARAM_INT}, int{VIR_TYPED_PARAM_LLONG}, int{VIR_TYPED_PARAM_ULLONG},
          int{VIR_TYPED_PARAM_DOUBLE}, int{VIR_TYPED_PARAM_BOOLEAN}, int{VIR_TYPED_PARAM_STRING}, INT_MAX})
        EXPECT_REFUSED(config_unsupported, split({parameter(floor_name, 1, type)})) << type;
}

// The stock driver refuses its own like that, and never sees ours.
TEST(SplitFloor, RefusesTwoFloors)
{
    const auto error = test::error_of([] { split({parameter(floor_name, 1), parameter(floor_name, 1)}); });
    EXPECT_EQ(error.refusal(), Refusal::config_unsupported);
    EXPECT_THAT(error.what(), HasSubstr("multiple"));
}

TEST(SplitFloor, NeedsNoListForNoParameters)
{
    EXPECT_TRUE(split_floor(nullptr, 0).others.empty());
    EXPECT_TRUE(split_floor(nullptr, 3).others.empty());
    const auto one = parameter(average, 1);
    for (const int count : {0, -1, INT_MIN})
        EXPECT_TRUE(split_floor(&one, count).others.empty()) << count;
}

// A name of all 80 bytes has no NUL.
TEST(SplitFloor, ReadsNoNameBeyondItsField)
{
    const auto long_name = parameter(std::string(VIR_TYPED_PARAM_FIELD_LENGTH, 'i'), 1);
    EXPECT_EQ(split({long_name}).others.size(), 1u);
}

TEST_F(AddFloor, FillsAnEmptyListInTheOrderOfTheStockDriver)
{
    add(300);
    EXPECT_THAT(names(all()), ElementsAre(average, peak, floor_name, burst));
    EXPECT_EQ(all()[2].value.ui, 300u);
    EXPECT_EQ(all()[0].value.ui + all()[1].value.ui + all()[3].value.ui, 0u);
}

TEST_F(AddFloor, FillsInAFloorThatIsThere)
{
    have(average, 10);
    have(floor_name, 0);
    all()[1].type = VIR_TYPED_PARAM_ULLONG;
    all()[1].value.ul = ULLONG_MAX;
    add(300);
    EXPECT_THAT(names(all()), ElementsAre(average, floor_name));
    EXPECT_EQ(all()[1].type, VIR_TYPED_PARAM_UINT);
    EXPECT_EQ(all()[1].value.ui, 300u);
    EXPECT_EQ(all()[0].value.ui, 10u);
}

TEST_F(AddFloor, KeepsWhatIsThere)
{
    have(VIR_NETWORK_PORT_BANDWIDTH_OUT_AVERAGE, 4);
    add(1);
    EXPECT_EQ(all().size(), 5u);
    EXPECT_EQ(all()[0].value.ui, 4u);
}

TEST_F(AddFloor, GivesTheLargestNumberForAFloorBeyond32Bits)
{
    add(std::uint64_t{1} << 54);
    EXPECT_EQ(all()[2].value.ui, UINT_MAX);
}

} // namespace
} // namespace virfloor::plugin
