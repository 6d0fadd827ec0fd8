// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What can be asked of the kernel about a tree, as values: they can be compared, printed as the
// tc(8) command that would do the same, and encoded as one netlink message each.
#pragma once

#include "netlink.h"
#include "virfloor/identity.h"
#include "virfloor/tree.h"

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace virfloor::tc {

// The kernel's 32-bit names: qdiscs and classes are major:minor.
inline constexpr std::uint32_t root_qdisc = 0x10000; // 1:
constexpr std::uint32_t class_handle(ClassId id) { return root_qdisc | id.minor; }

// u32's names: a table (12 bits), a bucket of it (8 bits), a node in the bucket (12 bits); see
// TC_U32_* in include/uapi/linux/pkt_cls.h.
struct U32Handle {
    std::uint16_t table = 0;
    std::uint8_t bucket = 0;
    std::uint16_t node = 0;

    auto operator<=>(const U32Handle&) const = default;
    std::uint32_t value() const;
    static U32Handle from(std::uint32_t value);
    std::string text() const; // as tc writes it: "1:5:2"
};

// Which of a frame's two addresses is looked up.
enum class MacKey { destination, source };

inline constexpr std::uint16_t reserved_table = 0x7fe;
inline constexpr std::uint16_t first_root_table = 0x800;

struct RootQdisc {
    bool operator==(const RootQdisc&) const = default;
};
struct LeafQdisc { // added in place of any that is there
    ClassId parent;
    Leaf kind = Leaf::pfifo;
    bool operator==(const LeafQdisc&) const = default;
};
struct HtbClass {
    ClassId id;
    std::optional<ClassId> parent;
    Shape shape;
    bool operator==(const HtbClass&) const = default;
};

// Filters. All of a preference; a u32 table; a node that matches an address; a node that goes on in
// another table, in the bucket that a byte of the address names; one filter of somebody else.
struct Preference {
    std::uint16_t preference = our_preference;
    std::uint16_t protocol = 0;
    bool operator==(const Preference&) const = default;
};
struct U32Table {
    std::uint16_t id = 0;
    unsigned buckets = 256;
    Preference place;
    bool operator==(const U32Table&) const = default;
};
struct U32Match {
    U32Handle handle;
    MacAddress mac;
    ClassId target;
    bool operator==(const U32Match&) const = default;
};
struct U32Link {
    U32Handle handle;     // table 0: the preference's root table
    std::uint16_t to = 0; // table
    unsigned byte = 0;    // of the address, 0 … 5
    bool operator==(const U32Link&) const = default;
};
struct OtherFilter {
    Preference place;
    std::array<char, 16> kind{}; // a name of fewer characters (IFNAMSIZ)
    std::uint32_t handle = 0;
    bool operator==(const OtherFilter&) const = default;
};
// A u32 filter of libvirt's in the root table of its preference, with all that it is made of.
struct LibvirtFilter {
    struct Checksum {              // made anew, where the filter has that for an action
        std::uint32_t headers = 0; // TCA_CSUM_UPDATE_FLAG_…
        std::int32_t verdict = 0;  // TC_ACT_…
        bool operator==(const Checksum&) const = default;
    };
    static constexpr std::size_t most_keys = 6; // that a message has room for

    U32Handle handle; // table 0: the preference's root table, whatever it is
    Preference place;
    std::vector<unsigned char> selector; // struct tc_u32_sel, with its keys
    std::optional<std::uint32_t> target; // class
    std::optional<Checksum> checksum;
    bool operator==(const LibvirtFilter&) const = default;
};

using Object =
    std::variant<RootQdisc, LeafQdisc, HtbClass, Preference, U32Table, U32Match, U32Link, OtherFilter, LibvirtFilter>;

enum class Verb { add, change, remove };

struct Request {
    Verb verb;
    Object object;
    bool operator==(const Request&) const = default;
};

// The message for a device. A Preference or an OtherFilter can only be removed.
Message encode(const Request& request, int ifindex, MacKey key);
// The tc(8) command for a device.
std::string describe(const Request& request, const std::string& device, MacKey key);

// Where byte `index` of the address stands: a 32-bit word at `offset` from the network header, a
// multiple of 4, and the byte's mask in it, host byte order.
struct WordMask {
    int offset;
    std::uint32_t mask;
    bool operator==(const WordMask&) const = default;
};
WordMask address_byte(MacKey key, unsigned index);

// ETH_P_ALL and ETH_P_IP, host byte order.
inline constexpr std::uint16_t any_protocol = 0x0003;
inline constexpr std::uint16_t ip_protocol = 0x0800;

} // namespace virfloor::tc
