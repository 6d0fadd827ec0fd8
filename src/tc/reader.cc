// SPDX-License-Identifier: LGPL-2.1-or-later
#include "reader.h"

#include "dump.h"

#include <arpa/inet.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/tc_act/tc_csum.h>

#include <algorithm>
#include <cstring>

namespace virfloor::tc {

namespace {

// Of a queue that somebody put there. A pfifo among them has a length of its own, and is none of ours.
std::optional<Leaf> leaf_kind(const std::string& kind)
{
    for (const Leaf leaf : {Leaf::fq_codel, Leaf::sfq})
        if (kind == name(leaf))
            return leaf;
    return {};
}

// The address that a u32 selector compares whole, whatever else it compares.
std::optional<MacAddress> matched_address(const std::vector<tc_u32_key>& keys, MacKey key)
{
    MacAddress mac;
    for (unsigned i = 0; i < mac.bytes.size(); ++i) {
        const WordMask byte = address_byte(key, i);
        const auto found = std::find_if(keys.begin(), keys.end(), [byte](const tc_u32_key& at) {
            return at.off == byte.offset && at.offmask == 0 && (ntohl(at.mask) & byte.mask) == byte.mask;
        });
        if (found == keys.end())
            return {};
        mac.bytes[i] = static_cast<std::uint8_t>((ntohl(found->val) & byte.mask) / (byte.mask & -byte.mask));
    }
    return mac;
}

// A u32 filter's selector: what it compares, and how it chooses a bucket of a linked table.
struct Selector {
    WordMask hash;
    std::vector<tc_u32_key> keys;
};

std::optional<Selector> selector(nlattr* attribute)
{
    tc_u32_sel head;
    if (!attribute || nla_len(attribute) < static_cast<int>(sizeof head))
        return {};
    const auto* data = static_cast<const char*>(nla_data(attribute));
    std::memcpy(&head, data, sizeof head);
    Selector result{{head.hoff, ntohl(head.hmask)}, std::vector<tc_u32_key>(head.nkeys)};
    const std::size_t size = result.keys.size() * sizeof(tc_u32_key);
    if (static_cast<std::size_t>(nla_len(attribute)) < sizeof head + size)
        return {};
    if (size > 0)
        std::memcpy(result.keys.data(), data + sizeof head, size);
    return result;
}

std::optional<unsigned> hashed_byte(const WordMask& hash, MacKey key)
{
    for (unsigned i = 0; i < MacAddress{}.bytes.size(); ++i)
        if (address_byte(key, i) == hash)
            return i;
    return {};
}

// Which attribute of a classifier's options names the class, by kind (linux/pkt_cls.h); the others'
// all have the number that u32's has.
int class_attribute(const std::string& kind)
{
    if (kind == "bpf")
        return TCA_BPF_CLASSID;
    return TCA_U32_CLASSID;
}

// Of a filter's actions, if there is just the one that makes checksums anew. Counters and the like are the
// kernel's own words.
std::optional<LibvirtFilter::Checksum> checksum(nlattr* actions)
{
    const auto all = attributes(actions, TCA_ACT_MAX_PRIO);
    if (!all || std::ranges::count_if(*all, [](const nlattr* each) { return each; }) != 1 || !(*all)[1])
        return {};
    const auto action = attributes((*all)[1], TCA_ACT_MAX);
    if (!action || text((*action)[TCA_ACT_KIND]) != "csum" || (*action)[TCA_ACT_COOKIE] || (*action)[TCA_ACT_FLAGS] ||
        (*action)[TCA_ACT_HW_STATS] || !(*action)[TCA_ACT_OPTIONS])
        return {};
    const auto options = attributes((*action)[TCA_ACT_OPTIONS], TCA_CSUM_MAX);
    const auto parameters = options ? value<tc_csum>((*options)[TCA_CSUM_PARMS]) : std::nullopt;
    if (!parameters)
        return {};
    return LibvirtFilter::Checksum{parameters->update_flags, parameters->action};
}

// What a u32 filter with so many keys is made of; nothing if there is more to it than libvirt's have.
std::optional<LibvirtFilter> copy_of(U32Handle handle, Preference place, std::size_t keys,
                                     const std::vector<nlattr*>& options)
{
    const bool more =
        options[TCA_U32_LINK] || options[TCA_U32_INDEV] || options[TCA_U32_POLICE] || options[TCA_U32_MARK] ||
        value<std::uint32_t>(options[TCA_U32_FLAGS]).value_or(0) & (TCA_CLS_FLAGS_SKIP_HW | TCA_CLS_FLAGS_SKIP_SW);
    if (keys > LibvirtFilter::most_keys || more || handle.table < first_root_table || handle.bucket != 0)
        return {};
    LibvirtFilter copy{handle, place, {}, value<std::uint32_t>(options[TCA_U32_CLASSID]), {}};
    const auto* bytes = static_cast<const unsigned char*>(nla_data(options[TCA_U32_SEL]));
    copy.selector.assign(bytes, bytes + sizeof(tc_u32_sel) + keys * sizeof(tc_u32_key));
    if (options[TCA_U32_ACT]) {
        copy.checksum = checksum(options[TCA_U32_ACT]);
        if (!copy.checksum)
            return {};
    }
    return copy;
}

class Reader {
public:
    Reader(Netlink& netlink, int ifindex, MacKey key) : netlink_(netlink), ifindex_(ifindex), key_(key) {}

