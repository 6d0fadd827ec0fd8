// SPDX-License-Identifier: LGPL-2.1-or-later
#include "reader.h"

#include "fake_kernel.h"
#include "support.h"
#include "translator.h"
#include "virfloor/counters.h"
#include "virfloor/device_tree.h"

#include <arpa/inet.h>
#include <linux/gen_stats.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/tc_act/tc_csum.h>

#include <cstring>

namespace virfloor::tc {
namespace {

using namespace std::chrono_literals;
using test::Builder;
using test::Datagram;
using test::FakeKernel;
using test::mac;

// A dump put together by hand: what is not from our fake's own mind.
class CannedDump : public testing::Test {
protected:
    CannedDump()
    {
        kernel_.answer = [this](const nlmsghdr& request) {
            for (const auto& make : canned_[request.nlmsg_type])
                kernel_.queue.push_back(make(request.nlmsg_seq));
            kernel_.queue.push_back(Builder(NLMSG_DONE, NLM_F_MULTI, request.nlmsg_seq).put(0).get());
            return true;
        };
    }
    using Fill = std::function<void(Builder&)>;
    void add(std::uint16_t type, std::uint32_t parent, std::uint32_t handle, std::uint32_t info, const Fill& fill,
             int ifindex = FakeKernel::ifindex)
    {
        canned_[type == RTM_NEWQDISC    ? RTM_GETQDISC
                : type == RTM_NEWTCLASS ? RTM_GETTCLASS
                                        : RTM_GETTFILTER]
            .push_back([=](std::uint32_t sequence) {
                tcmsg header{};
                header.tcm_ifindex = ifindex;
                header.tcm_parent = parent;
                header.tcm_handle = handle;
                header.tcm_info = info;
                Builder built(type, NLM_F_MULTI, sequence);
                built.put(header);
                fill(built);
                return built.get();
            });
    }
    static Fill nothing(const std::string& kind)
    {
        return [=](Builder& built) { built.attribute(TCA_KIND, kind); };
    }
    static Fill options(const std::string& kind, const Fill& inside)
    {
        return [=](Builder& built) {
            built.attribute(TCA_KIND, kind);
            const auto nest = built.begin(TCA_OPTIONS);
            inside(built);
            built.end(nest);
        };
    }
    void add_root(std::uint32_t default_class = 2)
    {
        add(RTM_NEWQDISC, TC_H_ROOT, 0x10000, 0, options("htb", [=](Builder& built) {
                tc_htb_glob glob{};
                glob.defcls = default_class;
                built.attribute(TCA_HTB_INIT, &glob, sizeof glob);
            }));
    }
    void add_class(std::uint32_t handle, std::uint32_t parent = 0x10001, std::uint32_t rate = 1000)
    {
        add(RTM_NEWTCLASS, parent, handle, 0, options("htb", [=](Builder& built) {
                tc_htb_opt parameters{};
                parameters.rate.rate = rate;
                parameters.ceil.rate = 5000;
                parameters.buffer = 1;
                parameters.cbuffer = 2;
                parameters.quantum = 3;
                built.attribute(TCA_HTB_PARMS, &parameters, sizeof parameters);
            }));
    }
    static std::uint32_t at(unsigned preference, unsigned protocol = ETH_P_ALL)
    {
        return preference << 16 | htons(protocol);
    }
    void add_node(std::uint32_t handle, const Fill& inside, unsigned preference = 10, unsigned protocol = ETH_P_ALL)
    {
        add(RTM_NEWTFILTER, 0x10000, handle, at(preference, protocol), options("u32", inside));
    }
    static Datagram selector(const std::vector<tc_u32_key>& keys, int hoff = 0, std::uint32_t hmask = 0,
                             int claimed = -1)
    {
        tc_u32_sel head{};
        head.nkeys = static_cast<unsigned char>(claimed < 0 ? static_cast<int>(keys.size()) : claimed);
        head.hoff = static_cast<short>(hoff);
        head.hmask = htonl(hmask);
        Datagram bytes(sizeof head + keys.size() * sizeof(tc_u32_key));
        std::memcpy(bytes.data(), &head, sizeof head);
        if (!keys.empty())
            std::memcpy(bytes.data() + sizeof head, keys.data(), keys.size() * sizeof(tc_u32_key));
        return bytes;
    }
    static tc_u32_key key(int offset, std::uint32_t mask, std::uint32_t value, int offset_mask = 0)
    {
        return {htonl(mask), htonl(value), offset, offset_mask};
    }
    static Fill match(const Datagram& selector, std::optional<std::uint32_t> target = 0x10003)
    {
        return [=](Builder& built) {
            built.attribute(TCA_U32_SEL, selector.data(), selector.size());
            if (target)
                built.number(TCA_U32_CLASSID, *target);
        };
    }
    Picture read(MacKey key = MacKey::destination)
    {
        Netlink netlink(50ms);
        return read_picture(netlink, FakeKernel::ifindex, key);
    }

