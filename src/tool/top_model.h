// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What `virt-floor top` shows, as plain values: rows out of the inventory and of two samples of the kernel's counters,
// their order and choice, and the last rates of each. No I/O. Not thread-safe.
#pragma once

#include "inventory.h"
#include "measure.h"

#include <cstddef>
#include <deque>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace virfloor::tool {

// Oldest first, one for each pair of samples.
using History = std::deque<BytesPerSecond>;
inline constexpr std::size_t history_length = 120;

struct Speed {
    BytesPerSecond rate;
    double drops = 0; // packets a second
};

struct TopRow {
    enum class Kind { network, interface, catchment };

    Kind kind = Kind::interface;
    std::string key; // the same in all frames
    std::string network, domain, mac, device;
    std::optional<ClassId> id;
    std::optional<BytesPerSecond> floor; // of a network: the sum of its floors
    std::optional<BytesPerSecond> ceil;  // of a network: what floors may add up to
    std::optional<BytesPerSecond> most;  // what it can get at the very most, as the kernel has it
    std::optional<Speed> now;
    // It has a floor, has packets waiting, and gets less than its floor.
    bool starved = false;
    const History* history = nullptr; // null for none
};

enum class SortKey { rate, floor, drops, name, use };

// Which rows, and in what order.
struct Choice {
    SortKey key = SortKey::rate;
    bool reversed = false; // names come from a to z, figures from the largest down, unless they are reversed
    std::string filter{};  // in the domain, network, device or address, in letters of either case
    std::optional<std::string> network{}, domain{};
};

class TopModel {
public:
    void set_inventory(std::vector<NetworkState> networks);
    // The counters now. Classes that have come, gone, or have other rates than before: the inventory is out of date.
    std::vector<ClassChange> add(Samples samples);

    const std::vector<NetworkState>& networks() const { return networks_; }
    // Lines of networks, by name; and those of interfaces and catchments. They live until the next change.
    std::vector<const TopRow*> network_rows(const Choice& choice) const;
    std::vector<const TopRow*> rows(const Choice& choice) const;

private:
    void rebuild();
    void add_rows(const NetworkState& network);
    TopRow row(const NetworkState& network, TopRow::Kind kind, const std::string& key, std::optional<ClassId> id) const;
    void measure(TopRow& row) const;
    void remember();

    std::vector<NetworkState> networks_;
    Samples before_, after_;
    std::vector<TopRow> totals_, rows_;
    std::unordered_map<std::string, History> histories_;
};

} // namespace virfloor::tool
