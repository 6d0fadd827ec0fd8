// SPDX-License-Identifier: LGPL-2.1-or-later
#include "metrics.h"

#include "config.h"
#include "output.h"

#include <glib.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <utility>

namespace virfloor::tool {

namespace {

using prometheus::MetricType;
using Labels = std::vector<prometheus::ClientMetric::Label>;

struct Metric {
    const char* name;
    MetricType type;
    const char* help;
};

// Of a class.
struct ClassMetrics {
    Metric sent_bytes, sent_packets, dropped_packets, backlog_bytes, backlog_packets, rate, ceil;
};

constexpr auto counter = MetricType::Counter, gauge = MetricType::Gauge;

constexpr ClassMetrics of_interface{
    {"virt_floor_interface_sent_bytes_total", counter, "Bytes sent to the interface."},
    {"virt_floor_interface_sent_packets_total", counter, "Packets sent to the interface."},
    {"virt_floor_interface_dropped_packets_total", counter, "Packets to the interface that its queue dropped."},
    {"virt_floor_interface_backlog_bytes", gauge, "Bytes that wait in the interface's queue."},
    {"virt_floor_interface_backlog_packets", gauge, "Packets that wait in the interface's queue."},
    {"virt_floor_interface_rate_bytes_per_second", gauge,
     "Rate of the interface's class in the kernel: what HTB guarantees to it. The floor, unless others changed it."},
    {"virt_floor_interface_ceil_bytes_per_second", gauge,
     "Ceil of the interface's class in the kernel: the most that it may send."},
};

constexpr ClassMetrics of_catchment{
    {"virt_floor_catchment_sent_bytes_total", counter, "Bytes sent to all interfaces without a floor."},
    {"virt_floor_catchment_sent_packets_total", counter, "Packets sent to all interfaces without a floor."},
    {"virt_floor_catchment_dropped_packets_total", counter,
     "Packets to interfaces without a floor that their queue dropped."},
    {"virt_floor_catchment_backlog_bytes", gauge, "Bytes that wait in the queue of all interfaces without a floor."},
    {"virt_floor_catchment_backlog_packets", gauge,
     "Packets that wait in the queue of all interfaces without a floor."},
    {"virt_floor_catchment_rate_bytes_per_second", gauge,
     "Rate of the catchment in the kernel: what the floors leave to all interfaces without one."},
    {"virt_floor_catchment_ceil_bytes_per_second", gauge,
     "Ceil of the catchment in the kernel: the most that all interfaces without a floor may send."},
};

constexpr Metric interface_floor{"virt_floor_interface_floor_bytes_per_second", gauge,
                                 "What the domain's XML promises to the interface."};
constexpr Metric network_sent{"virt_floor_network_sent_bytes_total", counter,
                              "Bytes sent to all interfaces of the network."};
constexpr Metric network_average{"virt_floor_network_average_bytes_per_second", gauge,
                                 "Average of the network's inbound bandwidth, as its XML has it."};
constexpr Metric network_peak{"virt_floor_network_peak_bytes_per_second", gauge,
                              "Peak of the network's inbound bandwidth, where its XML has one."};
constexpr Metric network_limit{"virt_floor_network_limit_bytes_per_second", gauge,
                               "What the network's floors may add up to: its peak, or its average if it has none."};
constexpr Metric network_promised{"virt_floor_network_promised_bytes_per_second", gauge,
                                  "Sum of the floors of the network's interfaces."};
constexpr Metric network_free{"virt_floor_network_free_bytes_per_second", gauge,
                              "Largest floor that the network can still admit."};
constexpr Metric network_floors{"virt_floor_network_floors", gauge, "Interfaces of the network that have a floor."};
constexpr Metric network_interfaces{"virt_floor_network_interfaces", gauge,
                                    "Interfaces of the network, with a floor and without."};
constexpr Metric network_refusals{
    "virt_floor_network_refusals_total", counter,
    "Floors that were refused since the network started, because there was no room for them or no class ID."};
constexpr Metric network_repairs{
    "virt_floor_network_repairs_total", counter,
    "How often the tree was put right since the network started, because somebody else had changed it."};
constexpr Metric network_condition{
    "virt_floor_network_condition", gauge,
    "How the tree in the kernel stands to what is promised: 1 for the state that it is in, 0 for the others."};
constexpr Metric libvirt_up{"virt_floor_libvirt_up", gauge, "Whether libvirt answers: 1 if it does, 0 if not."};
constexpr Metric inventory_read{"virt_floor_inventory_timestamp_seconds", gauge,
                                "When libvirt last told of something new about networks and interfaces, in seconds "
                                "since 1970."};
constexpr Metric collector_success{"virt_floor_scrape_collector_success", gauge,
                                   "Whether the figures of this scrape could be read: 1 if so, 0 if not."};
constexpr Metric collector_took{"virt_floor_scrape_collector_duration_seconds", gauge,
                                "How long it took to read the figures of this scrape."};
constexpr Metric build_info{"virt_floor_build_info", gauge, "Always 1; the label has the exporter's version."};

constexpr std::array conditions{
    std::pair{Condition::kept, "kept"},
    std::pair{Condition::contested, "contested"},
    std::pair{Condition::broken, "broken"},
    std::pair{Condition::absent, "absent"},
};

// Names as libvirt has them. It takes no line's end in a name; if it did, it would not get through prometheus-cpp 1.0.
std::string label_text(const std::string& text)
{
    const std::unique_ptr<gchar, void (*)(void*)> valid(
        g_utf8_make_valid(text.data(), static_cast<gssize>(text.size())), g_free);
    std::string result = valid.get();
    std::ranges::replace(result, '\n', ' ');
    return result;
}

class Families {
public:
    template <class Number>
    void add(const Metric& metric, const Labels& labels, Number number)
    {
        const auto value = static_cast<double>(number);
        const auto [at, is_new] = places_.try_emplace(metric.name, families_.size());
        if (is_new)
            families_.push_back({metric.name, metric.help, metric.type, {}});
        auto& sample = families_[at->second].metric.emplace_back();
        sample.label = labels;
        (metric.type == counter ? sample.counter.value : sample.gauge.value) = value;
    }

