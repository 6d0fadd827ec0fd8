// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The metrics of virt-floor exporter: their names, and how figures become them. docs/monitoring.md lists them all.
//
// Labels that name an interface are those of its class: interfaces of one address share a class, and are one series.
#pragma once

#include "inventory.h"
#include "virfloor/counters.h"
#include "virfloor/status.h"
#include "wide_drops.h"

#include <prometheus/metric_family.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace virfloor::tool {

// What a scrape found out of one network.
struct NetworkReading {
    const NetworkState* network = nullptr;
    std::optional<tc::Sample> kernel;   // nothing: there is no bridge
    std::optional<SavedNetwork> status; // nothing: no file, or no right to read it
};

// Where figures come from, and whether and how quickly they came.
struct Collector {
    std::string name;
    bool succeeded = false;
    std::chrono::duration<double> took{};
};

struct Scrape {
    bool libvirt_answers = false;
    std::optional<std::chrono::system_clock::time_point> inventory_read_at;
    std::vector<NetworkReading> networks;
    std::vector<Collector> collectors;
};

// drops: carried on from one scrape to the next.
std::vector<prometheus::MetricFamily> families(const Scrape& scrape, WideDrops& drops);

} // namespace virfloor::tool
