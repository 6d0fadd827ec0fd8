// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What many tests say often.
#pragma once

#include "virfloor/bandwidth.h"
#include "virfloor/error.h"
#include "virfloor/identity.h"
#include "virfloor/log.h"
#include "virfloor/network.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace virfloor::test {

inline MacAddress mac(const std::string& text) { return MacAddress::parse(text).value(); }

// Addresses and UUIDs that differ by a number: 52:54:00:NN:NN:NN.
inline MacAddress mac(unsigned number)
{
    return {{0x52, 0x54, 0x00, static_cast<std::uint8_t>(number >> 16), static_cast<std::uint8_t>(number >> 8),
             static_cast<std::uint8_t>(number)}};
}

inline Uuid uuid(unsigned number)
{
    Uuid result;
    result.bytes = {0x0f, 0xf1, 0xce, 0x00, 0x12, 0x34, 0x40, 0x00, 0x80, 0x00, 0x00, 0x00};
    for (unsigned i = 0; i < 4; ++i)
        result.bytes[15 - i] = static_cast<std::uint8_t>(number >> 8 * i);
    return result;
}

// Class IDs that are not free, as ranges: "0-2,4,7-9".
template <class IsTaken>
std::string ranges_of_ids(IsTaken is_taken)
{
    std::string text;
    for (unsigned i = 0; i <= last_class.minor; ++i) {
        if (!is_taken(i))
            continue;
        const unsigned first = i;
        while (i < last_class.minor && is_taken(i + 1))
            ++i;
        text += (text.empty() ? "" : ",") + std::to_string(first);
        if (i > first)
            text += "-" + std::to_string(i);
    }
    return text;
}
inline std::string taken_ids(const ClassIdAllocator& ids)
{
    return ranges_of_ids([&](unsigned at) { return !ids.is_free(ClassId{static_cast<std::uint16_t>(at)}); });
}
inline std::string taken_ids(const Network& network)
{
    std::set<unsigned> ids{0, root_class.minor, catchment_class.minor};
    for (const auto& [uuid, port] : network.ports())
        ids.insert(port.id.minor);
    return ranges_of_ids([&](unsigned at) { return ids.contains(at); });
}

inline Rate rate(std::uint64_t average, std::uint64_t peak = 0, std::uint64_t floor = 0, std::uint64_t burst = 0)
{
    return Rate{{average}, {peak}, {floor}, {burst}};
}

// The Error that the function throws; fails the test if it throws none.
template <class Function>
Error error_of(Function function)
{
    try {
        function();
    } catch (const Error& error) {
        return error;
    }
    ADD_FAILURE() << "no Error was thrown";
    return Error(Refusal::system, "no Error was thrown");
}

#define EXPECT_REFUSED(kind, statement) \
    EXPECT_EQ(::virfloor::test::error_of([&] { statement; }).refusal(), ::virfloor::Refusal::kind)

// A directory that goes with the test.
class TemporaryDirectory {
public:
    TemporaryDirectory()
    {
        std::string name = (std::filesystem::temp_directory_path() / "virfloor-test-XXXXXX").string();
        path_ = mkdtemp(name.data());
    }
    ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
    TemporaryDirectory(const TemporaryDirectory&) = delete;
    TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

    const std::filesystem::path& path() const { return path_; }

private:
    std::filesystem::path path_;
};

inline std::string read_text(const std::filesystem::path& path)
{
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

inline void write_text(const std::filesystem::path& path, const std::string& text)
{
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << text;
}

// Keeps what is logged as long as it lives.
class LogCapture {
public:
    LogCapture()
    {
        lines().clear();
        set_log_sink([](Severity severity, const std::string& message) { lines().emplace_back(severity, message); });
    }
    ~LogCapture()
    {
        set_log_sink([](Severity, const std::string&) {});
    }
    LogCapture(const LogCapture&) = delete;
    LogCapture& operator=(const LogCapture&) = delete;

    static std::vector<std::pair<Severity, std::string>>& lines()
    {
        static std::vector<std::pair<Severity, std::string>> kept;
        return kept;
    }
    static std::string text()
    {
        std::string all;
        for (const auto& [severity, message] : lines())
            all += message + '\n';
        return all;
    }
};

} // namespace virfloor::test
