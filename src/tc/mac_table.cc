// SPDX-License-Identifier: LGPL-2.1-or-later
#include "mac_table.h"

#include "virfloor/error.h"
#include "virfloor/text.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace virfloor::tc {

namespace {

constexpr std::uint16_t first_table = 1;
constexpr std::uint16_t end_of_tables = reserved_table;
constexpr std::uint16_t first_node = 1;
constexpr std::uint16_t end_of_nodes = 0x800;

Reversible added(Object object) { return {{Verb::add, object}, {{Verb::remove, object}}}; }

Reversible removed(Object object) { return {{Verb::remove, object}, {{Verb::add, object}}}; }

template <class IsTaken>
std::optional<std::uint16_t> lowest_free(std::uint16_t first, std::uint16_t end, IsTaken is_taken)
{
    for (std::uint16_t at = first; at < end; ++at)
        if (!is_taken(at))
            return at;
    return {};
}

} // namespace

MacTable::Place MacTable::place_of(MacAddress mac) const
{
    Place place{top_, mac.bytes[tables_.at(top_).byte]};
    for (;;) {
        const auto& filled = tables_.at(place.table).filled;
        const auto bucket = filled.find(place.bucket);
        if (bucket == filled.end() || bucket->second.link_to == 0)
            return place;
        place.table = bucket->second.link_to;
        place.bucket = mac.bytes[tables_.at(place.table).byte];
    }
}

bool MacTable::load(const Dump& dump, const std::set<std::uint16_t>& numbers)
{
    *this = {};
    taken_ = numbers;
    Loader loader{dump, {}, {}};
    for (const U32Match& match : dump.matches)
        loader.matches[match.handle.table].push_back(&match);
    const auto root = std::find_if(dump.links.begin(), dump.links.end(),
                                   [](const auto& link) { return link.handle.table >= first_root_table; });
    const bool sound = !dump.strange && root != dump.links.end() && load_table(loader, *root, {}) &&
                       loader.reached == dump.links.size() && loader.addresses.size() == dump.matches.size();
    if (!sound)
        tables_.clear();
    for (const auto& [id, size] : dump.tables)
        if (!tables_.contains(id) && size == buckets && id < end_of_tables)
            (sound ? spare_ : usable_).insert(id);
    if (!sound)
        return false;
    top_ = root->to;
    tables_.at(top_).linked_from.table = 0;
    return true;
}

// Takes over the table that a link leads to and what it holds; false if anything stands where a
// frame would not find it. `way`: the bytes of the address that lead there.
bool MacTable::load_table(Loader& loader, const DumpedLink& link, Way way)
{
    const auto size = loader.dump.tables.find(link.to);
    if (size == loader.dump.tables.end() || size->second != buckets || tables_.contains(link.to) || way.at(link.byte))
        return false;
    Table& table = tables_[link.to];
    table = {link.byte, link.handle, {}};
    ++loader.reached;
    for (const U32Match* match : loader.matches[link.to]) {
        way[link.byte] = match->handle.bucket;
        for (std::size_t i = 0; i < way.size(); ++i)
            if (way[i] && *way[i] != match->mac.bytes[i])
                return false;
        if (!loader.addresses.insert(match->mac).second)
            return false;
        table.filled[match->handle.bucket].entries.push_back({match->mac, match->target, match->handle.node});
    }
    for (const DumpedLink& next : loader.dump.links) {
        if (next.handle.table != link.to)
            continue;
        Bucket& bucket = table.filled[next.handle.bucket];
        way[link.byte] = next.handle.bucket;
        if (bucket.link_to != 0 || !bucket.entries.empty() || !load_table(loader, next, way))
            return false;
        bucket.link_to = next.to;
        bucket.link_node = next.handle.node;
    }
    return true;
}

std::vector<Reversible> MacTable::create(bool keep)
{
    tables_.clear();
    spare_ = keep ? std::exchange(usable_, {}) : std::set<std::uint16_t>{};
    if (!keep)
        taken_.clear();
    std::vector<Reversible> requests;
    top_ = take_table(requests).value();
    tables_[top_] = {first_byte, {0, 0, first_node}, {}};
    requests.push_back(added(U32Link{{0, 0, first_node}, top_, first_byte}));
    return requests;
}

std::optional<std::uint16_t> MacTable::take_table(std::vector<Reversible>& requests)
{
    if (!spare_.empty())
        return spare_.extract(spare_.begin()).value();
    const auto id = lowest_free(first_table, end_of_tables,
                                [this](std::uint16_t at) { return tables_.contains(at) || taken_.contains(at); });
    if (id)
        requests.push_back(added(U32Table{*id, buckets, {our_preference, any_protocol}}));
    return id;
}

