// SPDX-License-Identifier: LGPL-2.1-or-later
#include "top_model.h"

#include "virfloor/text.h"

#include <glib.h>

#include <algorithm>
#include <memory>
#include <tuple>

namespace virfloor::tool {

namespace {

// Below this part of its floor, an interface that has packets waiting is said to be starved. What it is above is
// the measuring: a queue is emptied in bursts.
constexpr double met = 0.9;

std::string folded(const std::string& text)
{
    const std::unique_ptr<gchar, void (*)(void*)> owned(g_utf8_casefold(text.c_str(), static_cast<gssize>(text.size())),
                                                        g_free);
    return owned.get();
}

bool contains(const TopRow& row, const std::string& folded_text)
{
    return std::ranges::any_of(
        std::initializer_list<const std::string*>{&row.domain, &row.network, &row.device, &row.mac},
        [&](const std::string* text) { return folded(*text).find(folded_text) != std::string::npos; });
}

// What a row is sorted by; those that have no such figure come last.
double figure(const TopRow& row, SortKey key)
{
    const double floor = row.floor ? static_cast<double>(row.floor->count) : -1;
    switch (key) {
    case SortKey::floor: return floor;
    case SortKey::drops: return row.now ? row.now->drops : -1;
    case SortKey::use: return row.now && floor > 0 ? static_cast<double>(row.now->rate.count) / floor : -1;
    case SortKey::rate:
    case SortKey::name: break;
    }
    return row.now ? static_cast<double>(row.now->rate.count) : -1;
}

bool by_name(const TopRow* one, const TopRow* other)
{
    return std::tie(one->domain, one->network, one->mac, one->key) <
           std::tie(other->domain, other->network, other->mac, other->key);
}

const tc::Counters* find(const Samples& samples, const TopRow& row)
{
    const auto sample = samples.find(row.network);
    if (!row.id || sample == samples.end())
        return nullptr;
    const auto at = sample->second.classes.find(*row.id);
    return at == sample->second.classes.end() ? nullptr : &at->second;
}

} // namespace

void TopModel::set_inventory(std::vector<NetworkState> networks)
{
    networks_ = std::move(networks);
    rebuild();
}

std::vector<ClassChange> TopModel::add(Samples samples)
{
    before_ = std::move(after_);
    after_ = std::move(samples);
    rebuild();
    remember();
    return class_changes(before_, after_);
}

void TopModel::rebuild()
{
    totals_.clear();
    rows_.clear();
    for (const NetworkState& network : networks_)
        add_rows(network);
}

void TopModel::add_rows(const NetworkState& network)
{
    for (const Interface& at : network.interfaces) {
        TopRow added = row(network, TopRow::Kind::interface, at.port.text(), at.floor ? at.id : std::nullopt);
        added.domain = at.domain;
        added.mac = at.mac.text();
        added.device = at.device;
        if (at.floor)
            added.floor = in_bytes(at.floor);
        measure(added);
        rows_.push_back(std::move(added));
    }
    TopRow total = row(network, TopRow::Kind::network, network.name + "//", root_class);
    if (network.floored) {
        const Network promised = promises(network);
        total.floor = in_bytes(promised.floor_sum());
        total.ceil = in_bytes(promised.limit());
        measure(total);
        rows_.push_back(row(network, TopRow::Kind::catchment, network.name + "/", catchment_class));
        rows_.back().domain = _("(without floor)");
        measure(rows_.back());
    }
    totals_.push_back(std::move(total));
}

TopRow TopModel::row(const NetworkState& network, TopRow::Kind kind, const std::string& key,
                     std::optional<ClassId> id) const
{
    TopRow row;
    row.kind = kind;
    row.key = key;
    row.network = network.name;
    row.id = id;
    if (const auto history = histories_.find(key); history != histories_.end())
        row.history = &history->second;
    return row;
}

// What the kernel says of the row's class: nothing where it is in one sample alone.
void TopModel::measure(TopRow& row) const
{
    const tc::Counters *from = find(before_, row), *to = find(after_, row);
    const bool whole = row.kind == TopRow::Kind::network;
    if (to) {
        row.most = whole ? to->rate : to->ceil;
        if (!whole)
            row.ceil = to->ceil;
    }
    if (!from || !to)
        return;
    const tc::Sample &before = before_.at(row.network), &after = after_.at(row.network);
    row.now = Speed{tc::rate_between(before, after, *row.id), 0};
    if (!whole)
        row.now->drops = tc::drops_between(before, after, *row.id);
    else // the root has no queue of its own
        for (const auto& [id, counters] : after.classes)
            row.now->drops += tc::drops_between(before, after, id);
    // Waiting at both ends: it was not idle in between.
    row.starved = !whole && row.floor && from->queued && to->queued &&
                  static_cast<double>(row.now->rate.count) < met * static_cast<double>(row.floor->count);
}

void TopModel::remember()
{
    std::unordered_map<std::string, History> kept;
    for (std::vector<TopRow>* rows : {&totals_, &rows_})
        for (TopRow& row : *rows) {
            if (!row.now && !row.history)
                continue;
            History& history = kept[row.key] = row.history ? std::move(histories_[row.key]) : History{};
            history.push_back(row.now ? row.now->rate : BytesPerSecond{});
            if (history.size() > history_length)
                history.pop_front();
            row.history = &history;
        }
    histories_ = std::move(kept);
}

std::vector<const TopRow*> TopModel::network_rows(const Choice& choice) const
{
    std::vector<const TopRow*> found;
    for (const TopRow& row : totals_)
        if (!choice.network || row.network == *choice.network)
            found.push_back(&row);
    return found;
}

std::vector<const TopRow*> TopModel::rows(const Choice& choice) const
{
    const std::string text = folded(choice.filter);
    std::vector<const TopRow*> found;
    for (const TopRow& row : rows_)
        if ((!choice.network || row.network == *choice.network) &&
            (!choice.domain || (row.kind == TopRow::Kind::interface && row.domain == *choice.domain)) &&
            (text.empty() || contains(row, text)))
            found.push_back(&row);
    std::ranges::sort(found, [&](const TopRow* one, const TopRow* other) {
        const double own = figure(*one, choice.key), others = figure(*other, choice.key);
        if (choice.key == SortKey::name || own == others)
            return choice.reversed && choice.key == SortKey::name ? by_name(other, one) : by_name(one, other);
        return choice.reversed ? own < others : own > others;
    });
    return found;
}

} // namespace virfloor::tool
