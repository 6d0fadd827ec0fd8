// SPDX-License-Identifier: LGPL-2.1-or-later
#include "request.h"

#include <arpa/inet.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/tc_act/tc_csum.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <limits>

namespace virfloor::tc {

namespace {

constexpr unsigned table_shift = 20;
constexpr unsigned bucket_shift = 12;

// The address words that a match compares: two for any address.
struct KeyedWord {
    int offset;
    std::uint32_t mask, value;
};

std::array<KeyedWord, 2> address_words(MacKey key, MacAddress mac)
{
    std::array<KeyedWord, 2> words{};
    std::size_t used = 0;
    for (unsigned i = 0; i < mac.bytes.size(); ++i) {
        const auto [offset, mask] = address_byte(key, i);
        if (i == 0 || words[used].offset != offset)
            words[i == 0 ? 0 : ++used].offset = offset;
        words[used].mask |= mask;
        words[used].value |= (mask & -mask) * mac.bytes[i];
    }
    return words;
}

std::uint16_t flags(Verb verb) { return verb == Verb::add ? NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL : NLM_F_ACK; }

tcmsg header(int ifindex, std::uint32_t parent, std::uint32_t handle, std::uint32_t info = 0)
{
    tcmsg result{};
    result.tcm_family = AF_UNSPEC;
    result.tcm_ifindex = ifindex;
    result.tcm_parent = parent;
    result.tcm_handle = handle;
    result.tcm_info = info;
    return result;
}

// Text for a command line, put together piece by piece.
template <class... Pieces>
std::string join(const Pieces&... pieces)
{
    std::string text;
    ((text += pieces), ...);
    return text;
}

std::string hex(std::uint32_t value)
{
    char text[9];
    std::snprintf(text, sizeof text, "%x", value);
    return text;
}

std::string mask_text(std::uint32_t mask)
{
    char text[11];
    std::snprintf(text, sizeof text, "0x%08x", mask);
    return text;
}

const char* verb_name(Verb verb) { return verb == Verb::add ? "add" : verb == Verb::change ? "change" : "del"; }

// Builds the messages. Each function shows the command that asks for the same.
class Encoder {
public:
    Encoder(Verb verb, int ifindex, MacKey key) : verb_(verb), ifindex_(ifindex), key_(key) {}

    // tc qdisc add dev DEV root handle 1: htb default 2
    Message operator()(const RootQdisc&) const
    {
        if (verb_ == Verb::remove)
            return {RTM_DELQDISC, flags(verb_), header(ifindex_, TC_H_ROOT, 0)};
        Message message(RTM_NEWQDISC, flags(verb_), header(ifindex_, TC_H_ROOT, root_qdisc));
        message.put(TCA_KIND, "htb");
        tc_htb_glob glob{};
        glob.version = TC_HTB_PROTOVER;
        glob.rate2quantum = 10; // tc's default; no class of ours leaves its quantum to it
        glob.defcls = catchment_class.minor;
        nlattr* options = message.begin(TCA_OPTIONS);
        message.put_struct(TCA_HTB_INIT, glob);
        message.end(options);
        return message;
    }

    // tc qdisc replace dev DEV parent 1:3 handle 3: fq_codel
    Message operator()(const LeafQdisc& leaf) const
    {
        if (verb_ == Verb::remove)
            return {RTM_DELQDISC, flags(verb_), header(ifindex_, class_handle(leaf.parent), 0)};
        // ffff: belongs to ingress; the kernel chooses a name where it is asked for none.
        const std::uint32_t handle = leaf.parent == last_class ? 0 : std::uint32_t{leaf.parent.minor} << 16;
        Message message(RTM_NEWQDISC, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE,
                        header(ifindex_, class_handle(leaf.parent), handle));
        message.put(TCA_KIND, name(leaf.kind));
        if (leaf.kind == Leaf::sfq) {
            tc_sfq_qopt options{};
            options.perturb_period = 10; // seconds, as the stock driver has it
            message.put_struct(TCA_OPTIONS, options);
        }
        return message;
    }

