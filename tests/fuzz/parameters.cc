// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Typed parameters, as libvirt hands them over. Bytes of the input choose names, types and values.
#include "parameters.h"

#include "fuzz.h"

#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <span>

namespace virfloor::fuzz {
namespace {

using plugin::Parameters;

constexpr std::array names{VIR_NETWORK_PORT_BANDWIDTH_IN_FLOOR, VIR_NETWORK_PORT_BANDWIDTH_IN_AVERAGE,
                           VIR_NETWORK_PORT_BANDWIDTH_IN_PEAK, VIR_NETWORK_PORT_BANDWIDTH_IN_BURST,
                           VIR_NETWORK_PORT_BANDWIDTH_OUT_AVERAGE};

bool is_floor(const virTypedParameter& at)
{
    return std::string_view(at.field, strnlen(at.field, sizeof at.field)) == names[0];
}

virTypedParameter make(FuzzedDataProvider& input)
{
    virTypedParameter made;
    std::memset(&made, 0, sizeof made);
    const auto choice = input.ConsumeIntegralInRange<std::size_t>(0, names.size());
    const std::string name = choice < names.size() ? names[choice] : input.ConsumeRandomLengthString(sizeof made.field);
    name.copy(made.field, sizeof made.field); // without a NUL if it fills the field
    made.type = input.ConsumeBool() ? int{VIR_TYPED_PARAM_UINT} : input.ConsumeIntegral<int>();
    made.value.ul = input.ConsumeIntegral<std::uint64_t>();
    return made;
}

bool same(const virTypedParameter& a, const virTypedParameter& b) { return std::memcmp(&a, &b, sizeof a) == 0; }

void try_split(std::span<const virTypedParameter> list, int count)
{
    const auto split = attempt([&] { return plugin::split_floor(list.data(), count); });
    const auto given = list.first(static_cast<std::size_t>(std::max(count, 0)));
    const auto floors = std::ranges::count_if(given, is_floor);
    if (!split) {
        REQUIRE(floors > 1 || std::ranges::any_of(given, [](const auto& at) {
                    return is_floor(at) && at.type != VIR_TYPED_PARAM_UINT;
                }));
        return;
    }
    REQUIRE(floors <= 1 && std::ranges::none_of(split->others, is_floor));
    REQUIRE(split->others.size() + static_cast<std::size_t>(floors) == given.size());
    REQUIRE(split->floor.count <= UINT32_MAX && (floors == 1 || !split->floor));
    auto other = split->others.begin();
    for (const auto& at : given)
        REQUIRE(is_floor(at) ? at.value.ui == split->floor.count : same(at, *other++));
}

void try_add(std::span<const virTypedParameter> list, KilobytesPerSecond floor)
{
    Parameters copy;
    *copy.list() = static_cast<virTypedParameterPtr>(std::calloc(list.size() + 1, sizeof list[0]));
    std::ranges::copy(list, *copy.list());
    for (auto& at : std::span(*copy.list(), list.size()))
        if (at.type == VIR_TYPED_PARAM_STRING)
            at.type = VIR_TYPED_PARAM_INT; // its value would be freed as a text
    const std::vector before(*copy.list(), *copy.list() + list.size());
    *copy.count() = static_cast<int>(list.size());

    plugin::add_floor(copy.list(), copy.count(), floor);
    const std::span after(*copy.list(), static_cast<std::size_t>(*copy.count()));
    const auto added = std::ranges::find_if(after, is_floor);
    REQUIRE(added != after.end() && added->type == VIR_TYPED_PARAM_UINT);
    REQUIRE(added->value.ui == std::min<std::uint64_t>(floor.count, UINT32_MAX));
    REQUIRE(after.size() >= before.size());
    for (std::size_t i = 0; i < before.size(); ++i)
        REQUIRE(same(after[i], before[i]) || &after[i] == &*added);
}

} // namespace
} // namespace virfloor::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    static const int initialized = virInitialize();
    REQUIRE(initialized == 0);
    constexpr std::size_t most = 32;
    FuzzedDataProvider input(data, size);
    const virfloor::KilobytesPerSecond floor{input.ConsumeIntegral<std::uint64_t>()};
    const bool negative = input.ConsumeProbability<double>() < 0.05;
    const int number = input.ConsumeIntegral<int>();
    std::vector<virTypedParameter> list;
    while (input.remaining_bytes() > 0 && list.size() < most)
        list.push_back(virfloor::fuzz::make(input));
    const int count = negative ? std::min(number, 0) : static_cast<int>(list.size());
    virfloor::fuzz::try_split(list, count);
    virfloor::fuzz::try_add(list, floor);
    return 0;
}