std::vector<Reversible> MacTable::insert(MacAddress mac, ClassId target)
{
    std::vector<Reversible> requests;
    const Place place = place_of(mac);
    auto& entries = tables_.at(place.table).filled[place.bucket].entries;
    const auto node = lowest_free(first_node, end_of_nodes, [&](std::uint16_t at) {
        return std::any_of(entries.begin(), entries.end(), [at](const Entry& entry) { return entry.node == at; });
    });
    if (!node)
        throw Error(Refusal::operation_invalid,
                    format(_("the kernel's filter tables have no room for %s beside the addresses like it"),
                           mac.text().c_str()));
    entries.push_back({mac, target, *node});
    requests.push_back(added(U32Match{{place.table, place.bucket, *node}, mac, target}));
    split(place, requests);
    return requests;
}

// The byte that no table on the way uses and that leaves the fewest addresses together.
std::optional<unsigned> MacTable::best_byte(Place place, const std::vector<Entry>& entries) const
{
    std::array<bool, 6> used{};
    for (std::uint16_t at = place.table; at != 0; at = tables_.at(at).linked_from.table)
        used[tables_.at(at).byte] = true;
    std::optional<unsigned> best;
    std::size_t fewest = entries.size();
    for (unsigned byte = 0; byte < used.size(); ++byte) {
        std::array<std::size_t, buckets> count{};
        for (const Entry& entry : entries)
            ++count[entry.mac.bytes[byte]];
        const std::size_t most = *std::max_element(count.begin(), count.end());
        if (!used[byte] && most < fewest) {
            fewest = most;
            best = byte;
        }
    }
    return best;
}

// The new table is filled before a link leads to it, and the old matches go last, so that each
// address is found all the time.
void MacTable::split(Place place, std::vector<Reversible>& requests)
{
    Bucket& full = tables_.at(place.table).filled.at(place.bucket);
    if (full.entries.size() <= longest_chain)
        return;
    const auto byte = best_byte(place, full.entries);
    const auto id = byte ? take_table(requests) : std::nullopt;
    if (!id)
        return; // no more tables: the chain grows, and is as right as it is slow
    const auto link_node = lowest_free(first_node, end_of_nodes, [&](std::uint16_t at) {
        return std::any_of(full.entries.begin(), full.entries.end(),
                           [at](const Entry& entry) { return entry.node == at; });
    });
    const U32Handle link_handle{place.table, place.bucket, *link_node};
    Table& table = tables_[*id];
    table = {*byte, link_handle, {}};
    for (const Entry& entry : full.entries) {
        const std::uint8_t bucket = entry.mac.bytes[*byte];
        auto& chain = table.filled[bucket].entries;
        const auto node = static_cast<std::uint16_t>(first_node + chain.size());
        chain.push_back({entry.mac, entry.target, node});
        requests.push_back(added(U32Match{{*id, bucket, node}, entry.mac, entry.target}));
    }
    requests.push_back(added(U32Link{link_handle, *id, *byte}));
    for (const Entry& entry : full.entries)
        requests.push_back(removed(U32Match{{place.table, place.bucket, entry.node}, entry.mac, entry.target}));
    full = {{}, *id, *link_node};
    for (const auto& [bucket, content] : table.filled)
        split({*id, bucket}, requests);
}

std::vector<Reversible> MacTable::erase(MacAddress mac)
{
    std::vector<Reversible> requests;
    const Place place = place_of(mac);
    auto& filled = tables_.at(place.table).filled;
    auto& entries = filled.at(place.bucket).entries;
    const auto entry = std::find_if(entries.begin(), entries.end(), [mac](const Entry& at) { return at.mac == mac; });
    if (entry == entries.end())
        throw std::logic_error("no filter for " + mac.text());
    requests.push_back(removed(U32Match{{place.table, place.bucket, entry->node}, mac, entry->target}));
    entries.erase(entry);
    if (entries.empty())
        filled.erase(place.bucket);
    drop_empty(place.table, requests);
    return requests;
}

void MacTable::drop_empty(std::uint16_t id, std::vector<Reversible>& requests)
{
    const Table& table = tables_.at(id);
    if (id == top_ || !table.filled.empty())
        return;
    const U32Handle from = table.linked_from;
    requests.push_back(removed(U32Link{from, id, table.byte}));
    tables_.erase(id);
    spare_.insert(id);
    tables_.at(from.table).filled.erase(from.bucket);
    drop_empty(from.table, requests);
}

std::vector<Request> MacTable::reclaim() const
{
    std::vector<Request> requests;
    for (const auto id : spare_)
        requests.push_back({Verb::remove, U32Table{id, buckets, {our_preference, any_protocol}}});
    return requests;
}

void MacTable::reclaimed(std::uint16_t table) { spare_.erase(table); }

std::map<MacAddress, ClassId> MacTable::steering() const
{
    std::map<MacAddress, ClassId> result;
    for (const auto& [id, table] : tables_)
        for (const auto& [number, bucket] : table.filled)
            for (const Entry& entry : bucket.entries)
                result.emplace(entry.mac, entry.target);
    return result;
}

} // namespace virfloor::tc