    Picture read()
    {
        dump(RTM_GETQDISC, 0, [this](const DumpedObject& object) { qdisc(object); });
        const auto root = picture_.qdiscs.find(TC_H_ROOT);
        if (root == picture_.qdiscs.end() || root->second.handle != root_qdisc)
            return std::move(picture_);
        dump(RTM_GETTCLASS, 0, [this](const DumpedObject& object) { htb_class(object); });
        dump(RTM_GETTFILTER, root_qdisc, [this](const DumpedObject& object) { filter(object); });
        for (auto& [id, seen] : picture_.classes)
            if (seen.parent)
                if (const auto parent = picture_.classes.find(*seen.parent); parent != picture_.classes.end())
                    parent->second.inner = true;
        return std::move(picture_);
    }

private:
    void dump(std::uint16_t type, std::uint32_t parent, const std::function<void(const DumpedObject&)>& handler)
    {
        dump_objects(netlink_, ifindex_, type, parent, handler);
    }

    void qdisc(const DumpedObject& object)
    {
        QdiscSeen seen{object.kind, object.header.tcm_handle, 0};
        if (object.kind == "htb" && object.options)
            if (const auto options = attributes(object.options, TCA_HTB_MAX))
                if (const auto glob = value<tc_htb_glob>((*options)[TCA_HTB_INIT]))
                    seen.default_class = glob->defcls;
        picture_.qdiscs[object.header.tcm_parent] = seen;
    }

    void htb_class(const DumpedObject& object)
    {
        const auto id = class_of_ours(object.header.tcm_handle);
        const auto options = object.options ? attributes(object.options, TCA_HTB_MAX) : std::nullopt;
        const auto parameters = options ? value<tc_htb_opt>((*options)[TCA_HTB_PARMS]) : std::nullopt;
        if (!id || !parameters)
            return;
        Class seen{.id = *id,
                   .parent = class_of_ours(object.header.tcm_parent),
                   .shape = {htb_rate(*options, TCA_HTB_RATE64, parameters->rate),
                             htb_rate(*options, TCA_HTB_CEIL64, parameters->ceil), Ticks{parameters->buffer},
                             Ticks{parameters->cbuffer}, parameters->quantum}};
        // HTB shows a queue only where one was put; its own is a pfifo (htb_change_class).
        const auto leaf = picture_.qdiscs.find(object.header.tcm_handle);
        if (leaf != picture_.qdiscs.end())
            seen.leaf = leaf_kind(leaf->second.kind);
        picture_.classes.emplace(*id, seen);
    }

