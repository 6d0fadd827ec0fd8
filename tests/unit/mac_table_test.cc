// SPDX-License-Identifier: LGPL-2.1-or-later
#include "mac_table.h"

#include "support.h"

#include <algorithm>
#include <map>

namespace virfloor::tc {
namespace {

using test::mac;

// u32_classify of net/sched/cls_u32.c, over what the requests have made.
class Software {
public:
    void apply(const std::vector<Reversible>& requests)
    {
        for (const auto& request : requests) {
            apply(request.request);
            done.push_back(request);
        }
    }

    void apply(const Request& request)
    {
        std::visit([&](const auto& object) { carry_out(request.verb, object); }, request.object);
    }

    // Takes the requests back in reverse.
    void undo(const std::vector<Reversible>& requests)
    {
        for (auto at = requests.rbegin(); at != requests.rend(); ++at)
            for (const auto& request : at->undo)
                apply(request);
    }

    std::optional<ClassId> classify(MacAddress address)
    {
        depth = matched = 0;
        return walk(0, 0, address);
    }

    // As a dump of the kernel shows it: links in the root have the number of the root table.
    MacTable::Dump dump() const
    {
        MacTable::Dump result;
        for (const auto& [id, size] : tables)
            if (id != 0)
                result.tables[id] = size;
        for (const auto& [handle, match] : matches)
            result.matches.push_back(match);
        for (const auto& [handle, link] : links)
            result.links.push_back({handle.table ? handle : U32Handle{0x801, 0, handle.node}, link.to, link.byte});
        return result;
    }

    std::map<std::uint16_t, unsigned> tables{{0, 1}};
    std::map<U32Handle, U32Match> matches;
    std::map<U32Handle, U32Link> links;
    std::vector<Reversible> done;
    unsigned depth = 0, matched = 0;

private:
    std::optional<ClassId> walk(std::uint16_t table, std::uint8_t bucket, MacAddress address)
    {
        // Nodes of a bucket in the order of their handles.
        const U32Handle first{table, bucket, 0}, last{table, bucket, 0xfff};
        for (auto at = matches.lower_bound(first); at != matches.end() && at->first <= last; ++at) {
            ++matched;
            if (at->second.mac == address)
                return at->second.target;
        }
        for (auto at = links.lower_bound(first); at != links.end() && at->first <= last; ++at) {
            ++depth;
            if (const auto found = walk(at->second.to, address.bytes[at->second.byte], address))
                return found;
        }
        return {};
    }
    bool linked(std::uint16_t table) const
    {
        return std::any_of(links.begin(), links.end(), [=](const auto& at) { return at.second.to == table; });
    }
    void carry_out(Verb verb, const U32Table& table)
    {
        if (verb == Verb::add) {
            EXPECT_TRUE(tables.emplace(table.id, table.buckets).second) << "table is there";
            EXPECT_LT(table.id, 0x7fe);
            EXPECT_GT(table.id, 0);
        } else {
            EXPECT_FALSE(linked(table.id));
            EXPECT_EQ(tables.erase(table.id), 1u);
        }
    }
    void carry_out(Verb verb, const U32Match& match)
    {
        if (verb == Verb::add) {
            EXPECT_TRUE(tables.contains(match.handle.table));
            EXPECT_FALSE(links.contains(match.handle));
            EXPECT_TRUE(matches.emplace(match.handle, match).second) << "node is there";
            EXPECT_TRUE(match.handle.node > 0 && match.handle.node < 0x800);
        } else {
            const auto at = matches.find(match.handle);
            ASSERT_NE(at, matches.end());
            EXPECT_EQ(at->second, match);
            matches.erase(at);
        }
    }
    void carry_out(Verb verb, const U32Link& link)
    {
        if (verb == Verb::add) {
            EXPECT_TRUE(tables.contains(link.handle.table) && tables.contains(link.to));
            EXPECT_FALSE(linked(link.to));
            EXPECT_FALSE(matches.contains(link.handle));
            EXPECT_TRUE(links.emplace(link.handle, link).second);
        } else {
            EXPECT_EQ(links.erase(link.handle), 1u);
        }
    }
    void carry_out(Verb verb, const Preference&)
    {
        EXPECT_EQ(verb, Verb::remove);
        *this = {};
    }
    template <class Other>
    void carry_out(Verb, const Other&)
    {
        ADD_FAILURE() << "a table asks for filters alone";
    }
};

// All tables of the qdisc are those of the dump.
bool load(MacTable& table, const MacTable::Dump& dump)
{
    std::set<std::uint16_t> numbers;
    for (const auto& [id, buckets] : dump.tables)
        numbers.insert(id);
    return table.load(dump, numbers);
}

class MacTables : public testing::Test {
protected:
    MacTables() { kernel_.apply(table_.create(false)); }

