// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What the kernel says of a device's traffic control, out of its dumps.
#pragma once

#include "mac_table.h"
#include "netlink.h"
#include "request.h"
#include "virfloor/tree.h"

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace virfloor::tc {

struct QdiscSeen {
    std::string kind;
    std::uint32_t handle = 0;
    std::uint32_t default_class = 0; // of htb
};

// Everything on the device that concerns a tree of ours; parsed strictly, objects that are not as
// the kernel makes them are passed over.
struct Picture {
    std::map<std::uint32_t, QdiscSeen> qdiscs; // by parent; TC_H_ROOT for the root
    std::map<ClassId, Class> classes;          // of the qdisc 1:
    std::vector<ForeignFilter> foreign;        // not in our preference
    MacTable::Dump ours;
    std::vector<std::uint32_t> our_nodes; // handles of all of our preference, also strange ones
    bool has_our_preference = false;
    std::optional<std::uint16_t> libvirt_protocol; // of the preference that libvirt uses, if it is there
    std::uint16_t libvirt_root_table = 0;          // and its root table, if it is u32's
    std::vector<LibvirtFilter> libvirts;           // filters there, as far as it is known what they are made of
    bool has_reservation = false;                  // u32 table 7fe: at preference 2
    bool has_other_u32 = false;                    // any other preference of u32's, empty ones among them
    std::uint16_t our_root_table = 0;
    std::set<std::uint16_t> tables; // of u32, whosever they are
};

Picture read_picture(Netlink& netlink, int ifindex, MacKey key);

} // namespace virfloor::tc
