// SPDX-License-Identifier: LGPL-2.1-or-later
#include "commands.h"
#include "inventory.h"
#include "options.h"
#include "output.h"
#include "table.h"
#include "virfloor/text.h"

#include <nlohmann/json.hpp>

#include <iostream>

namespace virfloor::tool {

namespace {

struct Capacity {
    std::string network;
    KilobytesPerSecond limit, promised, free;

    explicit Capacity(const NetworkState& state) : network(state.name)
    {
        const Network promise = promises(state);
        limit = promise.limit();
        promised = promise.floor_sum();
        free = promise.room();
    }
};

void print_table(const std::vector<Capacity>& all)
{
    Table table({{_("NETWORK")},
                 {_("LIMIT kB/s"), true},
                 {_("PROMISED kB/s"), true},
                 {_("FREE kB/s"), true},
                 {_("PROMISED"), true}});
    for (const Capacity& at : all)
        table.add(
            {at.network, std::to_string(at.limit.count), std::to_string(at.promised.count),
             std::to_string(at.free.count),
             format("%.0f%%", 100.0 * static_cast<double>(at.promised.count) / static_cast<double>(at.limit.count))});
    table.print(std::cout);
}

nlohmann::ordered_json to_json(const Capacity& at, std::optional<KilobytesPerSecond> asked)
{
    nlohmann::ordered_json json{{"name", at.network},
                                {"limit_bytes_per_second", in_bytes(at.limit).count},
                                {"promised_bytes_per_second", in_bytes(at.promised).count},
                                {"free_bytes_per_second", in_bytes(at.free).count}};
    if (asked)
        json["fits"] = *asked <= at.free;
    return json;
}

void print_answer(const Capacity& at, KilobytesPerSecond asked)
{
    std::cout << format(
        asked <= at.free ? _("A floor of %llu kB/s fits network '%s': %llu of %llu kB/s are free.\n")
                         : _("A floor of %llu kB/s does not fit network '%s': %llu of %llu kB/s are free.\n"),
        static_cast<unsigned long long>(asked.count), at.network.c_str(),
        static_cast<unsigned long long>(at.free.count), static_cast<unsigned long long>(at.limit.count));
}

} // namespace

int capacity(int count, char** arguments)
{
    Common common;
    std::optional<std::uint64_t> asked;
    Options options(
        _("[NETWORK]"),
        _("Shows what networks can promise: the limit of all floors together, what is promised, and what is "
          "free, which is the largest floor that would still be admitted. In kB/s (1000 bytes a second)."));
    options.number("would-fit", 'w', _("Say whether a floor of so many kB/s would be admitted: exit status 0 or 1"),
                   _("FLOOR"), &asked);
    common.add_to(options);
    const auto names = options.parse(count, arguments, 0, 1);
    if (asked && (*asked == 0 || *asked > max_rate.count))
        throw UsageError(format(_("--would-fit needs a floor from 1 to %llu kB/s"),
                                static_cast<unsigned long long>(max_rate.count)));
    const std::optional<KilobytesPerSecond> floor = asked ? std::optional(KilobytesPerSecond{*asked}) : std::nullopt;

    std::vector<Capacity> all;
    for (const NetworkState& state :
         read_inventory(common.uris, names.empty() ? std::nullopt : std::optional(names[0])))
        if (state.floored)
            all.emplace_back(state);
        else if (!names.empty())
            throw Error(Refusal::operation_unsupported, format(_("Network '%s' gives no floors"), state.name.c_str()));

    bool fits = !floor;
    for (const Capacity& at : all)
        fits |= floor && *floor <= at.free;
    if (common.json) {
        nlohmann::ordered_json json{{"networks", nlohmann::ordered_json::array()}};
        for (const Capacity& at : all)
            json["networks"].push_back(to_json(at, floor));
        print_json(json);
    } else if (floor) {
        for (const Capacity& at : all)
            print_answer(at, *floor);
    } else {
        print_table(all);
    }
    return fits ? exit_done : exit_no;
}

} // namespace virfloor::tool
