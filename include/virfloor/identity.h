// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The names that things go by: MAC addresses, port UUIDs, HTB class IDs, network devices.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace virfloor {

// The kernel's number of a network device (ifindex) is an int > 0; this stands for none.
inline constexpr int no_ifindex = 0;

struct MacAddress {
    std::array<std::uint8_t, 6> bytes{};

    auto operator<=>(const MacAddress&) const = default;
    // Six groups of one or two hexadecimal digits with colons, as virMacAddrParse takes them.
    static std::optional<MacAddress> parse(std::string_view text);
    std::string text() const;
};

struct Uuid {
    std::array<std::uint8_t, 16> bytes{};

    auto operator<=>(const Uuid&) const = default;
    // 32 hexadecimal digits; hyphens anywhere between them, as virUUIDParse takes them.
    static std::optional<Uuid> parse(std::string_view text);
    std::string text() const; // 8-4-4-4-12, lower case
};

// The minor number of an HTB class below the qdisc 1:, unique on a device.
struct ClassId {
    std::uint16_t minor = 0;

    auto operator<=>(const ClassId&) const = default;
};

inline constexpr ClassId root_class{1};
inline constexpr ClassId catchment_class{2};
inline constexpr ClassId first_port_class{3};
inline constexpr ClassId last_class{65535};

} // namespace virfloor

template <>
struct std::hash<virfloor::Uuid> {
    std::size_t operator()(const virfloor::Uuid& uuid) const noexcept;
};
template <>
struct std::hash<virfloor::MacAddress> {
    std::size_t operator()(const virfloor::MacAddress& mac) const noexcept;
};
