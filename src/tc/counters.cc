// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virfloor/counters.h"

#include "dump.h"
#include "request.h"

#include <linux/gen_stats.h>
#include <linux/pkt_sched.h>

#include <algorithm>

namespace virfloor::tc {

namespace {

void read_rates(const DumpedObject& object, Counters& counters)
{
    const auto options = object.options ? attributes(object.options, TCA_HTB_MAX) : std::nullopt;
    const auto parameters = options ? value<tc_htb_opt>((*options)[TCA_HTB_PARMS]) : std::nullopt;
    if (!parameters)
        return;
    counters.rate = htb_rate(*options, TCA_HTB_RATE64, parameters->rate);
    counters.ceil = htb_rate(*options, TCA_HTB_CEIL64, parameters->ceil);
}

Counters read(const DumpedObject& object)
{
    Counters counters;
    if (object.kind == "htb")
        read_rates(object, counters);
    const auto statistics = object.statistics ? attributes(object.statistics, TCA_STATS_MAX) : std::nullopt;
    if (!statistics)
        return counters;
    // The kernel sends the struct without the bytes that align it at its end.
    nlattr* basic = (*statistics)[TCA_STATS_BASIC];
    if (const auto sent = value<std::uint64_t>(basic)) {
        counters.sent = Bytes{*sent};
        if (nla_len(basic) >= 12) {
            std::uint32_t packets = 0;
            std::memcpy(&packets, static_cast<const char*>(nla_data(basic)) + sizeof *sent, sizeof packets);
            counters.packets = packets;
        }
    }
    // Where the count has left 32 bits behind.
    if (const auto packets = value<std::uint64_t>((*statistics)[TCA_STATS_PKT64]))
        counters.packets = *packets;
    if (const auto queue = value<gnet_stats_queue>((*statistics)[TCA_STATS_QUEUE])) {
        counters.drops = queue->drops;
        counters.backlog = Bytes{queue->backlog};
        counters.queued = queue->qlen;
    }
    return counters;
}

// A class that is in both samples, and did not start anew between them.
struct Stretch {
    const Counters &from, &to;
    double seconds;
};

std::optional<Stretch> stretch(const Sample& before, const Sample& after, ClassId id)
{
    const auto from = before.classes.find(id), to = after.classes.find(id);
    const double seconds = std::chrono::duration<double>(after.at - before.at).count();
    if (from == before.classes.end() || to == after.classes.end() || to->second.sent < from->second.sent ||
        seconds <= 0)
        return {};
    return Stretch{from->second, to->second, seconds};
}

} // namespace

Sample read_counters(Netlink& netlink, int ifindex)
{
    Sample sample;
    dump_objects(netlink, ifindex, RTM_GETTCLASS, 0, [&](const DumpedObject& object) {
        if (const auto id = class_of_ours(object.header.tcm_handle); id && object.kind == "htb")
            sample.classes[*id] = read(object);
    });
    sample.at = std::chrono::steady_clock::now();
    // HTB counts the packets that a queue refused; those that it took and dropped later, as fq_codel does,
    // only the queue counts, together with the refused ones.
    dump_objects(netlink, ifindex, RTM_GETQDISC, 0, [&](const DumpedObject& object) {
        const auto id = class_of_ours(object.header.tcm_parent);
        const auto of = id ? sample.classes.find(*id) : sample.classes.end();
        if (of != sample.classes.end())
            of->second.drops = std::max(of->second.drops, read(object).drops);
    });
    return sample;
}

BytesPerSecond rate_between(const Sample& before, const Sample& after, ClassId id)
{
    const auto of = stretch(before, after, id);
    return {of ? static_cast<std::uint64_t>(static_cast<double>((of->to.sent - of->from.sent).count) / of->seconds)
               : 0};
}

double drops_between(const Sample& before, const Sample& after, ClassId id)
{
    const auto of = stretch(before, after, id);
    // In 32 bits, as the kernel counts: right across its wrap.
    return of ? static_cast<std::uint32_t>(of->to.drops - of->from.drops) / of->seconds : 0;
}

} // namespace virfloor::tc
