// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Quantities with their units in their types. XML and typed parameters speak in units of 1000
// bytes per second and of 1024 bytes (libvirt's "QoS" section of the network XML format); the
// kernel speaks in bytes per second and in scheduler ticks. The compiler keeps them apart.
#pragma once

#include <compare>
#include <cstdint>

namespace virfloor {

template <class Unit>
struct Quantity {
    std::uint64_t count = 0;

    auto operator<=>(const Quantity&) const = default;
    constexpr Quantity operator+(Quantity other) const { return {count + other.count}; }
    constexpr Quantity operator-(Quantity other) const { return {count - other.count}; }
    constexpr Quantity& operator+=(Quantity other)
    {
        count += other.count;
        return *this;
    }
    constexpr Quantity& operator-=(Quantity other)
    {
        count -= other.count;
        return *this;
    }
    constexpr explicit operator bool() const { return count != 0; }
};

using BytesPerSecond = Quantity<struct BytesPerSecondUnit>;
using KilobytesPerSecond = Quantity<struct KilobytesPerSecondUnit>; // 1000 bytes a second
using Bytes = Quantity<struct BytesUnit>;
using Kibibytes = Quantity<struct KibibytesUnit>; // 1024 bytes
// What the kernel counts bucket depths in: the time the burst takes at the rate, in steps of
// 64 ns (PSCHED_SHIFT in include/net/pkt_sched.h). 32 bits wide there.
using Ticks = Quantity<struct TicksUnit>;

// The largest number of kilobytes a second whose bytes a second still fit 64 bits.
inline constexpr KilobytesPerSecond max_rate{std::uint64_t{1} << 54};
// The same for bursts; larger ones cannot be told apart by the kernel anyway.
inline constexpr Kibibytes max_burst{std::uint64_t{1} << 53};

constexpr BytesPerSecond in_bytes(KilobytesPerSecond rate) { return {rate.count * 1000}; }
constexpr Bytes in_bytes(Kibibytes size) { return {size.count * 1024}; }

} // namespace virfloor
