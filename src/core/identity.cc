// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virfloor/identity.h"

#include <charconv>

namespace virfloor {

namespace {

constexpr char hex_digits[] = "0123456789abcdef";

std::optional<std::uint8_t> hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return {};
}

void append_hex(std::string& text, std::uint8_t byte)
{
    text += hex_digits[byte >> 4];
    text += hex_digits[byte & 0xf];
}

template <std::size_t Size>
std::size_t hash_bytes(const std::array<std::uint8_t, Size>& bytes)
{
    return std::hash<std::string_view>{}({reinterpret_cast<const char*>(bytes.data()), Size});
}

} // namespace

std::optional<MacAddress> MacAddress::parse(std::string_view text)
{
    MacAddress mac;
    for (std::size_t i = 0; i < mac.bytes.size(); ++i) {
        const std::size_t end = i + 1 < mac.bytes.size() ? text.find(':') : text.size();
        if (end == 0 || end > 2)
            return {};
        const auto [stop, error] = std::from_chars(text.data(), text.data() + end, mac.bytes[i], 16);
        if (error != std::errc{} || stop != text.data() + end)
            return {};
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return mac;
}

std::string MacAddress::text() const
{
    std::string result;
    result.reserve(3 * bytes.size());
    for (const auto byte : bytes) {
        if (!result.empty())
            result += ':';
        append_hex(result, byte);
    }
    return result;
}

std::optional<Uuid> Uuid::parse(std::string_view text)
{
    Uuid uuid;
    std::size_t digits = 0;
    for (const char c : text) {
        if (c == '-' && digits % 2 == 0)
            continue;
        const auto value = hex_value(c);
        if (!value || digits == 2 * uuid.bytes.size())
            return {};
        auto& byte = uuid.bytes[digits / 2];
        byte = static_cast<std::uint8_t>(byte << 4 | *value);
        ++digits;
    }
    if (digits != 2 * uuid.bytes.size())
        return {};
    return uuid;
}

std::string Uuid::text() const
{
    std::string result;
    result.reserve(2 * bytes.size() + 4);
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            result += '-';
        append_hex(result, bytes[i]);
    }
    return result;
}

} // namespace virfloor

std::size_t std::hash<virfloor::Uuid>::operator()(const virfloor::Uuid& uuid) const noexcept
{
    return virfloor::hash_bytes(uuid.bytes);
}

std::size_t std::hash<virfloor::MacAddress>::operator()(const virfloor::MacAddress& mac) const noexcept
{
    return virfloor::hash_bytes(mac.bytes);
}
