// SPDX-License-Identifier: LGPL-2.1-or-later
#include "commands.h"
#include "evidence.h"
#include "options.h"
#include "output.h"
#include "virfloor/log.h"
#include "virfloor/text.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <thread>

namespace virfloor::tool {

namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

// What is plugged, unplugged or put right while it is looked at differs for less than that.
constexpr auto least_stand = std::chrono::seconds(1);
constexpr auto between_looks = std::chrono::milliseconds(100);

struct Findings {
    Evidence evidence;
    std::vector<Difference> differences;
};

Findings look(const std::vector<Connection>& connections, const std::optional<std::string>& only)
{
    Findings findings{gather(connections, only), {}};
    findings.differences = differences(findings.evidence);
    return findings;
}

// A look that fails may have met a network that just ended.
Findings look_until(Clock::time_point end, const std::vector<Connection>& connections,
                    const std::optional<std::string>& only)
{
    while (true) {
        try {
            return look(connections, only);
        } catch (const Error&) {
            if (Clock::now() >= end)
                throw;
        }
        std::this_thread::sleep_for(between_looks);
    }
}

// The differences that stand in all looks.
Findings look_again_and_again(const std::vector<Connection>& connections, const std::optional<std::string>& only)
{
    const auto end = Clock::now() + least_stand;
    Findings standing = look_until(end, connections, only);
    while (!standing.differences.empty() && Clock::now() < end) {
        std::this_thread::sleep_for(between_looks);
        Findings again = look_until(end, connections, only);
        std::erase_if(again.differences, [&](const Difference& difference) {
            return std::ranges::find(standing.differences, difference) == standing.differences.end();
        });
        standing = std::move(again);
    }
    return standing;
}

const char* name(Place place)
{
    switch (place) {
    case Place::domain: return "domain";
    case Place::status: return "status";
    case Place::kernel: break;
    }
    return "kernel";
}

void tell_json(const Findings& findings)
{
    Json networks = Json::array(), list = Json::array();
    for (const auto& [name, network] : findings.evidence.networks)
        networks.push_back(name);
    for (const Difference& difference : findings.differences)
        list.push_back({{"network", difference.network}, {"where", name(difference.place)}, {"text", difference.text}});
    print_json(Json{{"networks", networks}, {"differences", list}, {"unknown", findings.evidence.unknown}});
}

void tell(const Findings& findings)
{
    for (const Difference& difference : findings.differences)
        std::cout << sentence(difference) << '\n';
    const std::size_t count = findings.evidence.networks.size();
    if (findings.differences.empty() && findings.evidence.unknown.empty())
        std::cout << format(plural("%zu network with floors: all is as it should be",
                                   "%zu networks with floors: all is as it should be", count),
                            count)
                  << '\n';
}

} // namespace

int check(int count, char** arguments)
{
    Common common;
    Options options(_("[NETWORK]"),
                    _("Compares what domains ask for, libvirt's ports, the status files and the kernel, and says each "
                      "difference that stands for a second. Without a daemon, it goes by the status files. It needs "
                      "root's rights, since status files are root's. Exit status 1: there are differences."));
    common.add_to(options);
    const auto names = options.parse(count, arguments, 0, 1);

    set_log_sink([](Severity, const std::string&) {}); // what cannot be read is said below
    const auto only = names.empty() ? std::nullopt : std::optional(names.front());
    const Findings findings = look_again_and_again(connect_if_served(common.uris), only);
    common.json ? tell_json(findings) : tell(findings);
    for (const std::string& sentence : findings.evidence.unknown)
        std::cerr << "virt-floor: " << sentence << '\n';
    if (!findings.differences.empty())
        return exit_no;
    return findings.evidence.unknown.empty() ? exit_done : exit_failed;
}

} // namespace virfloor::tool
