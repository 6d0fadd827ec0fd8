// SPDX-License-Identifier: LGPL-2.1-or-later
#include "parameters.h"

#include "virfloor/error.h"
#include "virfloor/text.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <span>
#include <utility>

namespace virfloor::plugin {

namespace {

bool is_floor(const virTypedParameter& parameter)
{
    constexpr char name[] = VIR_NETWORK_PORT_BANDWIDTH_IN_FLOOR;
    return std::strncmp(parameter.field, name, sizeof parameter.field) == 0;
}

// Without a list there are none, whatever is said of their number.
template <class Parameter>
std::span<Parameter> all(Parameter* list, int count)
{
    return {list, list && count > 0 ? static_cast<std::size_t>(count) : 0};
}

} // namespace

SplitParameters split_floor(const virTypedParameter* list, int count)
{
    SplitParameters split;
    bool given = false;
    for (const auto& parameter : all(list, count)) {
        if (!is_floor(parameter)) {
            split.others.push_back(parameter);
            continue;
        }
        if (parameter.type != VIR_TYPED_PARAM_UINT)
            throw Error(Refusal::config_unsupported,
                        format(_("the parameter %s is not an unsigned number"), VIR_NETWORK_PORT_BANDWIDTH_IN_FLOOR));
        // As the stock driver says of its own.
        if (std::exchange(given, true))
            throw Error(Refusal::config_unsupported,
                        format(_("the parameter %s occurs multiple times"), VIR_NETWORK_PORT_BANDWIDTH_IN_FLOOR));
        split.floor = {parameter.value.ui};
    }
    return split;
}

// The order of the parameters is the stock driver's: average, peak, floor, burst.
void add_floor(virTypedParameterPtr* list, int* count, KilobytesPerSecond floor)
{
    const unsigned value = static_cast<unsigned>(std::min<std::uint64_t>(floor.count, UINT32_MAX));
    for (auto& parameter : all(*list, *count))
        if (is_floor(parameter)) {
            parameter.type = VIR_TYPED_PARAM_UINT;
            parameter.value.ui = value;
            return;
        }
    int allocated = *count;
    const auto add = [&](const char* name, unsigned number) {
        if (virTypedParamsAddUInt(list, count, &allocated, name, number) < 0)
            throw std::bad_alloc();
    };
    add(VIR_NETWORK_PORT_BANDWIDTH_IN_AVERAGE, 0);
    add(VIR_NETWORK_PORT_BANDWIDTH_IN_PEAK, 0);
    add(VIR_NETWORK_PORT_BANDWIDTH_IN_FLOOR, value);
    add(VIR_NETWORK_PORT_BANDWIDTH_IN_BURST, 0);
}

} // namespace virfloor::plugin