    void insert(MacAddress address, std::uint16_t target)
    {
        wanted_[address] = {target};
        kernel_.apply(table_.insert(address, {target}));
    }
    void erase(MacAddress address)
    {
        wanted_.erase(address);
        kernel_.apply(table_.erase(address));
    }
    void expect_found(MacAddress address)
    {
        const auto at = wanted_.find(address);
        ASSERT_EQ(kernel_.classify(address), at == wanted_.end() ? std::nullopt : std::optional(at->second))
            << address.text();
        ASSERT_LE(kernel_.depth, 8u);
        ASSERT_LE(kernel_.matched, 8u);
    }
    void expect_sound()
    {
        ASSERT_EQ(table_.steering(), wanted_);
        ASSERT_EQ(kernel_.matches.size(), wanted_.size());
        for (const auto& [address, target] : wanted_) {
            expect_found(address);
            for (unsigned byte = 0; byte < 6; ++byte) {
                MacAddress other = address;
                other.bytes[byte] ^= 1;
                expect_found(other);
            }
            if (HasFatalFailure())
                return;
        }
        MacTable loaded;
        ASSERT_TRUE(load(loaded, kernel_.dump()));
        ASSERT_EQ(loaded.steering(), wanted_);
    }
    void expect_holds(const std::vector<MacAddress>& addresses)
    {
        std::uint16_t target = 3;
        for (const auto& address : addresses)
            insert(address, target++);
        expect_sound();
        // Out again in another order.
        auto order = addresses;
        std::shuffle(order.begin(), order.end(), random_);
        for (std::size_t i = 0; i < order.size(); ++i) {
            erase(order[i]);
            if (i % 1024 == 100)
                expect_sound();
            if (HasFatalFailure())
                return;
        }
        expect_sound();
        EXPECT_EQ(kernel_.links.size(), 1u);
        for (const auto& request : table_.reclaim()) {
            kernel_.apply(request);
            table_.reclaimed(std::get<U32Table>(request.object).id);
        }
        EXPECT_EQ(kernel_.tables.size(), 2u);
        EXPECT_TRUE(table_.reclaim().empty());
    }
    std::vector<MacAddress> random_addresses(std::size_t count, unsigned first_byte, unsigned choices)
    {
        std::set<MacAddress> addresses;
        while (addresses.size() < count) {
            MacAddress address = mac(0u);
            for (unsigned byte = first_byte; byte < 6; ++byte)
                address.bytes[byte] = static_cast<std::uint8_t>(random_() % choices);
            addresses.insert(address);
        }
        return {addresses.begin(), addresses.end()};
    }

