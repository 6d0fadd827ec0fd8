// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The kernel's dumps of one device's qdiscs, classes and filters, object by object.
#pragma once

#include "netlink.h"
#include "virfloor/identity.h"
#include "virfloor/units.h"

#include <linux/pkt_sched.h>

#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace virfloor::tc {

struct DumpedObject {
    tcmsg header;
    std::string kind;
    nlattr* options;    // TCA_OPTIONS, or null
    nlattr* statistics; // TCA_STATS2, or null
};

// type: RTM_GETQDISC, RTM_GETTCLASS, RTM_GETTFILTER. Objects that are not as the kernel makes them are passed over.
void dump_objects(Netlink& netlink, int ifindex, std::uint16_t type, std::uint32_t parent,
                  const std::function<void(const DumpedObject&)>& handler);

// The class with this handle, if it is one of the qdisc 1:.
std::optional<ClassId> class_of_ours(std::uint32_t handle);

// A rate of an HTB class: the attribute of 64 bits, or where that is not there the one in struct tc_htb_opt.
BytesPerSecond htb_rate(const std::vector<nlattr*>& options, int attribute, const tc_ratespec& narrow);

// Copies a struct out of an attribute that is at least as long.
template <class Struct>
std::optional<Struct> value(nlattr* attribute)
{
    if (!attribute || nla_len(attribute) < static_cast<int>(sizeof(Struct)))
        return {};
    Struct result;
    std::memcpy(&result, nla_data(attribute), sizeof result);
    return result;
}

} // namespace virfloor::tc