    // tc class add dev DEV parent 1:1 classid 1:3 htb rate … ceil … burst … cburst … quantum …
    //   TCA_KIND "htb"
    //   TCA_OPTIONS { TCA_HTB_RATE64, TCA_HTB_CEIL64 (from 2^32 on), TCA_HTB_PARMS }
    // Without rate tables: kernels since 3.8 compute times themselves if the link layer is given.
    Message operator()(const HtbClass& shaped) const
    {
        const std::uint32_t parent = shaped.parent ? class_handle(*shaped.parent) : root_qdisc;
        if (verb_ == Verb::remove)
            return {RTM_DELTCLASS, flags(verb_), header(ifindex_, 0, class_handle(shaped.id))};
        Message message(RTM_NEWTCLASS, flags(verb_), header(ifindex_, parent, class_handle(shaped.id)));
        message.put(TCA_KIND, "htb");
        tc_htb_opt parameters{};
        parameters.rate = rate(shaped.shape.rate);
        parameters.ceil = rate(shaped.shape.ceil);
        parameters.buffer = static_cast<std::uint32_t>(shaped.shape.burst.count);
        parameters.cbuffer = static_cast<std::uint32_t>(shaped.shape.cburst.count);
        parameters.quantum = shaped.shape.quantum;
        nlattr* options = message.begin(TCA_OPTIONS);
        if (shaped.shape.rate.count > most_rate32)
            message.put(TCA_HTB_RATE64, shaped.shape.rate.count);
        if (shaped.shape.ceil.count > most_rate32)
            message.put(TCA_HTB_CEIL64, shaped.shape.ceil.count);
        message.put_struct(TCA_HTB_PARMS, parameters);
        message.end(options);
        return message;
    }

    // tc filter del dev DEV parent 1: pref 10 protocol all
    Message operator()(const Preference& place) const { return filter(place, 0); }

    // tc filter add dev DEV parent 1: pref 10 protocol all handle 1: u32 divisor 256
    Message operator()(const U32Table& table) const
    {
        Message message = filter(table.place, U32Handle{table.id, 0, 0}.value());
        message.put(TCA_KIND, "u32");
        if (verb_ == Verb::remove)
            return message;
        nlattr* options = message.begin(TCA_OPTIONS);
        message.put(TCA_U32_DIVISOR, std::uint32_t{table.buckets});
        message.end(options);
        return message;
    }

    // tc filter add … handle 1:5:1 u32 ht 1:5: match u32 … at -16 match u32 … at -12 flowid 1:3
    Message operator()(const U32Match& match) const
    {
        Message message = filter(ours(), match.handle.value());
        message.put(TCA_KIND, "u32");
        if (verb_ == Verb::remove)
            return message;
        const auto words = address_words(key_, match.mac);
        tc_u32_sel selector{};
        selector.flags = TC_U32_TERMINAL;
        selector.nkeys = words.size();
        std::array<tc_u32_key, words.size()> keys{};
        for (std::size_t i = 0; i < words.size(); ++i) {
            keys[i].mask = htonl(words[i].mask);
            keys[i].val = htonl(words[i].value);
            keys[i].off = words[i].offset;
        }
        std::array<char, sizeof selector + sizeof keys> body;
        std::memcpy(body.data(), &selector, sizeof selector);
        std::memcpy(body.data() + sizeof selector, keys.data(), sizeof keys);
        nlattr* options = message.begin(TCA_OPTIONS);
        message.put(TCA_U32_CLASSID, class_handle(match.target));
        message.put(TCA_U32_HASH, bucket(match.handle));
        message.put_struct(TCA_U32_SEL, body);
        message.end(options);
        return message;
    }

