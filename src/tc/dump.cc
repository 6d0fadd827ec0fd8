// SPDX-License-Identifier: LGPL-2.1-or-later
#include "dump.h"

#include "request.h"

#include <linux/pkt_sched.h>

namespace virfloor::tc {

void dump_objects(Netlink& netlink, int ifindex, std::uint16_t type, std::uint32_t parent,
                  const std::function<void(const DumpedObject&)>& handler)
{
    tcmsg header{};
    header.tcm_ifindex = ifindex;
    header.tcm_parent = parent;
    Message request(type, NLM_F_DUMP, header);
    netlink.dump(request, [&](const nlmsghdr& message) {
        const auto found = attributes(message, sizeof(tcmsg), TCA_MAX);
        if (!found)
            return;
        const auto* header = static_cast<const tcmsg*>(nlmsg_data(const_cast<nlmsghdr*>(&message)));
        const auto kind = text((*found)[TCA_KIND]);
        if (header->tcm_ifindex == ifindex && kind)
            handler({*header, *kind, (*found)[TCA_OPTIONS], (*found)[TCA_STATS2]});
    });
}

std::optional<ClassId> class_of_ours(std::uint32_t handle)
{
    if (TC_H_MAJ(handle) != root_qdisc || TC_H_MIN(handle) == 0)
        return {};
    return ClassId{static_cast<std::uint16_t>(TC_H_MIN(handle))};
}

BytesPerSecond htb_rate(const std::vector<nlattr*>& options, int attribute, const tc_ratespec& narrow)
{
    return {value<std::uint64_t>(options[attribute]).value_or(narrow.rate)};
}

} // namespace virfloor::tc
