// SPDX-License-Identifier: LGPL-2.1-or-later
#include "measure.h"

#include "options.h"
#include "virfloor/device_tree.h"
#include "virfloor/text.h"

#include <algorithm>
#include <memory>
#include <thread>

namespace virfloor::tool {

Samples take_samples(tc::Netlink& netlink, const std::vector<NetworkState>& networks)
{
    Samples samples;
    for (const NetworkState& network : networks) {
        if (!network.floored)
            continue;
        try {
            samples[network.name] = tc::read_counters(netlink, tc::find_device(network.bridge));
        } catch (const Error&) {
            continue; // it ended
        }
    }
    return samples;
}

std::vector<ClassChange> class_changes(const Samples& before, const Samples& after)
{
    std::vector<ClassChange> found;
    for (const auto& [name, now] : after) {
        const auto was = before.find(name);
        if (was == before.end())
            continue;
        ClassChange change{name, {}, {}};
        for (const auto& [id, counters] : now.classes) {
            const auto at = was->second.classes.find(id);
            if (at == was->second.classes.end() || at->second.rate != counters.rate)
                change.there.insert(id);
        }
        for (const auto& [id, counters] : was->second.classes)
            if (!now.classes.contains(id))
                change.gone.insert(id);
        if (!change.there.empty() || !change.gone.empty())
            found.push_back(std::move(change));
    }
    return found;
}

Measurements measure(const std::vector<NetworkState>& networks, std::chrono::milliseconds interval)
{
    const auto netlink = tc::open_netlink();
    const Samples before = take_samples(*netlink, networks);
    std::this_thread::sleep_for(interval);
    Measurements result;
    for (const auto& [name, after] : take_samples(*netlink, networks))
        if (const auto from = before.find(name); from != before.end())
            for (const auto& [id, counters] : after.classes)
                result[name][id] = {tc::rate_between(from->second, after, id), counters};
    return result;
}

std::chrono::milliseconds parse_interval(const std::string& text)
{
    char* end = nullptr;
    const double seconds = g_ascii_strtod(text.c_str(), &end);
    if (text.empty() || *end || !(seconds >= 0.1 && seconds <= 3600))
        throw UsageError(format(_("--interval needs seconds from 0.1 to 3600, not '%s'"), text.c_str()));
    return std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1000));
}

} // namespace virfloor::tool