    // tc filter add … handle ::1 u32 link 1: hashkey mask 0x000000ff at -12
    Message operator()(const U32Link& link) const
    {
        Message message = filter(ours(), link.handle.value());
        message.put(TCA_KIND, "u32");
        if (verb_ == Verb::remove)
            return message;
        const auto [offset, mask] = address_byte(key_, link.byte);
        tc_u32_sel selector{};
        selector.hoff = static_cast<short>(offset);
        selector.hmask = htonl(mask);
        nlattr* options = message.begin(TCA_OPTIONS);
        message.put(TCA_U32_LINK, U32Handle{link.to, 0, 0}.value());
        if (link.handle.table != 0)
            message.put(TCA_U32_HASH, bucket(link.handle));
        message.put_struct(TCA_U32_SEL, selector);
        message.end(options);
        return message;
    }

    // tc filter del dev DEV parent 1: pref 1 protocol all handle 1 fw
    Message operator()(const OtherFilter& other) const
    {
        Message message = filter(other.place, other.handle);
        message.put(TCA_KIND, other.kind.data());
        return message;
    }

    // tc filter add dev DEV parent 1: pref 2 protocol ip handle 800::800 u32 match … action csum …
    //   TCA_KIND "u32"
    //   TCA_OPTIONS { TCA_U32_CLASSID, TCA_U32_SEL, TCA_U32_ACT { 1 { TCA_ACT_KIND "csum", TCA_ACT_OPTIONS {…} } } }
    Message operator()(const LibvirtFilter& copied) const
    {
        Message message = filter(copied.place, copied.handle.value());
        message.put(TCA_KIND, "u32");
        if (verb_ == Verb::remove)
            return message;
        nlattr* options = message.begin(TCA_OPTIONS);
        if (copied.target)
            message.put(TCA_U32_CLASSID, *copied.target);
        message.put_bytes(TCA_U32_SEL, copied.selector.data(), copied.selector.size());
        if (copied.checksum) {
            tc_csum parameters{}; // index 0: an action of its own
            parameters.action = copied.checksum->verdict;
            parameters.update_flags = copied.checksum->headers;
            nlattr* actions = message.begin(TCA_U32_ACT);
            nlattr* first = message.begin(1);
            message.put(TCA_ACT_KIND, "csum");
            nlattr* action = message.begin(TCA_ACT_OPTIONS);
            message.put_struct(TCA_CSUM_PARMS, parameters);
            message.end(action);
            message.end(first);
            message.end(actions);
        }
        message.end(options);
        return message;
    }

private:
    static constexpr std::uint64_t most_rate32 = std::numeric_limits<std::uint32_t>::max();

    static Preference ours() { return {our_preference, any_protocol}; }
    static std::uint32_t bucket(U32Handle handle)
    {
        handle.node = 0;
        return handle.value();
    }

    static tc_ratespec rate(BytesPerSecond bytes)
    {
        tc_ratespec spec{};
        spec.linklayer = TC_LINKLAYER_ETHERNET;
        spec.rate = static_cast<std::uint32_t>(std::min(bytes.count, most_rate32));
        return spec;
    }

    Message filter(const Preference& place, std::uint32_t handle) const
    {
        return {static_cast<std::uint16_t>(verb_ == Verb::remove ? RTM_DELTFILTER : RTM_NEWTFILTER), flags(verb_),
                header(ifindex_, root_qdisc, handle,
                       TC_H_MAKE(std::uint32_t{place.preference} << 16, htons(place.protocol)))};
    }

    Verb verb_;
    int ifindex_;
    MacKey key_;
};

class Describer {
public:
    Describer(Verb verb, const std::string& device, MacKey key) : verb_(verb), device_(device), key_(key) {}

    std::string operator()(const RootQdisc&) const
    {
        return join(start("qdisc"), "root", verb_ == Verb::remove ? "" : " handle 1: htb default 2");
    }

    std::string operator()(const LeafQdisc& leaf) const
    {
        return join(start("qdisc"), "parent ", class_name(leaf.parent),
                    verb_ == Verb::remove ? "" : join(" ", name(leaf.kind)));
    }

    std::string operator()(const HtbClass& shaped) const
    {
        const std::string id = join("classid ", class_name(shaped.id));
        if (verb_ == Verb::remove)
            return start("class") + id;
        const Shape& shape = shaped.shape;
        const auto number = [](std::uint64_t count) { return std::to_string(count); };
        return join(start("class"), "parent ", shaped.parent ? class_name(*shaped.parent) : std::string("1:"), " ", id,
                    " htb rate ", number(shape.rate.count), "bps ceil ", number(shape.ceil.count), "bps burst ",
                    number(shape.burst.count), "ticks cburst ", number(shape.cburst.count), "ticks quantum ",
                    number(shape.quantum));
    }

