// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The u32 filters that lead a frame to its class by its MAC address: a picture of the kernel's
// tables and the requests that change them.
//
//     root table ──link──▶ table of 256 buckets, chosen by the last byte of the address
//                            ├─ bucket: up to 8 matches of whole addresses, or
//                            └─ bucket: a link to a table of 256 more, chosen by another byte
//
// A bucket that would hold more than 8 gives them to a table of their own, keyed by the byte that
// separates them best. So a frame passes at most six tables and a handful of matches, whichever
// addresses the interfaces have. (Evaluation: u32_classify in net/sched/cls_u32.c, which follows
// at most 8 links.)
//
// Invariants: 1. each address stands once, where the bytes on its way lead to; 2. a table is linked
// once, or is spare and empty; 3. numbers of tables and nodes are below 0x800, where the kernel
// chooses its own.
// Not thread-safe.
#pragma once

#include "request.h"
#include "virfloor/identity.h"

#include <array>
#include <map>
#include <optional>
#include <set>
#include <vector>

namespace virfloor::tc {

// A request and those that take it back.
struct Reversible {
    Request request;
    std::vector<Request> undo;
};

class MacTable {
public:
    // What a dump says of a node: one of these, or something that is not ours.
    struct DumpedLink {
        U32Handle handle;
        std::uint16_t to;
        unsigned byte;
    };
    struct Dump {
        std::map<std::uint16_t, unsigned> tables; // number → buckets
        std::vector<U32Match> matches;
        std::vector<DumpedLink> links;
        bool strange = false; // there are nodes of another form
    };

    // Reads a dump of our preference; `numbers` are those of all u32 tables of the qdisc. False if
    // it is not a state that this class leaves behind: create() must be called then.
    bool load(const Dump& dump, const std::set<std::uint16_t>& numbers);

    // The filters of a preference that has no nodes. Tables that were dumped and have the right size
    // are used; `keep` is false if they have gone with their preference, and all numbers are free.
    std::vector<Reversible> create(bool keep);

    std::vector<Reversible> insert(MacAddress mac, ClassId target);
    std::vector<Reversible> erase(MacAddress mac);

    // Empty tables with no link. The kernel lets go of a link some milliseconds after it is deleted
    // (u32_destroy_key runs from a work queue), and refuses to delete its table until then; so they
    // wait here, and are used again first.
    std::vector<Request> reclaim() const;
    void reclaimed(std::uint16_t table);
    bool has_unused() const { return !spare_.empty(); }

    std::map<MacAddress, ClassId> steering() const;

private:
    static constexpr std::size_t longest_chain = 8;
    static constexpr unsigned buckets = 256;
    static constexpr unsigned first_byte = 5;

    struct Entry {
        MacAddress mac;
        ClassId target;
        std::uint16_t node;
    };
    struct Bucket {
        std::vector<Entry> entries;
        std::uint16_t link_to = 0; // table, 0 for none
        std::uint16_t link_node = 0;
    };
    struct Table {
        unsigned byte = 0;
        U32Handle linked_from; // table 0: the preference's root
        std::map<std::uint8_t, Bucket> filled;
    };
    struct Place {
        std::uint16_t table;
        std::uint8_t bucket;
    };

    using Way = std::array<std::optional<std::uint8_t>, 6>;
    struct Loader {
        const Dump& dump;
        std::map<std::uint16_t, std::vector<const U32Match*>> matches; // by table
        std::set<MacAddress> addresses;
        std::size_t reached = 0; // tables
    };

    Place place_of(MacAddress mac) const;
    bool load_table(Loader& loader, const DumpedLink& link, Way way);
    void split(Place place, std::vector<Reversible>& requests);
    std::optional<unsigned> best_byte(Place place, const std::vector<Entry>& entries) const;
    std::optional<std::uint16_t> take_table(std::vector<Reversible>& requests);
    void drop_empty(std::uint16_t id, std::vector<Reversible>& requests);

    std::uint16_t top_ = 0;
    std::map<std::uint16_t, Table> tables_;
    std::set<std::uint16_t> spare_;
    std::set<std::uint16_t> usable_; // once the preference has no nodes
    std::set<std::uint16_t> taken_;  // by others, or of no use
};

} // namespace virfloor::tc
