// SPDX-License-Identifier: LGPL-2.1-or-later
#include "request.h"

#include "support.h"

#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/tc_act/tc_csum.h>

#include <cstring>
#include <sstream>

namespace virfloor::tc {
namespace {

using test::mac;

constexpr int ifindex = 7;
const MacAddress address = mac("52:54:00:aa:bb:cc");
constexpr int create = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
constexpr int plain = NLM_F_REQUEST | NLM_F_ACK;

// The bytes of a message in pieces of host words, as a person writes them down.
class Bytes_ {
public:
    Bytes_& u8(unsigned value) { return raw(static_cast<std::uint8_t>(value)); }
    Bytes_& u16(unsigned value) { return raw(static_cast<std::uint16_t>(value)); }
    Bytes_& u32(std::uint32_t value) { return raw(value); }
    Bytes_& u64(std::uint64_t value) { return raw(value); }
    // Network byte order.
    Bytes_& be32(std::uint32_t value) { return u8(value >> 24).u8(value >> 16).u8(value >> 8).u8(value); }
    Bytes_& text(const std::string& value)
    {
        bytes_.insert(bytes_.end(), value.begin(), value.end());
        bytes_.push_back(0);
        return pad();
    }
    Bytes_& attribute(unsigned type, const Bytes_& body)
    {
        u16(4 + body.unpadded_).u16(type);
        bytes_.insert(bytes_.end(), body.bytes_.begin(), body.bytes_.end());
        unpadded_ = bytes_.size();
        return pad();
    }
    Bytes_& pad()
    {
        unpadded_ = bytes_.size();
        bytes_.resize((bytes_.size() + 3) / 4 * 4);
        return *this;
    }
    const std::vector<unsigned char>& get() const { return bytes_; }

private:
    template <class Value>
    Bytes_& raw(Value value)
    {
        const auto* at = reinterpret_cast<const unsigned char*>(&value);
        bytes_.insert(bytes_.end(), at, at + sizeof value);
        unpadded_ = bytes_.size();
        return *this;
    }
    std::vector<unsigned char> bytes_;
    std::size_t unpadded_ = 0;
};

Bytes_ kind(const std::string& name) { return Bytes_{}.text(name); }

struct Expected {
    int type, flags;
    std::uint32_t parent, handle, info;
    Bytes_ attributes;
};

void expect_message(const Request& request, const Expected& expected, MacKey key = MacKey::destination)
{
    const Message message = encode(request, ifindex, key);
    Bytes_ whole;
    whole.u32(36 + expected.attributes.get().size()).u16(expected.type).u16(expected.flags).u32(0).u32(0);
    whole.u32(0).u32(ifindex).u32(expected.handle).u32(expected.parent).u32(expected.info);
    auto bytes = whole.get();
    bytes.insert(bytes.end(), expected.attributes.get().begin(), expected.attributes.get().end());
    nlmsghdr* header = message.header();
    header->nlmsg_seq = header->nlmsg_pid = 0;
    const auto* data = reinterpret_cast<const unsigned char*>(header);
    EXPECT_EQ(std::vector<unsigned char>(data, data + NLMSG_ALIGN(header->nlmsg_len)), bytes);
}

Bytes_ htb_parameters(std::uint32_t rate, std::uint32_t ceil, const Shape& shape)
{
    Bytes_ bytes;
    for (const std::uint32_t at : {rate, ceil})
        bytes.u8(0).u8(TC_LINKLAYER_ETHERNET).u16(0).u16(0).u16(0).u32(at);
    return bytes.u32(shape.burst.count).u32(shape.cburst.count).u32(shape.quantum).u32(0).u32(0);
}

std::uint32_t place(unsigned preference, unsigned protocol) { return preference << 16 | htons(protocol); }

TEST(Encode, RootQdisc)
{
    Bytes_ glob;
    glob.u32(3).u32(10).u32(2).u32(0).u32(0);
    expect_message({Verb::add, RootQdisc{}},
                   {RTM_NEWQDISC, create, TC_H_ROOT, 0x10000, 0,
                    Bytes_{}
                        .attribute(TCA_KIND, kind("htb"))
                        .attribute(TCA_OPTIONS | NLA_F_NESTED, Bytes_{}.attribute(TCA_HTB_INIT, glob))});
    expect_message({Verb::remove, RootQdisc{}}, {RTM_DELQDISC, plain, TC_H_ROOT, 0, 0, {}});
}

TEST(Encode, LeafQdisc)
{
    const int replace = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    // "fq_codel" and its NUL are 9 bytes: the padding is not part of the attribute.
    const auto named = [](const char* name) {
        Bytes_ body;
        for (const char* at = name; *at; ++at)
            body.u8(static_cast<unsigned char>(*at));
        return Bytes_{}.attribute(TCA_KIND, body.u8(0));
    };
    expect_message({Verb::add, LeafQdisc{{3}, Leaf::fq_codel}},
                   {RTM_NEWQDISC, replace, 0x10003, 0x30000, 0, named("fq_codel")});
    expect_message({Verb::add, LeafQdisc{{65535}, Leaf::pfifo}},
                   {RTM_NEWQDISC, replace, 0x1ffff, 0, 0, named("pfifo")});
    Bytes_ sfq;
    sfq.u32(0).u32(10).u32(0).u32(0).u32(0);
    expect_message({Verb::add, LeafQdisc{{0x1234}, Leaf::sfq}},
                   {RTM_NEWQDISC, replace, 0x11234, 0x12340000, 0,
                    Bytes_{}.attribute(TCA_KIND, kind("sfq")).attribute(TCA_OPTIONS, sfq)});
    expect_message({Verb::remove, LeafQdisc{{3}, Leaf::sfq}}, {RTM_DELQDISC, plain, 0x10003, 0, 0, {}});
}

TEST(Encode, HtbClass)
{
    const Shape shape{{1'000'000}, {20'000'000}, {15625}, {15626}, 6000};
    const auto options = [&](std::uint32_t rate, std::uint32_t ceil, const Shape& of) {
        return Bytes_{}
            .attribute(TCA_KIND, kind("htb"))
            .attribute(TCA_OPTIONS | NLA_F_NESTED, Bytes_{}.attribute(TCA_HTB_PARMS, htb_parameters(rate, ceil, of)));
    };
    expect_message({Verb::add, HtbClass{{3}, ClassId{1}, shape}},
                   {RTM_NEWTCLASS, create, 0x10001, 0x10003, 0, options(1'000'000, 20'000'000, shape)});
    expect_message({Verb::add, HtbClass{{1}, {}, shape}},
                   {RTM_NEWTCLASS, create, 0x10000, 0x10001, 0, options(1'000'000, 20'000'000, shape)});
    expect_message({Verb::change, HtbClass{{3}, ClassId{1}, shape}},
                   {RTM_NEWTCLASS, plain, 0x10001, 0x10003, 0, options(1'000'000, 20'000'000, shape)});
    expect_message({Verb::remove, HtbClass{{3}, ClassId{1}, shape}}, {RTM_DELTCLASS, plain, 0, 0x10003, 0, {}});
}

TEST(Encode, RatesOf64BitsFrom2To32On)
{
    constexpr std::uint64_t edge = std::uint64_t{1} << 32;
    struct Case {
        std::uint64_t rate, ceil;
    };
    for (const auto& [rate, ceil] : {Case{edge - 1, edge - 1}, Case{edge - 1, edge}, Case{edge, edge},
                                     Case{edge, edge + 1}, Case{12'500'000'000, 18'446'744'073'709'551'000u}}) {
        const Shape shape{{rate}, {ceil}, {1}, {2}, 3};
        Bytes_ options;
        if (rate >= edge)
            options.attribute(TCA_HTB_RATE64, Bytes_{}.u64(rate));
        if (ceil >= edge)
            options.attribute(TCA_HTB_CEIL64, Bytes_{}.u64(ceil));
        options.attribute(TCA_HTB_PARMS, htb_parameters(std::min(rate, edge - 1), std::min(ceil, edge - 1), shape));
        expect_message({Verb::add, HtbClass{{2}, ClassId{1}, shape}},
                       {RTM_NEWTCLASS, create, 0x10001, 0x10002, 0,
                        Bytes_{}.attribute(TCA_KIND, kind("htb")).attribute(TCA_OPTIONS | NLA_F_NESTED, options)});
    }
}

TEST(Encode, PreferenceAndOtherFilter)
{
    expect_message({Verb::remove, Preference{10, any_protocol}},
                   {RTM_DELTFILTER, plain, 0x10000, 0, place(10, ETH_P_ALL), {}});
    OtherFilter mark{{1, any_protocol}, {'f', 'w'}, 1};
    Bytes_ fw;
    fw.u8('f').u8('w').u8(0);
    expect_message({Verb::remove, mark},
                   {RTM_DELTFILTER, plain, 0x10000, 1, place(1, ETH_P_ALL), Bytes_{}.attribute(TCA_KIND, fw)});
}

// libvirt's filter for DHCP's checksums, and one of QEMU's that has a class.
const LibvirtFilter dhcp{{0x800, 0, 0x800}, {2, ip_protocol}, {1, 2, 3, 4}, {}, LibvirtFilter::Checksum{17, -1}};
const LibvirtFilter qemus{{0, 0, 3}, {2, ip_protocol}, {1, 2, 3, 4}, 0x10003, {}};

TEST(Encode, LibvirtFilter)
{
    const auto selector = Bytes_{}.u8(1).u8(2).u8(3).u8(4);
    const auto u32 = Bytes_{}.u8('u').u8('3').u8('2').u8(0);
    const auto csum = Bytes_{}.u32(0).u32(0).u32(0xffffffff).u32(0).u32(0).u32(17); // struct tc_csum
    expect_message(
        {Verb::add, dhcp},
        {RTM_NEWTFILTER, create, 0x10000, 0x80000800, place(2, ETH_P_IP),
         Bytes_{}
             .attribute(TCA_KIND, u32)
             .attribute(TCA_OPTIONS | NLA_F_NESTED,
                        Bytes_{}
                            .attribute(TCA_U32_SEL, selector)
                            .attribute(TCA_U32_ACT | NLA_F_NESTED,
                                       Bytes_{}.attribute(
                                           1 | NLA_F_NESTED,
                                           Bytes_{}
                                               .attribute(TCA_ACT_KIND, Bytes_{}.u8('c').u8('s').u8('u').u8('m').u8(0))
                                               .attribute(TCA_ACT_OPTIONS | NLA_F_NESTED,
                                                          Bytes_{}.attribute(TCA_CSUM_PARMS, csum)))))});
    expect_message(
        {Verb::add, qemus},
        {RTM_NEWTFILTER, create, 0x10000, 3, place(2, ETH_P_IP),
         Bytes_{}
             .attribute(TCA_KIND, u32)
             .attribute(TCA_OPTIONS | NLA_F_NESTED,
                        Bytes_{}.attribute(TCA_U32_CLASSID, Bytes_{}.u32(0x10003)).attribute(TCA_U32_SEL, selector))});
    expect_message({Verb::remove, qemus},
                   {RTM_DELTFILTER, plain, 0x10000, 3, place(2, ETH_P_IP), Bytes_{}.attribute(TCA_KIND, u32)});
}

TEST(Encode, TheLongestLibvirtFilterHasRoom)
{
    LibvirtFilter longest = dhcp;
    longest.selector.resize(sizeof(tc_u32_sel) + LibvirtFilter::most_keys * sizeof(tc_u32_key));
    longest.target = 0x10003;
    EXPECT_NO_THROW(encode({Verb::add, longest}, ifindex, MacKey::destination));
}

TEST(Encode, U32Table)
{
    expect_message(
        {Verb::add, U32Table{1, 256, {10, any_protocol}}},
        {RTM_NEWTFILTER, create, 0x10000, 0x00100000, place(10, ETH_P_ALL),
         Bytes_{}
             .attribute(TCA_KIND, kind("u32"))
             .attribute(TCA_OPTIONS | NLA_F_NESTED, Bytes_{}.attribute(TCA_U32_DIVISOR, Bytes_{}.u32(256)))});
    expect_message({Verb::add, U32Table{0x7fe, 1, {2, ip_protocol}}},
                   {RTM_NEWTFILTER, create, 0x10000, 0x7fe00000, place(2, ETH_P_IP),
                    Bytes_{}
                        .attribute(TCA_KIND, kind("u32"))
                        .attribute(TCA_OPTIONS | NLA_F_NESTED, Bytes_{}.attribute(TCA_U32_DIVISOR, Bytes_{}.u32(1)))});
    expect_message(
        {Verb::remove, U32Table{1, 256, {10, any_protocol}}},
        {RTM_DELTFILTER, plain, 0x10000, 0x00100000, place(10, ETH_P_ALL), Bytes_{}.attribute(TCA_KIND, kind("u32"))});
}

TEST(Encode, U32Match)
{
    const U32Match match{{1, 0xcc, 2}, address, {0x103}};
    const auto expected = [&](Bytes_ keys) {
        Bytes_ selector;
        selector.u8(TC_U32_TERMINAL).u8(0).u8(2).u8(0).u16(0).u16(0).u16(0).u16(0).u32(0);
        auto body = selector;
        for (const auto byte : keys.get())
            body.u8(byte);
        return Expected{
            RTM_NEWTFILTER,
            create,
            0x10000,
            0x001cc002,
            place(10, ETH_P_ALL),
            Bytes_{}
                .attribute(TCA_KIND, kind("u32"))
                .attribute(TCA_OPTIONS | NLA_F_NESTED, Bytes_{}
                                                           .attribute(TCA_U32_CLASSID, Bytes_{}.u32(0x10103))
                                                           .attribute(TCA_U32_HASH, Bytes_{}.u32(0x001cc000))
                                                           .attribute(TCA_U32_SEL, body))};
    };
    expect_message({Verb::add, match}, expected(Bytes_{}
                                                    .be32(0x0000ffff)
                                                    .be32(0x00005254)
                                                    .u32(-16)
                                                    .u32(0)
                                                    .be32(0xffffffff)
                                                    .be32(0x00aabbcc)
                                                    .u32(-12)
                                                    .u32(0)));
    expect_message(
        {Verb::add, match},
        expected(
            Bytes_{}.be32(0xffffffff).be32(0x525400aa).u32(-8).u32(0).be32(0xffff0000).be32(0xbbcc0000).u32(-4).u32(0)),
        MacKey::source);
    expect_message({Verb::remove, match}, {RTM_DELTFILTER, plain, 0x10000, 0x001cc002, place(10, ETH_P_ALL),
                                           Bytes_{}.attribute(TCA_KIND, kind("u32"))});
}

TEST(Encode, U32Link)
{
    const auto selector = [](std::uint32_t mask, int offset) {
        return Bytes_{}.u8(0).u8(0).u8(0).u8(0).u16(0).u16(0).u16(0).u16(static_cast<std::uint16_t>(offset)).be32(mask);
    };
    expect_message(
        {Verb::add, U32Link{{0, 0, 1}, 1, 5}},
        {RTM_NEWTFILTER, create, 0x10000, 1, place(10, ETH_P_ALL),
         Bytes_{}
             .attribute(TCA_KIND, kind("u32"))
             .attribute(TCA_OPTIONS | NLA_F_NESTED, Bytes_{}
                                                        .attribute(TCA_U32_LINK, Bytes_{}.u32(0x00100000))
                                                        .attribute(TCA_U32_SEL, selector(0x000000ff, -12)))});
    expect_message(
        {Verb::add, U32Link{{1, 0xcc, 9}, 2, 0}},
        {RTM_NEWTFILTER, create, 0x10000, 0x001cc009, place(10, ETH_P_ALL),
         Bytes_{}
             .attribute(TCA_KIND, kind("u32"))
             .attribute(TCA_OPTIONS | NLA_F_NESTED, Bytes_{}
                                                        .attribute(TCA_U32_LINK, Bytes_{}.u32(0x00200000))
                                                        .attribute(TCA_U32_HASH, Bytes_{}.u32(0x001cc000))
                                                        .attribute(TCA_U32_SEL, selector(0x0000ff00, -16)))});
    expect_message(
        {Verb::remove, U32Link{{1, 0xcc, 9}, 2, 0}},
        {RTM_DELTFILTER, plain, 0x10000, 0x001cc009, place(10, ETH_P_ALL), Bytes_{}.attribute(TCA_KIND, kind("u32"))});
}

TEST(AddressByte, StandsBeforeTheNetworkHeader)
{
    const WordMask destination[] = {{-16, 0xff00},   {-16, 0xff},   {-12, 0xff000000},
                                    {-12, 0xff0000}, {-12, 0xff00}, {-12, 0xff}};
    const WordMask source[] = {{-8, 0xff000000}, {-8, 0xff0000},   {-8, 0xff00},
                               {-8, 0xff},       {-4, 0xff000000}, {-4, 0xff0000}};
    for (unsigned i = 0; i < 6; ++i) {
        EXPECT_EQ(address_byte(MacKey::destination, i), destination[i]) << i;
        EXPECT_EQ(address_byte(MacKey::source, i), source[i]) << i;
    }
}

TEST(U32Handle, HasThreeParts)
{
    EXPECT_EQ((U32Handle{0x7fe, 0xab, 0x123}.value()), 0x7feab123u);
    EXPECT_EQ((U32Handle{0x800, 0, 0x800}.value()), 0x80000800u);
    EXPECT_EQ(U32Handle::from(0x7feab123), (U32Handle{0x7fe, 0xab, 0x123}));
    EXPECT_EQ(U32Handle::from(0xffffffff), (U32Handle{0xfff, 0xff, 0xfff}));
    EXPECT_EQ((U32Handle{1, 0xcc, 2}.text()), "1:cc:2");
    EXPECT_EQ((U32Handle{}.text()), "0:0:0");
}

TEST(Describe, IsTheCommandThatDoesTheSame)
{
    const auto text = [](Verb verb, const Object& object, MacKey key = MacKey::destination) {
        return describe({verb, object}, "virbr7", key);
    };
    EXPECT_EQ(text(Verb::add, RootQdisc{}), "tc qdisc add dev virbr7 root handle 1: htb default 2");
    EXPECT_EQ(text(Verb::remove, RootQdisc{}), "tc qdisc del dev virbr7 root");
    EXPECT_EQ(text(Verb::add, LeafQdisc{{0xff}, Leaf::sfq}), "tc qdisc add dev virbr7 parent 1:ff sfq");
    EXPECT_EQ(text(Verb::remove, LeafQdisc{{3}, Leaf::sfq}), "tc qdisc del dev virbr7 parent 1:3");
    const HtbClass shaped{{3}, ClassId{1}, {{1000}, {5'000'000'000}, {3}, {4}, 5}};
    const std::string rest = " classid 1:3 htb rate 1000bps ceil 5000000000bps burst 3ticks cburst 4ticks quantum 5";
    EXPECT_EQ(text(Verb::add, shaped), "tc class add dev virbr7 parent 1:1" + rest);
    EXPECT_EQ(text(Verb::change, shaped), "tc class change dev virbr7 parent 1:1" + rest);
    EXPECT_EQ(text(Verb::add, HtbClass{{3}, {}, shaped.shape}), "tc class add dev virbr7 parent 1:" + rest);
    EXPECT_EQ(text(Verb::remove, shaped), "tc class del dev virbr7 classid 1:3");
    EXPECT_EQ(text(Verb::remove, Preference{10, any_protocol}),
              "tc filter del dev virbr7 parent 1: pref 10 protocol all");
    EXPECT_EQ(text(Verb::remove, Preference{2, ip_protocol}), "tc filter del dev virbr7 parent 1: pref 2 protocol ip");
    EXPECT_EQ(text(Verb::remove, Preference{2, ETH_P_ARP}), "tc filter del dev virbr7 parent 1: pref 2 protocol 2054");
    EXPECT_EQ(text(Verb::add, U32Table{0x7fe, 1, {2, ip_protocol}}),
              "tc filter add dev virbr7 parent 1: pref 2 protocol ip handle 7fe: u32 divisor 1");
    EXPECT_EQ(text(Verb::remove, U32Table{1, 256, {10, any_protocol}}),
              "tc filter del dev virbr7 parent 1: pref 10 protocol all handle 1: u32");
    const U32Match match{{1, 0xcc, 2}, address, {3}};
    EXPECT_EQ(text(Verb::add, match),
              "tc filter add dev virbr7 parent 1: pref 10 protocol all handle 1:cc:2 u32 match u32 0x00005254 "
              "0x0000ffff at -16 match u32 0x00aabbcc 0xffffffff at -12 flowid 1:3");
    EXPECT_EQ(text(Verb::add, match, MacKey::source),
              "tc filter add dev virbr7 parent 1: pref 10 protocol all handle 1:cc:2 u32 match u32 0x525400aa "
              "0xffffffff at -8 match u32 0xbbcc0000 0xffff0000 at -4 flowid 1:3");
    EXPECT_EQ(text(Verb::remove, match), "tc filter del dev virbr7 parent 1: pref 10 protocol all handle 1:cc:2 u32");
    EXPECT_EQ(text(Verb::add, U32Link{{0, 0, 1}, 1, 5}), "tc filter add dev virbr7 parent 1: pref 10 protocol all "
                                                         "handle 0:0:1 u32 link 1: hashkey mask 0x000000ff at -12");
    EXPECT_EQ(text(Verb::remove, U32Link{{0, 0, 1}, 1, 5}),
              "tc filter del dev virbr7 parent 1: pref 10 protocol all handle 0:0:1 u32");
    EXPECT_EQ(text(Verb::remove, OtherFilter{{1, any_protocol}, {'f', 'w'}, 0x1f}),
              "tc filter del dev virbr7 parent 1: pref 1 protocol all handle 0x1f fw");
    EXPECT_EQ(text(Verb::add, dhcp), "tc filter add dev virbr7 parent 1: pref 2 protocol ip handle 800:0:800 u32 "
                                     "selector 01020304 action csum 11");
    EXPECT_EQ(text(Verb::add, qemus), "tc filter add dev virbr7 parent 1: pref 2 protocol ip handle 0:0:3 u32 "
                                      "selector 01020304 flowid 1:3");
    EXPECT_EQ(text(Verb::remove, dhcp), "tc filter del dev virbr7 parent 1: pref 2 protocol ip handle 800:0:800 u32");
}

TEST(Name, OfEachLeaf)
{
    EXPECT_STREQ(name(Leaf::fq_codel), "fq_codel");
    EXPECT_STREQ(name(Leaf::sfq), "sfq");
    EXPECT_STREQ(name(Leaf::pfifo), "pfifo");
}

} // namespace
} // namespace virfloor::tc
