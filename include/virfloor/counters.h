// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What the kernel has counted for the classes of a device's tree, and their rates (struct gnet_stats_basic and gnet_stats_queue,
// include/uapi/linux/gen_stats.h). Reading them needs no privilege.
#pragma once

#include "virfloor/identity.h"
#include "virfloor/units.h"

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>

namespace virfloor::tc {

class Netlink;

struct Counters {
    BytesPerSecond rate, ceil; // as the class is set
    Bytes sent;
    std::uint64_t packets = 0; // sent
    std::uint32_t drops = 0;   // packets; 32 bits in the kernel, wraps
    Bytes backlog;             // waiting now
    std::uint32_t queued = 0;  // packets waiting now

    bool operator==(const Counters&) const = default;
};

struct Sample {
    std::chrono::steady_clock::time_point at;
    std::map<ClassId, Counters> classes; // of the qdisc 1:
};

// Throws Error(system): no such device, or no answer. A device without a tree has no classes.
Sample read_counters(Netlink& netlink, int ifindex);

// What a class sent in the time between two samples; 0 where it is not in both, or started anew.
BytesPerSecond rate_between(const Sample& before, const Sample& after, ClassId id);
// Packets that a class dropped in that time, a second; 0 as above.
double drops_between(const Sample& before, const Sample& after, ClassId id);

} // namespace virfloor::tc
