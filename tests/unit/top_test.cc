// SPDX-License-Identifier: LGPL-2.1-or-later
#include "frame.h"
#include "support.h"
#include "table.h"
#include "top_model.h"

namespace virfloor::tool {
namespace {

using test::mac;
using test::uuid;
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

const auto start = std::chrono::steady_clock::time_point{} + std::chrono::hours(1);

Interface interface(unsigned number, const std::string& domain, std::uint64_t floor)
{
    Interface made{uuid(number), mac(number), domain, "vnet" + std::to_string(number), {}, KilobytesPerSecond{floor}};
    if (floor)
        made.id = ClassId{static_cast<std::uint16_t>(number + 2)};
    return made;
}

// Three guests with floors, and one without, which has the number 4.
NetworkState lab()
{
    return {"lab",
            "virbr0",
            {KilobytesPerSecond{4000}, KilobytesPerSecond{8000}, {}, {}},
            Bytes{1500},
            true,
            {interface(1, "web", 500), interface(2, "db", 1500), interface(3, "Größe", 1000), interface(4, "mail", 0)}};
}

// Of what each class has sent by then, and of the packets that it has dropped, by the number of the class.
tc::Sample sample(int seconds, const std::map<int, std::pair<std::uint64_t, std::uint32_t>>& classes)
{
    tc::Sample made{start + std::chrono::seconds(seconds), {}};
    for (const auto& [id, counted] : classes) {
        tc::Counters& counters = made.classes[ClassId{static_cast<std::uint16_t>(id)}];
        counters.sent = Bytes{counted.first};
        counters.drops = counted.second;
        counters.rate = BytesPerSecond{id == 1 ? 4'000'000u : 1'000'000u};
        counters.ceil = BytesPerSecond{8'000'000};
    }
    return made;
}

// web gets 1000 kB/s, db 1200, Größe nothing, the others together 300.
TopModel busy()
{
    TopModel model;
    model.set_inventory({lab()});
    model.add({{"lab", sample(0, {{1, {0, 0}}, {2, {0, 0}}, {3, {0, 0}}, {4, {0, 0}}, {5, {0, 0}}})}});
    model.add(
        {{"lab",
          sample(2,
                 {{1, {5'000'000, 0}}, {2, {600'000, 0}}, {3, {2'000'000, 30}}, {4, {2'400'000, 4}}, {5, {0, 0}}})}});
    return model;
}

std::vector<std::string> names(const TopModel& model, const Choice& choice)
{
    std::vector<std::string> found;
    for (const TopRow* row : model.rows(choice))
        found.push_back(row->domain);
    return found;
}

const TopRow& row(const TopModel& model, const std::string& domain)
{
    for (const TopRow* row : model.rows({}))
        if (row->domain == domain)
            return *row;
    throw std::out_of_range(domain);
}

TEST(TopModel, RatesAreWhatTheClassSentInTheTime)
{
    const TopModel model = busy();
    EXPECT_EQ(row(model, "web").now->rate.count, 1'000'000u);
    EXPECT_EQ(row(model, "db").now->rate.count, 1'200'000u);
    EXPECT_DOUBLE_EQ(row(model, "web").now->drops, 15);
    EXPECT_EQ(row(model, "web").floor, in_bytes(KilobytesPerSecond{500}));
    EXPECT_EQ(row(model, "web").ceil, BytesPerSecond{8'000'000});
    EXPECT_FALSE(row(model, "mail").now);
}

TEST(TopModel, NetworksHaveTheirSums)
{
    const TopModel model = busy();
    const auto totals = model.network_rows({});
    ASSERT_EQ(totals.size(), 1u);
    EXPECT_EQ(totals[0]->floor, in_bytes(KilobytesPerSecond{3000}));
    EXPECT_EQ(totals[0]->ceil, in_bytes(KilobytesPerSecond{8000}));
    EXPECT_EQ(totals[0]->most, BytesPerSecond{4'000'000});
    EXPECT_EQ(totals[0]->now->rate, BytesPerSecond{2'500'000});
    EXPECT_DOUBLE_EQ(totals[0]->now->drops, 17);
}

TEST(TopModel, RowsComeInTheOrderAskedFor)
{
    const TopModel model = busy();
    const std::string without = "(without floor)";
    EXPECT_THAT(names(model, {.key = SortKey::rate}), ElementsAre("db", "web", without, "Größe", "mail"));
    EXPECT_THAT(names(model, {.key = SortKey::floor}), ElementsAre("db", "Größe", "web", without, "mail"));
    EXPECT_THAT(names(model, {.key = SortKey::drops}), ElementsAre("web", "db", without, "Größe", "mail"));
    EXPECT_THAT(names(model, {.key = SortKey::use}), ElementsAre("web", "db", "Größe", without, "mail"));
    EXPECT_THAT(names(model, {.key = SortKey::name}), ElementsAre(without, "Größe", "db", "mail", "web"));
    EXPECT_THAT(names(model, {.key = SortKey::name, .reversed = true}),
                ElementsAre("web", "mail", "db", "Größe", without));
    EXPECT_EQ(names(model, {.key = SortKey::rate, .reversed = true}).back(), "db");
}

TEST(TopModel, FilterLooksAtAllNamesInEitherCase)
{
    TopModel model = busy();
    EXPECT_THAT(names(model, {.filter = "WEB"}), ElementsAre("web"));
    EXPECT_THAT(names(model, {.filter = "grÖSSE"}), ElementsAre("Größe"));
    EXPECT_THAT(names(model, {.filter = "vnet2"}), ElementsAre("db"));
    EXPECT_THAT(names(model, {.filter = mac(4).text()}), ElementsAre("mail"));
    EXPECT_EQ(names(model, {.filter = "lab"}).size(), 5u);
    EXPECT_THAT(names(model, {.filter = "nobody"}), IsEmpty());
    EXPECT_THAT(names(model, {.domain = "db"}), ElementsAre("db"));
    EXPECT_THAT(names(model, {.network = "other"}), IsEmpty());
}

TEST(TopModel, ClassesThatChangeAreTold)
{
    TopModel model;
    model.set_inventory({lab()});
    EXPECT_THAT(model.add({{"lab", sample(0, {{1, {0, 0}}, {3, {0, 0}}})}}), IsEmpty()); // nothing to compare with
    EXPECT_THAT(model.add({{"lab", sample(1, {{1, {10, 0}}, {3, {10, 1}}})}}), IsEmpty());
    const auto come = model.add({{"lab", sample(2, {{1, {10, 0}}, {3, {10, 1}}, {4, {0, 0}}})}});
    ASSERT_EQ(come.size(), 1u);
    EXPECT_EQ(come[0].network, "lab");
    EXPECT_THAT(come[0].there, ElementsAre(ClassId{4}));
    EXPECT_THAT(come[0].gone, IsEmpty());
    auto other = sample(3, {{1, {10, 0}}, {4, {0, 0}}});
    other.classes[ClassId{4}].rate = BytesPerSecond{7};
    const auto changed = model.add({{"lab", other}});
    ASSERT_EQ(changed.size(), 1u);
    EXPECT_THAT(changed[0].there, ElementsAre(ClassId{4}));
    EXPECT_THAT(changed[0].gone, ElementsAre(ClassId{3}));
    EXPECT_THAT(model.add({{"lab", other}}), IsEmpty());
    EXPECT_THAT(model.add({}), IsEmpty());
}

TEST(TopModel, ACounterThatStartsAnewIsNoRate)
{
    TopModel model = busy();
    model.add({{"lab", sample(3, {{1, {5'000'000, 0}}, {3, {100, 0}}})}});
    EXPECT_EQ(row(model, "web").now->rate.count, 0u);
    EXPECT_DOUBLE_EQ(row(model, "web").now->drops, 0);
    EXPECT_FALSE(row(model, "db").now);
}

TEST(TopModel, DropsAreRightWhereTheirCounterWraps)
{
    TopModel model;
    model.set_inventory({lab()});
    model.add({{"lab", sample(0, {{3, {0, 0xfffffffe}}})}});
    model.add({{"lab", sample(1, {{3, {1, 8}}})}});
    EXPECT_DOUBLE_EQ(row(model, "web").now->drops, 10);
}

TEST(TopModel, HistoryFollowsThePortAndNotTheClass)
{
    TopModel model = busy();
    ASSERT_TRUE(row(model, "web").history);
    EXPECT_THAT(*row(model, "web").history, ElementsAre(BytesPerSecond{1'000'000}));

    // Its class has another port now.
    NetworkState changed = lab();
    changed.interfaces[0].port = uuid(99);
    changed.interfaces[0].domain = "new";
    model.set_inventory({changed});
    EXPECT_FALSE(row(model, "new").history);
    model.add({{"lab", sample(4, {{3, {2'000'000, 0}}, {4, {2'400'000, 4}}})}});
    EXPECT_THAT(*row(model, "new").history, ElementsAre(BytesPerSecond{}));
    EXPECT_THAT(*row(model, "db").history, ElementsAre(BytesPerSecond{1'200'000}, BytesPerSecond{}));
}

TEST(TopModel, HistoryIsBounded)
{
    TopModel model;
    model.set_inventory({lab()});
    for (int i = 0; i < 200; ++i)
        model.add({{"lab", sample(i, {{3, {static_cast<std::uint64_t>(i) * 1000, 0}}})}});
    EXPECT_EQ(row(model, "web").history->size(), history_length);
}

TEST(TopModel, StarvedIsWhoWaitsAndGetsLess)
{
    TopModel model;
    model.set_inventory({lab()});
    const auto at = [](int second, std::uint64_t sent, std::uint32_t queued) {
        auto made = sample(second, {{3, {sent, 0}}});
        made.classes[ClassId{3}].queued = queued;
        return Samples{{"lab", made}};
    };
    model.add(at(0, 0, 5));
    model.add(at(1, 400'000, 5));
    EXPECT_TRUE(row(model, "web").starved);
    model.add(at(2, 800'000, 0)); // its queue is empty: it wants no more
    EXPECT_FALSE(row(model, "web").starved);
    model.add(at(3, 1'200'000, 5)); // it has just begun
    EXPECT_FALSE(row(model, "web").starved);
    model.add(at(4, 1'695'000, 5));
    EXPECT_FALSE(row(model, "web").starved);
}

std::vector<std::string> texts(const TopModel& model, TopState& state, const Canvas& canvas)
{
    std::vector<std::string> found;
    for (const Line& line : draw_frame(model, state, canvas))
        found.push_back(plain_text(line));
    return found;
}

std::string all_text(const TopModel& model, TopState& state, const Canvas& canvas)
{
    std::string all;
    for (const std::string& text : texts(model, state, canvas))
        all += text + '\n';
    return all;
}

TEST(Frame, EightyColumnsShowWhatCounts)
{
    const TopModel model = busy();
    TopState state{.interval = std::chrono::seconds(1), .clock = "12:00:00"};
    EXPECT_THAT(texts(model, state, {80, 12, false}),
                ElementsAre("virt-floor top 12:00:00  every 1 s  in kB/s  by rate  interfaces: 4",
                            "NETWORK                 FLOORS   LIMIT     NOW USE              DROPS/S LAST",
                            "lab                       3000    8000    2500 [#########  :  ]      17        *",
                            "DOMAIN          DEVICE   FLOOR    CEIL     NOW USE              DROPS/S LAST",
                            "db              vnet2     1500    8000    1200 [## :          ]     2.0        *",
                            "web             vnet1      500    8000    1000 [#|            ]      15        #",
                            "(without floor) -            -    8000     300 [+             ]       0        #",
                            "Gr??e           vnet3     1000    8000       0 [  :           ]       0        _",
                            "mail            vnet4        -       -       -                        -", "", "",
                            "h: help  q: quit  n: network  /: filter"));
}

// Whatever its size, nothing stands outside, and no row is lost that has room.
TEST(Frame, FitsEveryTerminal)
{
    TopModel model = busy();
    for (const bool help : {false, true})
        for (std::size_t width = 1; width < 200; width += 3)
            for (std::size_t height = 1; height < 40; height += 2) {
                TopState state{.interval = std::chrono::seconds(1), .clock = "12:00:00", .help = help};
                const auto lines = draw_frame(model, state, {width, height, true});
                ASSERT_EQ(lines.size(), height);
                for (const Line& line : lines)
                    ASSERT_LE(display_width(plain_text(line)), width) << plain_text(line);
            }
}

TEST(Frame, ScrollingEndsWithTheLastRow)
{
    NetworkState network = lab();
    network.interfaces.clear();
    for (unsigned i = 1; i <= 100; ++i)
        network.interfaces.push_back(interface(i, "guest" + std::to_string(i), 10));
    TopModel model;
    model.set_inventory({network});
    TopState state{.choice = {.key = SortKey::name}, .offset = 1000};
    EXPECT_THAT(all_text(model, state, {80, 24, true}), HasSubstr("guest99"));
    EXPECT_EQ(state.offset, 101u - page(model, state, {80, 24, true}));
    EXPECT_THAT(all_text(model, state, {80, 24, true}), HasSubstr("rows 83 to 101 of 101"));
}

TEST(Frame, ManyNetworksLeaveRoomForInterfaces)
{
    std::vector<NetworkState> networks;
    for (int i = 10; i < 40; ++i) {
        networks.push_back(lab());
        networks.back().name = "net" + std::to_string(i);
    }
    TopModel model;
    model.set_inventory(networks);
    TopState state;
    const std::string all = all_text(model, state, {80, 24, true});
    EXPECT_THAT(all, HasSubstr("net14"));
    EXPECT_THAT(all, HasSubstr("and 25 more networks"));
    EXPECT_EQ(page(model, state, {80, 24, true}), 14u);
    state.choice.network = "net33";
    EXPECT_THAT(all_text(model, state, {80, 24, true}), Not(HasSubstr("more networks")));
}

TEST(Frame, TheMarkIsWholeOnceTheFloorIsReached)
{
    const TopModel model = busy();
    TopState state{.choice = {.filter = "e"}, .interval = std::chrono::seconds(1)};
    const auto lines = texts(model, state, {80, 0, false});
    EXPECT_THAT(lines, Contains(AllOf(StartsWith("web"), HasSubstr("[#|"))));
    EXPECT_THAT(lines, Contains(AllOf(StartsWith("Gr??e"), HasSubstr("[  :"))));
}

TEST(Frame, TroubleIsSaid)
{
    const TopModel model = busy();
    TopState state{.trouble = "No word from libvirt"};
    EXPECT_EQ(texts(model, state, {80, 24, true}).back(), "No word from libvirt");
    EXPECT_EQ(texts(model, state, {80, 0, true})[1], "No word from libvirt");
}

TEST(Frame, TextIsCutAndMadeHarmless)
{
    EXPECT_EQ(fitted("guest", 5, true), "guest");
    EXPECT_EQ(fitted("guests", 5, true), "gues…");
    EXPECT_EQ(fitted("guests", 5, false), "gues+");
    EXPECT_EQ(fitted("研究室", 6, true), "研究室");
    EXPECT_EQ(fitted("研究室", 5, true), "研究…");
    EXPECT_EQ(fitted("研究室", 4, true), "研…");
    EXPECT_EQ(fitted("guest", 0, true), "");
    EXPECT_EQ(fitted("a\x1b[2Jb\xc2\x9b", 20, true), "a?[2Jb?"); // also CSI in one character
    EXPECT_EQ(fitted("ab\xff", 20, true), "ab�");
    EXPECT_EQ(fitted("Größe", 20, false), "Gr??e");
}

TEST(Frame, SparklineIsAsTallAsTheTallestOrTheFloor)
{
    const History history{{0}, {250}, {500}, {1000}};
    EXPECT_EQ(sparkline(history, {}, 6, false), "  _:=#");
    EXPECT_EQ(sparkline(history, {}, 3, true), "▃▅█");
    EXPECT_EQ(sparkline(history, {2000}, 4, false), "_.:=");
    EXPECT_EQ(sparkline({{0}, {0}}, {}, 2, false), "__");
}

} // namespace
} // namespace virfloor::tool
