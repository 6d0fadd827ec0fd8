// SPDX-License-Identifier: LGPL-2.1-or-later
#include "commands.h"
#include "inventory.h"
#include "measure.h"
#include "options.h"
#include "output.h"
#include "table.h"
#include "virfloor/text.h"

#include <nlohmann/json.hpp>

#include <iostream>

namespace virfloor::tool {

namespace {

using Json = nlohmann::ordered_json;
using Measured = std::optional<virfloor::tool::Measured>;

Measured find(const Measurements& measured, const std::string& network, std::optional<ClassId> id)
{
    const auto at = measured.find(network);
    if (!id || at == measured.end())
        return {};
    const auto of = at->second.find(*id);
    return of == at->second.end() ? Measured{} : of->second;
}

// Of what the network may send, in per cent.
double share(const NetworkState& network, BytesPerSecond rate)
{
    const auto limit = in_bytes(network.limits.average);
    return limit ? 100.0 * static_cast<double>(rate.count) / static_cast<double>(limit.count) : 0;
}

std::vector<std::string> row(const NetworkState& network, std::vector<std::string> head, const Measured& measured)
{
    if (!measured)
        head.insert(head.end(), {"-", "-", "-", "-"});
    else
        head.insert(head.end(),
                    {kilobytes_text(measured->rate), format("%.0f%%", share(network, measured->rate)),
                     std::to_string(measured->counters.drops), std::to_string(measured->counters.backlog.count)});
    return head;
}

std::string or_dash(const std::string& text) { return text.empty() ? "-" : text; }

void print_table(const std::vector<NetworkState>& networks, const Measurements& measured, bool with_catchment)
{
    Table table({{_("NETWORK")},
                 {_("DOMAIN")},
                 {"MAC"},
                 {_("DEVICE")},
                 {_("CLASS"), true},
                 {_("FLOOR kB/s"), true},
                 {_("NOW kB/s"), true},
                 {_("SHARE"), true},
                 {_("DROPS"), true},
                 {_("BACKLOG"), true}});
    for (const NetworkState& network : networks) {
        for (const Interface& at : network.interfaces)
            table.add(
                row(network,
                    {network.name, or_dash(at.domain), at.mac.text(), or_dash(at.device),
                     at.floor && at.id ? class_text(*at.id) : "-", at.floor ? kilobytes_text(in_bytes(at.floor)) : "-"},
                    at.floor ? find(measured, network.name, at.id) : Measured{}));
        if (network.floored && with_catchment)
            table.add(row(network, {network.name, _("(without floor)"), "-", "-", class_text(catchment_class), "-"},
                          find(measured, network.name, catchment_class)));
    }
    table.print(std::cout);
}

void add_measured(Json& json, const NetworkState& network, const Measured& measured)
{
    if (!measured)
        return;
    json["rate_bytes_per_second"] = measured->rate.count;
    json["share_percent"] = share(network, measured->rate);
    json["bytes"] = measured->counters.sent.count;
    json["packets"] = measured->counters.packets;
    json["drops"] = measured->counters.drops;
    json["backlog_bytes"] = measured->counters.backlog.count;
    json["backlog_packets"] = measured->counters.queued;
}

Json interface_json(const NetworkState& network, const Interface& at, const Measurements& measured)
{
    Json json{{"domain", at.domain}, {"mac", at.mac.text()}, {"device", at.device}, {"port", at.port.text()}};
    if (!at.floor)
        return json;
    json["floor_bytes_per_second"] = in_bytes(at.floor).count;
    if (at.id) {
        json["class"] = class_text(*at.id);
        json["class_id"] = at.id->minor;
    }
    add_measured(json, network, find(measured, network.name, at.id));
    return json;
}

void print_as_json(const std::vector<NetworkState>& networks, const Measurements& measured, bool with_catchment)
{
    Json all = Json::array();
    for (const NetworkState& network : networks) {
        Json json{{"name", network.name}, {"bridge", network.bridge}, {"floored", network.floored}};
        if (network.floored) {
            json["average_bytes_per_second"] = in_bytes(network.limits.average).count;
            if (with_catchment) {
                json["catchment"] = Json{{"class", class_text(catchment_class)}};
                add_measured(json["catchment"], network, find(measured, network.name, catchment_class));
            }
        }
        json["interfaces"] = Json::array();
        for (const Interface& at : network.interfaces)
            json["interfaces"].push_back(interface_json(network, at, measured));
        all.push_back(json);
    }
    print_json(Json{{"networks", all}});
}

} // namespace

int list(int count, char** arguments)
{
    Common common;
    std::optional<std::string> network, domain, interval;
    Options options("", _("Shows all interfaces of the networks that run: what is promised to each, and what it gets. "
                          "Rates are in kB/s (1000 bytes a second), the backlog in bytes; the share is that of the "
                          "network's average."));
    options.text("network", 'n', _("Only this network"), _("NAME"), &network);
    options.text("domain", 'd', _("Only this domain"), _("NAME"), &domain);
    options.text("interval", 'i', _("Measure rates for that long (default: 0.5)"), _("SECONDS"), &interval);
    common.add_to(options);
    options.parse(count, arguments, 0, 0);

    const auto stretch = parse_interval(interval.value_or("0.5"));
    auto networks = read_inventory(common.uris, network);
    if (domain) {
        for (NetworkState& at : networks)
            std::erase_if(at.interfaces, [&](const Interface& interface) { return interface.domain != *domain; });
        std::erase_if(networks, [](const NetworkState& at) { return at.interfaces.empty(); });
    }
    const Measurements measured = measure(networks, stretch);
    (common.json ? print_as_json : print_table)(networks, measured, !domain);
    return exit_done;
}

} // namespace virfloor::tool
