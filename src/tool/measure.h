// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What the classes of networks send, over a stretch of time.
#pragma once

#include "inventory.h"
#include "virfloor/counters.h"

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace virfloor::tool {

struct Measured {
    BytesPerSecond rate;
    tc::Counters counters; // at the end
};

// By network and class, of networks that are floored. A network that ends meanwhile has none.
using Measurements = std::map<std::string, std::map<ClassId, Measured>>;

Measurements measure(const std::vector<NetworkState>& networks, std::chrono::milliseconds interval);

// "0.5": seconds with decimals, from 0.1 to 3600. Throws UsageError.
std::chrono::milliseconds parse_interval(const std::string& text);

} // namespace virfloor::tool