    MacTable table_;
    Software kernel_;
    std::map<MacAddress, ClassId> wanted_;
    std::mt19937 random_{11};
};

TEST_F(MacTables, AnEmptyOneFindsNothing)
{
    EXPECT_EQ(kernel_.done.size(), 2u);
    EXPECT_FALSE(kernel_.classify(mac(1)));
    expect_sound();
}

TEST_F(MacTables, OneAddressTakesOneRequest)
{
    insert(mac(1), 3);
    EXPECT_EQ(kernel_.done.size(), 3u);
    expect_sound();
    erase(mac(1));
    EXPECT_EQ(kernel_.done.size(), 4u);
    expect_sound();
}

TEST_F(MacTables, ABucketIsSplitAtTheNinth)
{
    for (unsigned i = 0; i < 8; ++i)
        insert(mac(i << 8), static_cast<std::uint16_t>(3 + i));
    EXPECT_EQ(kernel_.links.size(), 1u);
    const std::size_t before = kernel_.done.size();
    insert(mac(8 << 8), 11);
    EXPECT_EQ(kernel_.links.size(), 2u);
    // The ninth, a table, nine matches, a link, nine removals.
    EXPECT_EQ(kernel_.done.size() - before, 1u + 1 + 9 + 1 + 9);
    expect_sound();
    // The addresses differ in byte 4 alone.
    EXPECT_EQ(
        std::count_if(kernel_.links.begin(), kernel_.links.end(), [](const auto& at) { return at.second.byte == 4; }),
        1);
}

TEST_F(MacTables, EachAddressIsFoundAllTheTimeOfASplit)
{
    for (unsigned i = 0; i < 8; ++i)
        insert(mac(i << 8), static_cast<std::uint16_t>(3 + i));
    for (const auto& request : table_.insert(mac(8 << 8), {11})) {
        kernel_.apply(request.request);
        for (const auto& [address, target] : wanted_)
            ASSERT_EQ(kernel_.classify(address), target);
    }
}

TEST_F(MacTables, AnEmptiedTableIsUsedAgain)
{
    std::vector<MacAddress> alike;
    for (unsigned i = 0; i < 9; ++i)
        alike.push_back(mac(i << 8));
    for (const auto& address : alike)
        insert(address, 3);
    EXPECT_EQ(kernel_.tables.size(), 3u);
    for (const auto& address : alike)
        erase(address);
    EXPECT_EQ(table_.reclaim().size(), 1u);
    for (const auto& address : alike)
        insert(address, 3);
    EXPECT_EQ(kernel_.tables.size(), 3u);
    EXPECT_TRUE(table_.reclaim().empty());
    expect_sound();
}

TEST_F(MacTables, SequentialAddresses)
{
    std::vector<MacAddress> addresses;
    for (unsigned i = 0; i < 4096; ++i)
        addresses.push_back(mac(i));
    expect_holds(addresses);
}

TEST_F(MacTables, RandomAddresses) { expect_holds(random_addresses(4096, 3, 256)); }
TEST_F(MacTables, AddressesOfAllBytesRandom) { expect_holds(random_addresses(4096, 0, 256)); }
TEST_F(MacTables, AddressesWithFewValuesEach) { expect_holds(random_addresses(4096, 0, 5)); }

TEST_F(MacTables, AddressesThatShareTheirLastByte)
{
    std::vector<MacAddress> addresses;
    for (unsigned i = 0; i < 4096; ++i)
        addresses.push_back(mac(i << 8));
    expect_holds(addresses);
}

TEST_F(MacTables, AddressesThatDifferInTheFirstBytesAlone)
{
    std::vector<MacAddress> addresses;
    for (unsigned i = 0; i < 2048; ++i)
        addresses.push_back({{static_cast<std::uint8_t>(i), static_cast<std::uint8_t>(i >> 8), 0, 0, 0, 0}});
    expect_holds(addresses);
}

// One bit each: no byte separates more than a few.
TEST_F(MacTables, AddressesOfTwoValuesAByte) { expect_holds(random_addresses(64, 0, 2)); }

TEST_F(MacTables, RandomInsertsAndErasures)
{
    const auto pool = random_addresses(600, 2, 6);
    for (int i = 0; i < 4000; ++i) {
        const auto address = pool[random_() % pool.size()];
        if (wanted_.contains(address))
            erase(address);
        else
            insert(address, static_cast<std::uint16_t>(3 + random_() % 1000));
        if (random_() % 5 == 0)
            for (const auto& request : table_.reclaim()) {
                kernel_.apply(request);
                table_.reclaimed(std::get<U32Table>(request.object).id);
            }
        if (i % 200 == 0)
            expect_sound();
        // A restart now and then.
        if (i % 300 == 0) {
            ASSERT_TRUE(load(table_, kernel_.dump()));
        }
        if (HasFatalFailure())
            return;
    }
    expect_sound();
}

TEST_F(MacTables, EachChangeCanBeTakenBack)
{
    const auto pool = random_addresses(300, 2, 5);
    for (int i = 0; i < 600; ++i) {
        const auto address = pool[random_() % pool.size()];
        const auto matches = kernel_.matches;
        const auto links = kernel_.links.size();
        MacTable copy = table_;
        const auto requests = wanted_.contains(address) ? copy.erase(address) : copy.insert(address, {9});
        Software tried = kernel_;
        tried.apply(requests);
        tried.undo(requests);
        ASSERT_EQ(tried.matches, matches);
        ASSERT_EQ(tried.links.size(), links);
        if (wanted_.contains(address))
            erase(address);
        else
            insert(address, 9);
    }
}

TEST_F(MacTables, CreateAvoidsTablesOfOthers)
{
    Software kernel;
    MacTable table;
    kernel.tables[1] = kernel.tables[2] = 1;
    table.load({}, {1, 2});
    const auto requests = table.create(true);
    kernel.apply(requests);
    EXPECT_EQ(std::get<U32Table>(requests.front().request.object).id, 3);
}

TEST_F(MacTables, ErasingWhatIsNotThereIsAnError)
{
    insert(mac(1), 3);
    EXPECT_THROW(table_.erase(mac(0x101)), std::logic_error);
}

TEST_F(MacTables, WhenTablesRunOutChainsGrow)
{
    std::set<std::uint16_t> taken;
    for (std::uint16_t i = 2; i < 0x7fe; ++i)
        taken.insert(i);
    MacTable table;
    Software kernel;
    table.load({}, taken);
    kernel.apply(table.create(true));
    for (unsigned i = 0; i < 100; ++i)
        kernel.apply(table.insert(mac(i << 8), {static_cast<std::uint16_t>(3 + i)}));
    for (unsigned i = 0; i < 100; ++i)
        EXPECT_EQ(kernel.classify(mac(i << 8)), ClassId{static_cast<std::uint16_t>(3 + i)});
    EXPECT_EQ(kernel.links.size(), 1u);
}

TEST_F(MacTables, AFullBucketIsRefused)
{
    std::set<std::uint16_t> taken;
    for (std::uint16_t i = 2; i < 0x7fe; ++i)
        taken.insert(i);
    insert(mac(0x800 << 8), 3);
    MacTable::Dump dump = kernel_.dump();
    for (unsigned i = 1; i < 0x7ff; ++i) {
        dump.matches.push_back(dump.matches.front());
        dump.matches.back().handle.node = static_cast<std::uint16_t>(i + 1);
        dump.matches.back().mac = mac(i << 8);
    }
    MacTable table;
    ASSERT_TRUE(table.load(dump, taken));
    EXPECT_REFUSED(operation_invalid, table.insert(mac(0x7ff << 8), {3}));
}

// --- what is not a state that the class leaves behind

class UnsoundDump : public MacTables {
protected:
    UnsoundDump()
    {
        for (unsigned i = 0; i < 20; ++i)
            insert(mac(i << 8), static_cast<std::uint16_t>(3 + i));
        insert(mac(1), 100);
        dump_ = kernel_.dump();
    }
    void expect_refused()
    {
        MacTable loaded;
        EXPECT_FALSE(load(loaded, dump_));
        EXPECT_TRUE(loaded.steering().empty());
        EXPECT_TRUE(loaded.reclaim().empty());
    }
    MacTable::DumpedLink& root()
    {
        return *std::find_if(dump_.links.begin(), dump_.links.end(),
                             [](const auto& at) { return at.handle.table >= 0x800; });
    }
    MacTable::Dump dump_;
};

TEST_F(UnsoundDump, IsSoundToBeginWith)
{
    MacTable loaded;
    EXPECT_TRUE(load(loaded, dump_));
}
TEST_F(UnsoundDump, Nothing)
{
    dump_ = {};
    expect_refused();
}
TEST_F(UnsoundDump, StrangeNode)
{
    dump_.strange = true;
    expect_refused();
}
TEST_F(UnsoundDump, NoLinkInTheRoot)
{
    std::erase_if(dump_.links, [](const auto& at) { return at.handle.table >= 0x800; });
    expect_refused();
}
TEST_F(UnsoundDump, TwoLinksInTheRoot)
{
    dump_.links.push_back({{0x801, 0, 2}, root().to, 5});
    expect_refused();
}
TEST_F(UnsoundDump, LinkToATableThatIsNotThere)
{
    dump_.tables.erase(root().to);
    expect_refused();
}
TEST_F(UnsoundDump, TableOfAnotherSize)
{
    dump_.tables[root().to] = 16;
    expect_refused();
}
TEST_F(UnsoundDump, LoopOfLinks)
{
    dump_.links.push_back({{root().to, 77, 1}, root().to, 3});
    expect_refused();
}
TEST_F(UnsoundDump, SameByteTwiceOnAWay)
{
    for (auto& link : dump_.links)
        link.byte = 5;
    expect_refused();
}
TEST_F(UnsoundDump, AnotherByteThanTheMatchesStandAt)
{
    root().byte = 3;
    expect_refused();
}
TEST_F(UnsoundDump, MatchInAWrongBucket)
{
    dump_.matches.front().handle.bucket ^= 1;
    expect_refused();
}
TEST_F(UnsoundDump, AddressTwice)
{
    auto again = dump_.matches.front();
    again.handle.node = 0x7f;
    dump_.matches.push_back(again);
    expect_refused();
}
TEST_F(UnsoundDump, MatchBesideALink)
{
    const auto link =
        std::find_if(dump_.links.begin(), dump_.links.end(), [](const auto& at) { return at.handle.table < 0x800; });
    U32Match match{link->handle, mac(0xabcd00), {9}};
    match.handle.node = 0x70;
    dump_.matches.push_back(match);
    expect_refused();
}
TEST_F(UnsoundDump, MatchInTheRoot)
{
    dump_.matches.push_back({{0x801, 0, 5}, mac(0xabcdef), {9}});
    expect_refused();
}
TEST_F(UnsoundDump, MatchInATableThatNoLinkReaches)
{
    dump_.tables[0x99] = 256;
    dump_.matches.push_back({{0x99, 0xef, 5}, mac(0xabcdef), {9}});
    expect_refused();
}
TEST_F(UnsoundDump, LinkFromATableThatNoLinkReaches)
{
    dump_.tables[0x99] = dump_.tables[0x9a] = 256;
    dump_.links.push_back({{0x99, 0, 1}, 0x9a, 0});
    expect_refused();
}

TEST_F(MacTables, ASpareTableOfAnotherSizeIsNotUsedAgain)
{
    auto dump = kernel_.dump();
    dump.tables[5] = 1; // somebody's, of one bucket
    kernel_.tables[5] = 1;
    MacTable loaded;
    ASSERT_TRUE(load(loaded, dump));
    for (unsigned i = 0; i < 9; ++i)
        kernel_.apply(loaded.insert(mac(i << 8), {3}));
    for (const auto& [handle, match] : kernel_.matches)
        EXPECT_NE(handle.table, 5);
}

TEST_F(MacTables, EmptyTablesOfADumpAreSpare)
{
    auto dump = kernel_.dump();
    dump.tables[9] = 256;
    MacTable loaded;
    ASSERT_TRUE(load(loaded, dump));
    ASSERT_EQ(loaded.reclaim().size(), 1u);
    EXPECT_EQ(std::get<U32Table>(loaded.reclaim().front().object).id, 9);
    loaded.reclaimed(9);
    EXPECT_TRUE(loaded.reclaim().empty());
}

} // namespace
} // namespace virfloor::tc
