// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What the classes of networks send, over a stretch of time.
#pragma once

#include "inventory.h"
#include "virfloor/counters.h"

#include <chrono>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace virfloor::tool {

struct Measured {
    BytesPerSecond rate;
    tc::Counters counters; // at the end
};

// By network and class, of networks that are floored. A network that ends meanwhile has none.
using Measurements = std::map<std::string, std::map<ClassId, Measured>>;

// By network, of those that are floored. One that ended has none.
using Samples = std::map<std::string, tc::Sample>;

Samples take_samples(tc::Netlink& netlink, const std::vector<NetworkState>& networks);

// Of one network: classes that have come or have other rates, and those that have gone.
struct ClassChange {
    std::string network;
    std::set<ClassId> there, gone;
};

// Of networks that are in both.
std::vector<ClassChange> class_changes(const Samples& before, const Samples& after);

Measurements measure(const std::vector<NetworkState>& networks, std::chrono::milliseconds interval);

// "0.5": seconds with decimals, from 0.1 to 3600. Throws UsageError.
std::chrono::milliseconds parse_interval(const std::string& text);

} // namespace virfloor::tool
