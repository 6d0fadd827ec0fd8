// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What the fuzz targets share. A target asserts properties of what it feeds; whatever escapes it but
// an Error is a failure, too.
#pragma once

#include "virfloor/bandwidth.h"
#include "virfloor/error.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

// Ends the process, which libFuzzer reports with the input.
#define REQUIRE(condition)                                                               \
    do {                                                                                 \
        if (!(condition)) {                                                              \
            std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            std::abort();                                                                \
        }                                                                                \
    } while (false)

namespace virfloor::fuzz {

// What the function returns; nothing if it refuses.
template <class Function>
auto attempt(Function function) -> std::optional<decltype(function())>
{
    try {
        return function();
    } catch (const Error& error) {
        REQUIRE(*error.what() != '\0' && error.system_errno() >= 0);
        return {};
    }
}

inline std::string_view text(const std::uint8_t* data, std::size_t size)
{
    return {reinterpret_cast<const char*>(data), size};
}

inline void require_in_range(const Bandwidth& bandwidth)
{
    for (const auto& rate : {bandwidth.inbound, bandwidth.outbound})
        if (rate)
            REQUIRE(rate->average <= max_rate && rate->peak <= max_rate && rate->floor <= max_rate &&
                    rate->burst <= max_burst);
}

// What format_bandwidth has to print of a direction.
inline std::optional<Rate> printed(std::optional<Rate> rate)
{
    if (rate && !rate->average)
        rate->peak = {}, rate->burst = {};
    return rate == Rate{} ? std::nullopt : rate;
}

// A line break in an attribute comes back as a space.
inline std::string without_breaks(std::string text)
{
    for (char& c : text)
        if (c == '\n' || c == '\t' || c == '\r')
            c = ' ';
    return text;
}

} // namespace virfloor::fuzz
