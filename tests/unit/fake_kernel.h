// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Stands in, at the link (--wrap), for libnl's way to the kernel: decodes each message that is sent,
// keeps a model of one device's traffic control, answers as rtnetlink does, and fails where a test
// asks for it.
//
// The model follows net/sched/sch_api.c, sch_htb.c and cls_u32.c where a tree of ours could notice:
// a class in use cannot go, a linked table cannot go, a deleted preference leaves the u32 tables
// that were made by name as long as there is another u32 preference.
#pragma once

#include "virfloor/identity.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace virfloor::test {

using Datagram = std::vector<unsigned char>;

// Netlink messages and attributes, put together byte by byte.
class Builder {
public:
    Builder(std::uint16_t type, std::uint16_t flags, std::uint32_t sequence);
    Builder& raw(const void* data, std::size_t size);
    template <class Struct>
    Builder& put(const Struct& value)
    {
        return raw(&value, sizeof value);
    }
    Builder& attribute(unsigned type, const void* data, std::size_t size);
    Builder& attribute(unsigned type, const std::string& text)
    {
        return attribute(type, text.c_str(), text.size() + 1);
    }
    Builder& number(unsigned type, std::uint32_t value) { return attribute(type, &value, sizeof value); }
    Builder& number64(unsigned type, std::uint64_t value) { return attribute(type, &value, sizeof value); }
    std::size_t begin(unsigned type);
    Builder& end(std::size_t nest);
    Datagram get() const { return bytes_; }

private:
    Builder& finish();
    Datagram bytes_;
};

// What the kernel answers to one message: struct nlmsgerr, and a text if there is one. A text of a
// refusal comes behind the whole request where it is not capped.
Datagram acknowledge(const nlmsghdr& request, int error, const std::string& text = "", bool capped = true);

class FakeKernel {
public:
    static constexpr int ifindex = 7;
    static FakeKernel* current;

    FakeKernel() { current = this; }
    ~FakeKernel() { current = nullptr; }
    FakeKernel(const FakeKernel&) = delete;
    FakeKernel& operator=(const FakeKernel&) = delete;

    // --- the script
    struct Fault {
        int error = 0; // what is answered
        std::string text;
        bool silent = false; // no answer comes, nor one to the messages behind it in the same send
        bool done = false;   // it is carried out all the same, and so are those
    };
    // Asked for each message that changes something; counted from 0 since the last heal().
    std::function<std::optional<Fault>(std::size_t number, const nlmsghdr&)> fault;
    // Sees each message first; true if it has answered by itself.
    std::function<bool(const nlmsghdr&)> answer;
    std::set<std::string> missing_kinds; // qdiscs and classifiers the kernel lacks
    std::string device = "virbr7";       // the only one there is; empty for none
    int device_index = ifindex;
    int connect_error = 0, send_error = 0, receive_error = 0; // errno
    int interrupted_dumps = 0;                                // so many dumps to come have NLM_F_DUMP_INTR
    std::deque<Datagram> queue;                               // what there is to receive
    bool endless = false;                                     // the last of them comes again and again

    void fail_at(std::size_t number, int error, std::string text = "");
    void heal();
    std::size_t changes = 0; // messages that change something, since heal()
    std::size_t dumps = 0;

    // --- the model
    struct Qdisc {
        std::string kind;
        std::uint32_t handle = 0, default_class = 0;
    };
    struct Class {
        std::uint32_t parent = 0;
        std::uint64_t rate = 0, ceil = 0;
        std::uint32_t buffer = 0, cbuffer = 0, quantum = 0;
    };
    struct Preference {
        std::string kind;
        std::uint16_t protocol = 0; // host byte order
        std::uint16_t root = 0;     // u32 table
    };
    struct Table {
        std::uint16_t preference = 0;
        unsigned buckets = 1;
    };
    struct Node {
        std::uint16_t preference = 0;
        std::uint32_t target = 0;
        std::uint16_t link_to = 0;
        Datagram selector;
        std::string kind = "u32";
        std::optional<std::uint32_t> checksum; // what action csum makes anew, if it has that
    };
    std::map<std::uint32_t, Qdisc> qdiscs;  // by parent
    std::map<std::uint32_t, Class> classes; // by handle
    std::map<std::uint16_t, Preference> preferences;
    std::map<std::uint16_t, Table> tables;                          // of u32
    std::map<std::uint32_t, Node> nodes;                            // of u32, by handle
    std::map<std::pair<std::uint16_t, std::uint32_t>, Node> others; // by preference and handle

    // Everything but what a change that was taken back may leave: empty tables, numbers of roots.
    std::string picture() const;
    void clear();
    void remove_preference(std::uint16_t preference);
    // A u32 filter as tc makes it where it is not told a name.
    void add_u32(std::uint16_t preference, std::uint16_t protocol, MacAddress mac, std::uint32_t target);
    // libvirt's for DHCP's checksums, as its nftables backend asks tc for it; its handle.
    std::uint32_t add_checksum_filter();
    void add_fw(std::uint16_t preference, std::uint32_t mark, std::uint32_t target);

    void receive(const nlmsghdr& message);
    void end_of_send() { silenced_.reset(); }

private:
    struct Refused {
        int error;
        std::string text;
    };
    void change(const nlmsghdr& message);
    void qdisc(const nlmsghdr& message);
    void htb_class(const nlmsghdr& message);
    void filter(const nlmsghdr& message);
    void u32(const nlmsghdr& message, std::uint16_t preference, std::uint32_t handle);
    void add_preference(std::uint16_t preference, const std::string& kind, std::uint16_t protocol);
    void remove_table(std::uint16_t table);
    bool is_linked(std::uint16_t table) const;
    bool is_used(std::uint32_t handle) const;
    void dump(const nlmsghdr& message);

    std::uint16_t next_root_ = 0x800;
    std::optional<Fault> silenced_;
};

} // namespace virfloor::test