    const std::vector<tc_u32_key> whole_{key(-16, 0xffff, 0x5254), key(-12, 0xffffffff, 0x00aabbcc)};
    FakeKernel kernel_;

private:
    std::map<int, std::vector<std::function<Datagram(std::uint32_t)>>> canned_;
};

TEST_F(CannedDump, OfAnEmptyDevice)
{
    const auto picture = read();
    EXPECT_TRUE(picture.qdiscs.empty());
    EXPECT_TRUE(picture.classes.empty());
}

TEST_F(CannedDump, ReadsQdiscsAndClasses)
{
    add_root();
    add(RTM_NEWQDISC, 0x10003, 0x30000, 0, nothing("fq_codel"));
    add(RTM_NEWQDISC, 0x10004, 0x40000, 0, nothing("sfq"));
    add(RTM_NEWQDISC, 0x10005, 0x50000, 0, nothing("netem"));
    add(RTM_NEWQDISC, 0x10006, 0x60000, 0, nothing("pfifo"));
    add_class(0x10001, TC_H_ROOT);
    for (std::uint32_t i = 2; i < 7; ++i)
        add_class(0x10000 | i);
    const auto picture = read();
    EXPECT_EQ(picture.qdiscs.at(TC_H_ROOT).default_class, 2u);
    ASSERT_EQ(picture.classes.size(), 6u);
    const auto& root = picture.classes.at(root_class);
    EXPECT_TRUE(root.inner);
    EXPECT_FALSE(root.parent);
    EXPECT_EQ(root.shape, (Shape{{1000}, {5000}, {1}, {2}, 3}));
    EXPECT_EQ(picture.classes.at({2}).leaf, Leaf::pfifo);
    EXPECT_EQ(picture.classes.at({3}).leaf, Leaf::fq_codel);
    EXPECT_EQ(picture.classes.at({4}).leaf, Leaf::sfq);
    EXPECT_EQ(picture.classes.at({5}).leaf, std::nullopt);
    EXPECT_EQ(picture.classes.at({6}).leaf, std::nullopt);
    EXPECT_EQ(picture.classes.at({5}).parent, root_class);
    EXPECT_FALSE(picture.classes.at({5}).inner);
}

TEST_F(CannedDump, ReadsRatesOf64Bits)
{
    add_root();
    add(RTM_NEWTCLASS, TC_H_ROOT, 0x10001, 0, options("htb", [](Builder& built) {
            tc_htb_opt parameters{};
            parameters.rate.rate = parameters.ceil.rate = UINT32_MAX;
            built.attribute(TCA_HTB_PARMS, &parameters, sizeof parameters);
            built.number64(TCA_HTB_RATE64, 12'500'000'000).number64(TCA_HTB_CEIL64, 25'000'000'000);
        }));
    const auto picture = read();
    EXPECT_EQ(picture.classes.at(root_class).shape.rate.count, 12'500'000'000u);
    EXPECT_EQ(picture.classes.at(root_class).shape.ceil.count, 25'000'000'000u);
}

TEST_F(CannedDump, PassesOverOtherDevicesAndQdiscs)
{
    add(RTM_NEWQDISC, TC_H_ROOT, 0x10000, 0, nothing("htb"), 99);
    EXPECT_TRUE(read().qdiscs.empty());
    add(RTM_NEWQDISC, TC_H_ROOT, 0x20000, 0, nothing("htb"));
    add_class(0x10001);
    EXPECT_TRUE(read().classes.empty());
}

TEST_F(CannedDump, PassesOverHostileQdiscs)
{
    add(RTM_NEWQDISC, TC_H_ROOT, 0x10000, 0, [](Builder&) {});                                     // no kind
    add(RTM_NEWQDISC, TC_H_ROOT, 0x10000, 0, [](Builder& b) { b.attribute(TCA_KIND, "htb", 3); }); // no NUL
    add(RTM_NEWQDISC, TC_H_ROOT, 0x10000, 0, [](Builder& b) { b.put(nlattr{200, TCA_KIND}); });
    EXPECT_TRUE(read().qdiscs.empty());
    add(RTM_NEWQDISC, TC_H_ROOT, 0x10000, 0, options("htb", [](Builder& b) { b.number(TCA_HTB_INIT, 2); })); // short
    EXPECT_EQ(read().qdiscs.at(TC_H_ROOT).default_class, 0u);
    add(RTM_NEWQDISC, TC_H_ROOT, 0x10000, 0, [](Builder& b) {
        b.attribute(TCA_KIND, std::string("htb"));
        b.attribute(TCA_OPTIONS, "\xff\xff\x02", 3);
    });
    EXPECT_EQ(read().qdiscs.at(TC_H_ROOT).default_class, 0u);
}

TEST_F(CannedDump, PassesOverHostileClasses)
{
    add_root();
    add(RTM_NEWTCLASS, 0x10001, 0x10003, 0, nothing("htb"));
    add(RTM_NEWTCLASS, 0x10001, 0x10003, 0, options("htb", [](Builder& b) { b.number(TCA_HTB_PARMS, 5); }));
    add(RTM_NEWTCLASS, 0x10001, 0x10003, 0, options("htb", [](Builder&) {}));
    add_class(0x20003);
    add_class(0x10000);
    EXPECT_TRUE(read().classes.empty());
}

TEST_F(CannedDump, ReadsOurFilters)
{
    add_root();
    add(RTM_NEWTFILTER, 0x10000, 0, at(10), nothing("u32"));
    add_node(0x80100000, [](Builder& b) { b.number(TCA_U32_DIVISOR, 1); });
    add_node(0x00100000, [](Builder& b) { b.number(TCA_U32_DIVISOR, 256); });
    add_node(0x80100001, [](Builder& b) {
        const auto bytes = selector({}, -12, 0xff);
        b.attribute(TCA_U32_SEL, bytes.data(), bytes.size()).number(TCA_U32_LINK, 0x00100000);
    });
    add_node(0x001cc002, match(selector(whole_)));
    const auto picture = read();
    EXPECT_TRUE(picture.has_our_preference);
    EXPECT_FALSE(picture.libvirt_protocol);
    EXPECT_EQ(picture.our_root_table, 0x801);
    EXPECT_EQ(picture.ours.tables, (std::map<std::uint16_t, unsigned>{{1, 256}}));
    ASSERT_EQ(picture.ours.links.size(), 1u);
    EXPECT_EQ(picture.ours.links[0].byte, 5u);
    EXPECT_EQ(picture.ours.links[0].to, 1);
    ASSERT_EQ(picture.ours.matches.size(), 1u);
    EXPECT_EQ(picture.ours.matches[0], (U32Match{{1, 0xcc, 2}, mac("52:54:00:aa:bb:cc"), {3}}));
    EXPECT_FALSE(picture.ours.strange);
    EXPECT_EQ(picture.tables, (std::set<std::uint16_t>{1, 0x801}));
}

TEST_F(CannedDump, ReadsSourceAddresses)
{
    add_root();
    add_node(0x001bc002, match(selector({key(-8, 0xffffffff, 0x525400aa), key(-4, 0xffff0000, 0xbbcc0000)})));
    EXPECT_EQ(read(MacKey::source).ours.matches.at(0).mac, mac("52:54:00:aa:bb:cc"));
}

TEST_F(CannedDump, CallsOtherNodesOfOursStrange)
{
    const auto hash = [](int offset, std::uint32_t mask, bool with_key) -> Fill {
        return [=](Builder& b) {
            const auto bytes = with_key ? selector({key(0, 1, 1)}, offset, mask) : selector({}, offset, mask);
            b.attribute(TCA_U32_SEL, bytes.data(), bytes.size()).number(TCA_U32_LINK, 0x00100000);
        };
    };
    const std::vector<Fill> strange{
        [](Builder&) {},                                                           // nothing
        match(selector(whole_), {}),                                               // no class
        match(selector(whole_), 0x20003),                                          // another qdisc's
        match(selector({})),                                                       // no keys
        match(selector({whole_[0]})),                                              // half an address
        match(selector({whole_[0], whole_[1], key(0, 0xff, 1)})),                  // more than it
        match(selector({key(-16, 0xffff, 0x5254), key(-12, 0xffffff, 0xaabbcc)})), // a mask too small
        match(selector({key(-16, 0xffff, 0x5254, 5), whole_[1]})),                 // an offset mask
        match(selector({key(16, 0xffff, 0x5254), whole_[1]})),                     // another offset
        match(selector(whole_, 0, 0, 200)),                                        // keys that are not there
        match(Datagram(5)),                                                        // short
        hash(-12, 0xff, true),
        hash(-11, 0xff, false),
        hash(-12, 0xfff, false),
    };
    for (std::size_t i = 0; i < strange.size(); ++i) {
        SCOPED_TRACE(i);
        test::FakeKernel::current = &kernel_;
        add_root();
        add_node(0x001cc002, strange[i]);
        EXPECT_TRUE(read().ours.strange);
    }
}

TEST_F(CannedDump, CallsAnotherKindInOurPreferenceStrange)
{
    add_root();
    add(RTM_NEWTFILTER, 0x10000, 1, at(10), options("fw", [](Builder& b) { b.number(TCA_FW_CLASSID, 0x10003); }));
    EXPECT_TRUE(read().ours.strange);
}

TEST_F(CannedDump, CallsAnotherProtocolInOurPreferenceStrange)
{
    add_root();
    add_node(0x001cc002, match(selector(whole_)), 10, ETH_P_IP);
    EXPECT_TRUE(read().ours.strange);
}

TEST_F(CannedDump, SeesOthersPreferencesOfU32ThoughTheyAreEmpty)
{
    add_root();
    add(RTM_NEWTFILTER, 0x10000, 0, at(2, ETH_P_IP), nothing("u32"));
    add(RTM_NEWTFILTER, 0x10000, 0, at(10), nothing("u32"));
    add(RTM_NEWTFILTER, 0x10000, 0, at(7), nothing("matchall"));
    EXPECT_FALSE(read().has_other_u32);
    add(RTM_NEWTFILTER, 0x10000, 0, at(100, ETH_P_IP), nothing("u32"));
    EXPECT_TRUE(read().has_other_u32);
}

TEST_F(CannedDump, ReadsFiltersOfOthers)
{
    add_root();
    add(RTM_NEWTFILTER, 0x10000, 1, at(1), options("fw", [](Builder& b) { b.number(TCA_FW_CLASSID, 0x10001); }));
    add(RTM_NEWTFILTER, 0x10000, 0, at(2, ETH_P_IP), nothing("u32"));
    add_node(
        0x80000000, [](Builder& b) { b.number(TCA_U32_DIVISOR, 1); }, 2, ETH_P_IP);
    add_node(0x80000005, match(selector(whole_), 0x10005), 2, ETH_P_IP);
    add_node(0x80000006, match(selector({whole_[1]}), 0x20005), 2, ETH_P_IP);
    add(RTM_NEWTFILTER, 0x10000, 1, at(7), options("bpf", [](Builder& b) { b.number(TCA_BPF_CLASSID, 0x10007); }));
    add(RTM_NEWTFILTER, 0x10000, 1, at(8), nothing("matchall"));
    const auto picture = read();
    EXPECT_EQ(picture.libvirt_protocol, ETH_P_IP);
    EXPECT_FALSE(picture.has_reservation);
    EXPECT_FALSE(picture.has_our_preference);
    EXPECT_EQ(picture.foreign, (std::vector<ForeignFilter>{
                                   {1, ETH_P_ALL, 1, "fw", ClassId{1}, {}},
                                   {2, ETH_P_IP, 0x80000005, "u32", ClassId{5}, mac("52:54:00:aa:bb:cc")},
                                   {2, ETH_P_IP, 0x80000006, "u32", {}, {}},
                                   {7, ETH_P_ALL, 1, "bpf", ClassId{7}, {}},
                                   {8, ETH_P_ALL, 1, "matchall", {}, {}},
                               }));
}

using Fill = std::function<void(Builder&)>;

// A filter with actions at libvirt's preference. Each action is its attributes.
Fill with_actions(const Datagram& selector, const std::vector<Fill>& actions)
{
    return [=](Builder& built) {
        built.attribute(TCA_U32_SEL, selector.data(), selector.size());
        const auto nest = built.begin(TCA_U32_ACT);
        for (std::size_t i = 0; i < actions.size(); ++i) {
            const auto action = built.begin(static_cast<unsigned>(i + 1));
            actions[i](built);
            built.end(action);
        }
        built.end(nest);
    };
}

void csum(Builder& built, std::size_t size = sizeof(tc_csum), const std::string& kind = "csum")
{
    tc_csum parameters{};
    parameters.index = 5;
    parameters.action = TC_ACT_OK;
    parameters.update_flags = TCA_CSUM_UPDATE_FLAG_UDP;
    built.attribute(TCA_ACT_KIND, kind);
    const auto options = built.begin(TCA_ACT_OPTIONS | NLA_F_NESTED);
    built.attribute(TCA_CSUM_PARMS, &parameters, size).end(options);
}

TEST_F(CannedDump, KnowsWhatLibvirtsFiltersAreMadeOf)
{
    const auto body = selector({key(20, 0xffff, 68)});
    add_root();
    add_node(
        0x80200000, [](Builder& b) { b.number(TCA_U32_DIVISOR, 1); }, 2, ETH_P_IP);
    add_node(0x80200800, with_actions(body, {[](Builder& b) { csum(b); }}), 2, ETH_P_IP);
    add_node(0x80200801, match(body, 0x10005), 2, ETH_P_IP);
    const auto picture = read();
    const Preference place{2, ip_protocol};
    EXPECT_EQ(picture.libvirt_root_table, 0x802);
    EXPECT_EQ(picture.libvirts,
              (std::vector<LibvirtFilter>{
                  {{0x802, 0, 0x800}, place, body, {}, LibvirtFilter::Checksum{TCA_CSUM_UPDATE_FLAG_UDP, TC_ACT_OK}},
                  {{0x802, 0, 0x801}, place, body, 0x10005, {}},
              }));
}

TEST_F(CannedDump, KnowsNothingOfFiltersWithMore)
{
    const auto body = selector({key(20, 0xffff, 68)});
    const auto plain = [](Builder& b) { csum(b); };
    add_root();
    const auto expect_unknown = [this](const Fill& fill, std::uint32_t handle = 0x80200800) {
        add_node(handle, fill, 2, ETH_P_IP);
        EXPECT_TRUE(read().libvirts.empty());
        EXPECT_FALSE(read().foreign.empty());
    };
    const auto expect_unknown_beside = [&](unsigned attribute, std::uint32_t value) {
        expect_unknown([=](Builder& b) { match(body)(b), b.number(attribute, value); });
    };
    expect_unknown(with_actions(body, {plain, plain}));
    expect_unknown(with_actions(body, {[](Builder&) {}}));
    expect_unknown(with_actions(body, {}));
    expect_unknown(with_actions(body, {[](Builder& b) { csum(b, sizeof(tc_csum), "gact"); }}));
    expect_unknown(with_actions(body, {[](Builder& b) { csum(b, sizeof(tc_csum) - 1); }}));
    expect_unknown(with_actions(body, {[](Builder& b) { b.attribute(TCA_ACT_KIND, "csum"); }}));
    expect_unknown(with_actions(body, {[](Builder& b) { csum(b), b.number(TCA_ACT_COOKIE, 1); }}));
    expect_unknown([&](Builder& b) { match(body)(b), b.number(TCA_U32_ACT, 0xffffffff); });
    expect_unknown_beside(TCA_U32_MARK, 1);
    expect_unknown_beside(TCA_U32_LINK, 0x100000);
    expect_unknown_beside(TCA_U32_FLAGS, TCA_CLS_FLAGS_SKIP_HW);
    expect_unknown(match(selector({key(20, 0xffff, 68)}, 0, 0, 2))); // shorter than it says
    expect_unknown(match(selector(std::vector(LibvirtFilter::most_keys + 1, key(20, 0xffff, 68)))));
    expect_unknown(match(body), 0x00100001); // in a table of its own
}

TEST_F(CannedDump, SeesTheReservation)
{
    add_root();
    add(RTM_NEWTFILTER, 0x10000, 0, at(2, ETH_P_IP), nothing("u32"));
    add_node(
        0x7fe00000, [](Builder& b) { b.number(TCA_U32_DIVISOR, 1); }, 2, ETH_P_IP);
    const auto picture = read();
    EXPECT_TRUE(picture.has_reservation);
    EXPECT_TRUE(picture.foreign.empty());
    EXPECT_EQ(picture.tables, (std::set<std::uint16_t>{0x7fe}));
}

// --- what a picture means

QdiscSeen htb(std::uint32_t handle = root_qdisc, std::uint32_t default_class = 2)
{
    return {"htb", handle, default_class};
}

TEST(TranslatorLoad, KnowsAForeignRoot)
{
    for (const QdiscSeen& root : {htb(0x20000), htb(root_qdisc, 5), QdiscSeen{"fq_codel", root_qdisc, 0}}) {
        Picture picture;
        picture.qdiscs[TC_H_ROOT] = root;
        Translator translator;
        EXPECT_FALSE(translator.load(picture).root);
        const auto requests = translator.translate(AddRoot{});
        ASSERT_EQ(requests.size(), 2u);
        EXPECT_EQ(requests[0].request, (Request{Verb::remove, RootQdisc{}}));
        EXPECT_EQ(translator.translate(AddRoot{}).size(), 1u);
    }
    Picture standard;
    standard.qdiscs[TC_H_ROOT] = {"noqueue", 0, 0};
    Translator translator;
    EXPECT_FALSE(translator.load(standard).root);
    EXPECT_EQ(translator.translate(AddRoot{}).size(), 1u);
}

TEST(TranslatorLoad, TakesTheLeafOfTheCatchment)
{
    Picture picture;
    picture.qdiscs[TC_H_ROOT] = htb();
    picture.classes[catchment_class] = {
        .id = catchment_class, .parent = root_class, .shape = {}, .inner = false, .leaf = Leaf::sfq};
    picture.our_nodes = {0x80100001};
    Translator translator;
    EXPECT_EQ(translator.load(picture).leaf, Leaf::sfq);
    EXPECT_EQ(translator.leaf(), Leaf::sfq);
}

TEST(TranslatorLoad, AsksAgainWhereTheTreeIsTheStockDrivers)
{
    Picture picture;
    picture.qdiscs[TC_H_ROOT] = htb();
    auto& leaf = picture.classes[catchment_class].leaf;
    leaf = Leaf::sfq;
    Translator translator;
    translator.load(picture);
    EXPECT_FALSE(translator.leaf());
    leaf = Leaf::fq_codel;
    translator.load(picture);
    EXPECT_EQ(translator.leaf(), Leaf::fq_codel);
    picture.qdiscs.clear();
    translator.load(picture);
    EXPECT_FALSE(translator.leaf());
}

TEST(TranslatorLoad, MakesFiltersAnewWhereLibvirtsPreferenceIsGone)
{
    Picture picture;
    picture.qdiscs[TC_H_ROOT] = htb();
    picture.has_our_preference = true;
    picture.our_root_table = 0x800;
    picture.ours.tables[1] = 256;
    picture.ours.links.push_back({{0x800, 0, 1}, 1, 5});
    picture.tables = {1, 0x800};
    Translator translator;
    EXPECT_FALSE(translator.load(picture).filters);
    const auto requests = translator.translate(AddFilters{});
    ASSERT_EQ(requests.size(), 4u);
    EXPECT_EQ(requests[0].request, (Request{Verb::remove, Preference{our_preference, any_protocol}}));
    EXPECT_EQ(requests[1].request,
              (Request{Verb::add, U32Table{reserved_table, 1, {libvirt_preference, ip_protocol}}}));
    EXPECT_EQ(std::get<U32Table>(requests[2].request.object).id, 1);
    EXPECT_EQ(std::get<U32Link>(requests[3].request.object).to, 1);
}

TEST(TranslatorLoad, KeepsTheReservationWhereOthersHaveAnEmptyPreference)
{
    Picture picture;
    picture.qdiscs[TC_H_ROOT] = htb();
    picture.libvirt_protocol = ip_protocol;
    picture.has_reservation = picture.has_other_u32 = true;
    picture.tables = {reserved_table, 0x800, 0x802};
    Translator translator;
    EXPECT_FALSE(translator.load(picture).filters);
    for (const auto& [request, undo] : translator.translate(AddFilters{}))
        EXPECT_EQ(request.verb, Verb::add);
}

TEST(TranslatorLoad, LeavesLibvirtsFiltersInPlace)
{
    Picture picture;
    picture.qdiscs[TC_H_ROOT] = htb();
    picture.libvirt_protocol = ip_protocol;
    picture.foreign.push_back({libvirt_preference, ip_protocol, 0x80000800, "u32", ClassId{3}, {}});
    picture.tables = {1, 0x800};
    Translator translator;
    EXPECT_FALSE(translator.load(picture).filters);
    const auto requests = translator.translate(AddFilters{});
    ASSERT_EQ(requests.size(), 3u);
    // The reservation joins them.
    EXPECT_EQ(requests[0].request,
              (Request{Verb::add, U32Table{reserved_table, 1, {libvirt_preference, ip_protocol}}}));
    EXPECT_EQ(std::get<U32Table>(requests[1].request.object).id, 2); // 1 is somebody's
}

TEST_F(CannedDump, counters_of_a_class_are_its_own_and_the_drops_its_queues)
{
    const auto statistics = [](std::uint64_t sent, std::uint32_t packets, std::uint32_t drops) {
        return [=](Builder& built) {
            const auto nest = built.begin(TCA_STATS2);
            Datagram basic(12);
            std::memcpy(basic.data(), &sent, sizeof sent);
            std::memcpy(basic.data() + sizeof sent, &packets, sizeof packets);
            built.attribute(TCA_STATS_BASIC, basic.data(), basic.size());
            gnet_stats_queue queue{};
            queue.qlen = 2;
            queue.backlog = 3000;
            queue.drops = drops;
            built.attribute(TCA_STATS_QUEUE, &queue, sizeof queue);
            built.end(nest);
        };
    };
    add(RTM_NEWTCLASS, 0x10001, 0x10003, 0, [=](Builder& built) {
        built.attribute(TCA_KIND, std::string("htb"));
        const auto nest = built.begin(TCA_OPTIONS);
        tc_htb_opt parameters{};
        parameters.rate.rate = 1000;
        parameters.ceil.rate = UINT32_MAX;
        built.attribute(TCA_HTB_PARMS, &parameters, sizeof parameters);
        built.number64(TCA_HTB_CEIL64, 5'000'000'000);
        built.end(nest);
        statistics(400'000, 300, 5)(built);
    });
    add_class(0x10004);
    add(RTM_NEWQDISC, 0x10003, 0x80010000, 0, [=](Builder& built) {
        built.attribute(TCA_KIND, std::string("fq_codel"));
        statistics(1, 1, 7)(built);
    });

    const auto netlink = open_netlink();
    const Sample sample = read_counters(*netlink, FakeKernel::ifindex);

    ASSERT_EQ(sample.classes.size(), 2U);
    EXPECT_EQ(sample.classes.at(ClassId{3}), (Counters{.rate = BytesPerSecond{1000},
                                                       .ceil = BytesPerSecond{5'000'000'000},
                                                       .sent = Bytes{400'000},
                                                       .packets = 300,
                                                       .drops = 7,
                                                       .backlog = Bytes{3000},
                                                       .queued = 2}));
    EXPECT_EQ(sample.classes.at(ClassId{4}).rate, BytesPerSecond{1000});
    EXPECT_EQ(sample.classes.at(ClassId{4}).ceil, BytesPerSecond{5000});
}

} // namespace
} // namespace virfloor::tc