    void filter(const DumpedObject& object)
    {
        const auto preference = static_cast<std::uint16_t>(TC_H_MAJ(object.header.tcm_info) >> 16);
        const std::uint16_t protocol = ntohs(TC_H_MIN(object.header.tcm_info));
        const bool ours = preference == our_preference;
        picture_.has_our_preference |= ours;
        if (preference == libvirt_preference)
            picture_.libvirt_protocol = protocol;
        else if (!ours && object.kind == "u32")
            picture_.has_other_u32 = true;
        // The preference itself is dumped as an object with neither handle nor options.
        if (object.header.tcm_handle == 0)
            return;
        const auto options = object.options ? attributes(object.options, TCA_MAX) : std::nullopt;
        const auto handle = U32Handle::from(object.header.tcm_handle);
        if (object.kind == "u32" && handle.node == 0 && handle.bucket == 0) {
            table(preference, handle, options);
            return;
        }
        if (ours) {
            picture_.our_nodes.push_back(object.header.tcm_handle);
            if (object.kind != "u32" || protocol != any_protocol || !options || !node(handle, *options))
                picture_.ours.strange = true;
            return;
        }
        ForeignFilter foreign{preference, protocol, object.header.tcm_handle, object.kind, {}, {}};
        if (options) {
            if (const auto target = value<std::uint32_t>((*options)[class_attribute(object.kind)]))
                foreign.target = class_of_ours(*target);
            if (object.kind == "u32")
                u32_of_others(foreign, *options);
        }
        picture_.foreign.push_back(foreign);
    }

    // Which address it matches; at libvirt's preference, all that it is made of.
    void u32_of_others(ForeignFilter& filter, const std::vector<nlattr*>& options)
    {
        const auto selected = selector(options[TCA_U32_SEL]);
        if (!selected)
            return;
        filter.mac = matched_address(selected->keys, key_);
        if (filter.preference != libvirt_preference)
            return;
        if (auto copy = copy_of(U32Handle::from(filter.handle), {filter.preference, filter.protocol},
                                selected->keys.size(), options))
            picture_.libvirts.push_back(std::move(*copy));
    }

    void table(std::uint16_t preference, U32Handle handle, const std::optional<std::vector<nlattr*>>& options)
    {
        picture_.tables.insert(handle.table);
        const auto size = options ? value<std::uint32_t>((*options)[TCA_U32_DIVISOR]) : std::nullopt;
        if (preference == libvirt_preference && handle.table == reserved_table)
            picture_.has_reservation = true;
        if (preference == libvirt_preference && handle.table >= first_root_table)
            picture_.libvirt_root_table = handle.table;
        if (preference != our_preference)
            return;
        if (handle.table >= first_root_table)
            picture_.our_root_table = handle.table;
        else
            picture_.ours.tables[handle.table] = size.value_or(0);
    }

    // A node of our preference; false if it is none of ours.
    bool node(U32Handle handle, const std::vector<nlattr*>& options)
    {
        const auto selected = selector(options[TCA_U32_SEL]);
        if (!selected)
            return false;
        if (const auto link = value<std::uint32_t>(options[TCA_U32_LINK])) {
            const auto byte = hashed_byte(selected->hash, key_);
            if (!byte || !selected->keys.empty())
                return false;
            picture_.ours.links.push_back({handle, U32Handle::from(*link).table, *byte});
            return true;
        }
        const auto target = value<std::uint32_t>(options[TCA_U32_CLASSID]);
        const auto id = target ? class_of_ours(*target) : std::nullopt;
        const auto mac = matched_address(selected->keys, key_);
        if (!id || !mac || selected->keys.size() != 2)
            return false;
        picture_.ours.matches.push_back({handle, *mac, *id});
        return true;
    }

    Netlink& netlink_;
    int ifindex_;
    MacKey key_;
    Picture picture_;
};

} // namespace

Picture read_picture(Netlink& netlink, int ifindex, MacKey key) { return Reader(netlink, ifindex, key).read(); }

} // namespace virfloor::tc