    void add_class(const ClassMetrics& metrics, const Labels& labels, const tc::Counters& counters, std::uint64_t drops)
    {
        add(metrics.sent_bytes, labels, counters.sent.count);
        add(metrics.sent_packets, labels, counters.packets);
        add(metrics.dropped_packets, labels, drops);
        add(metrics.backlog_bytes, labels, counters.backlog.count);
        add(metrics.backlog_packets, labels, counters.queued);
        add(metrics.rate, labels, counters.rate.count);
        add(metrics.ceil, labels, counters.ceil.count);
    }

    std::vector<prometheus::MetricFamily> take() { return std::move(families_); }

private:
    std::vector<prometheus::MetricFamily> families_;
    std::map<std::string, std::size_t> places_;
};

const tc::Counters* find(const std::optional<tc::Sample>& kernel, ClassId id)
{
    if (!kernel)
        return nullptr;
    const auto at = kernel->classes.find(id);
    return at == kernel->classes.end() ? nullptr : &at->second;
}

// The interfaces with a floor, one for each class. While the QEMU driver updates an interface it has two ports for it;
// the one that a domain's XML names stands for both.
std::map<ClassId, const Interface*> by_class(const NetworkState& network)
{
    std::map<ClassId, const Interface*> found;
    for (const Interface& interface : network.interfaces) {
        if (!interface.floor || !interface.id)
            continue;
        const Interface*& known = found[*interface.id];
        if (!known || known->device.empty())
            known = &interface;
    }
    return found;
}

void add_interfaces(Families& families, const NetworkReading& reading, WideDrops& drops)
{
    const NetworkState& network = *reading.network;
    const std::string name = label_text(network.name);
    for (const auto& [id, interface] : by_class(network)) {
        const Labels labels{{"network", name},
                            {"domain", label_text(interface->domain)},
                            {"mac", interface->mac.text()},
                            {"device", label_text(interface->device)},
                            {"class", class_text(id)}};
        families.add(interface_floor, labels, in_bytes(interface->floor).count);
        if (const tc::Counters* counters = find(reading.kernel, id))
            families.add_class(of_interface, labels, *counters,
                               drops.count(network.name + '\n' + interface->port.text(), *counters));
    }
}

void add_limits(Families& families, const NetworkState& state, const Labels& labels)
{
    const Network network = promises(state);
    families.add(network_average, labels, in_bytes(state.limits.average).count);
    if (state.limits.peak)
        families.add(network_peak, labels, in_bytes(state.limits.peak).count);
    families.add(network_limit, labels, in_bytes(network.limit()).count);
    families.add(network_promised, labels, in_bytes(network.floor_sum()).count);
    families.add(network_free, labels, in_bytes(network.room()).count);
    families.add(network_floors, labels, network.ports().size());
    families.add(network_interfaces, labels, state.interfaces.size());
}

void add_status(Families& families, const SavedNetwork& status, const Labels& labels)
{
    families.add(network_refusals, labels, status.counts.refusals);
    families.add(network_repairs, labels, status.counts.repairs);
    for (const auto& [condition, name] : conditions) {
        Labels with_state = labels;
        with_state.push_back({"state", name});
        families.add(network_condition, with_state, status.condition == condition);
    }
}

void add_network(Families& families, const NetworkReading& reading, WideDrops& drops)
{
    const NetworkState& network = *reading.network;
    const Labels labels{{"network", label_text(network.name)}};
    add_limits(families, network, labels);
    if (const tc::Counters* root = find(reading.kernel, root_class))
        families.add(network_sent, labels, root->sent.count);
    if (const tc::Counters* catchment = find(reading.kernel, catchment_class))
        families.add_class(of_catchment, labels, *catchment, drops.count(network.name, *catchment));
    if (reading.status)
        add_status(families, *reading.status, labels);
    add_interfaces(families, reading, drops);
}

} // namespace

std::vector<prometheus::MetricFamily> families(const Scrape& scrape, WideDrops& drops)
{
    Families families;
    families.add(build_info, {{"version", VERSION}}, 1);
    families.add(libvirt_up, {}, scrape.libvirt_answers);
    if (scrape.inventory_read_at)
        families.add(inventory_read, {},
                     std::chrono::duration<double>(scrape.inventory_read_at->time_since_epoch()).count());
    for (const NetworkReading& reading : scrape.networks)
        add_network(families, reading, drops);
    drops.end_of_look();
    for (const Collector& collector : scrape.collectors) {
        const Labels labels{{"collector", collector.name}};
        families.add(collector_success, labels, collector.succeeded);
        families.add(collector_took, labels, collector.took.count());
    }
    return families.take();
}

} // namespace virfloor::tool