    std::string operator()(const Preference& place) const { return filter(place); }

    std::string operator()(const U32Table& table) const
    {
        return join(filter(table.place), " handle ", hex(table.id), ": u32",
                    verb_ == Verb::remove ? "" : join(" divisor ", std::to_string(table.buckets)));
    }

    std::string operator()(const U32Match& match) const
    {
        std::string text = node(match.handle);
        if (verb_ == Verb::remove)
            return text;
        for (const auto& word : address_words(key_, match.mac))
            text += join(" match u32 ", mask_text(word.value), " ", mask_text(word.mask), " at ",
                         std::to_string(word.offset));
        return join(text, " flowid ", class_name(match.target));
    }

    std::string operator()(const U32Link& link) const
    {
        if (verb_ == Verb::remove)
            return node(link.handle);
        const auto [offset, mask] = address_byte(key_, link.byte);
        return join(node(link.handle), " link ", hex(link.to), ": hashkey mask ", mask_text(mask), " at ",
                    std::to_string(offset));
    }

    std::string operator()(const OtherFilter& other) const
    {
        return join(filter(other.place), " handle 0x", hex(other.handle), " ", other.kind.data());
    }

    // The selector as bytes: tc has no words for all of it.
    std::string operator()(const LibvirtFilter& copied) const
    {
        std::string text = join(filter(copied.place), " handle ", copied.handle.text(), " u32");
        if (verb_ == Verb::remove)
            return text;
        text += " selector ";
        for (const unsigned char byte : copied.selector)
            text += join(byte < 0x10 ? "0" : "", hex(byte));
        if (copied.target)
            text += join(" flowid ", class_name({static_cast<std::uint16_t>(*copied.target)}));
        return text + (copied.checksum ? join(" action csum ", hex(copied.checksum->headers)) : "");
    }

private:
    static std::string class_name(ClassId id) { return "1:" + hex(id.minor); }

    std::string start(const char* object) const
    {
        return join("tc ", object, " ", verb_name(verb_), " dev ", device_, " ");
    }

    std::string filter(const Preference& place) const
    {
        return join(start("filter"), "parent 1: pref ", std::to_string(place.preference), " protocol ",
                    place.protocol == any_protocol  ? "all"
                    : place.protocol == ip_protocol ? "ip"
                                                    : std::to_string(place.protocol));
    }

    std::string node(const U32Handle& handle) const
    {
        return join(filter({our_preference, any_protocol}), " handle ", handle.text(), " u32");
    }

    Verb verb_;
    const std::string& device_;
    MacKey key_;
};

} // namespace

std::uint32_t U32Handle::value() const
{
    return std::uint32_t{table} << table_shift | std::uint32_t{bucket} << bucket_shift | node;
}

U32Handle U32Handle::from(std::uint32_t value)
{
    return {static_cast<std::uint16_t>(value >> table_shift), static_cast<std::uint8_t>(value >> bucket_shift),
            static_cast<std::uint16_t>(value & 0xfff)};
}

std::string U32Handle::text() const { return hex(table) + ":" + hex(bucket) + ":" + hex(node); }

// A frame's addresses end 8 and 2 bytes before its network header.
WordMask address_byte(MacKey key, unsigned index)
{
    const int position = (key == MacKey::destination ? -14 : -8) + static_cast<int>(index);
    const int offset = position & ~3;
    return {offset, 0xff000000u >> 8 * (position - offset)};
}

Message encode(const Request& request, int ifindex, MacKey key)
{
    return std::visit(Encoder(request.verb, ifindex, key), request.object);
}

std::string describe(const Request& request, const std::string& device, MacKey key)
{
    return std::visit(Describer(request.verb, device, key), request.object);
}

} // namespace virfloor::tc
