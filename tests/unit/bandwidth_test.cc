// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virfloor/bandwidth.h"

#include "support.h"
#include "virfloor/xml.h"

namespace virfloor::test {
namespace {

using testing::HasSubstr;

Bandwidth parse(const std::string& inside)
{
    const auto document = XmlDocument::parse("<bandwidth>" + inside + "</bandwidth>", "bandwidth");
    return parse_bandwidth(document.root());
}

TEST(Units, KeepTheirMeaning)
{
    EXPECT_EQ(in_bytes(KilobytesPerSecond{8}).count, 8000u);
    EXPECT_EQ(in_bytes(Kibibytes{8}).count, 8192u);
    EXPECT_EQ((KilobytesPerSecond{8} + KilobytesPerSecond{4}).count, 12u);
    EXPECT_EQ((KilobytesPerSecond{8} - KilobytesPerSecond{4}).count, 4u);
    EXPECT_FALSE(KilobytesPerSecond{});
    EXPECT_LT(KilobytesPerSecond{1}, KilobytesPerSecond{2});
    // The greatest rate and burst do not overflow.
    EXPECT_EQ(in_bytes(max_rate).count / 1000, max_rate.count);
    EXPECT_EQ(in_bytes(max_burst).count / 1024, max_burst.count);
}

TEST(ParseBandwidth, ReadsBothDirections)
{
    const auto bandwidth = parse("<inbound average='1000' peak='5000' floor='200' burst='1024'/>"
                                 "<outbound average='128' peak='256' burst='256'/>");
    EXPECT_EQ(bandwidth.inbound, rate(1000, 5000, 200, 1024));
    EXPECT_EQ(bandwidth.outbound, rate(128, 256, 0, 256));
}

TEST(ParseBandwidth, TakesAFloorAlone)
{
    EXPECT_EQ(parse("<inbound floor='200'/>").inbound, rate(0, 0, 200));
    EXPECT_FALSE(parse("<inbound floor='200'/>").outbound);
}

TEST(ParseBandwidth, NothingIsNothing)
{
    EXPECT_EQ(parse(""), Bandwidth{});
    EXPECT_EQ(parse("text"), Bandwidth{});
    EXPECT_EQ(parse_bandwidth(nullptr), Bandwidth{});
}

TEST(ParseBandwidth, PassesOverTheUnknown)
{
    EXPECT_EQ(parse("<!-- c --><sideways average='x'/><inbound average='5' colour='red'><deep/></inbound>"),
              (Bandwidth{rate(5), {}}));
}

TEST(ParseBandwidth, TakesTheGreatestNumbersAndNoMore)
{
    const std::string most_rate = "18014398509481984", most_burst = "9007199254740992";
    EXPECT_EQ(parse("<inbound average='" + most_rate + "' burst='" + most_burst + "'/>").inbound,
              rate(std::uint64_t{1} << 54, 0, 0, std::uint64_t{1} << 53));
    for (const char* name : {"average", "peak", "floor"})
        EXPECT_REFUSED(config_unsupported,
                       parse("<inbound average='1' " + std::string(name) + (std::string(name) == "average" ? "2" : "") +
                             "='18014398509481985'/>" + "<outbound average='18014398509481985'/>"));
    EXPECT_REFUSED(config_unsupported, parse("<inbound average='1' peak='18014398509481985'/>"));
    EXPECT_REFUSED(config_unsupported, parse("<inbound floor='18014398509481985'/>"));
    EXPECT_REFUSED(config_unsupported, parse("<inbound average='1' burst='9007199254740993'/>"));
}

TEST(ParseBandwidth, RefusesWhatIsNoNumber)
{
    for (const char* text : {"", "-1", "+1", " 1", "1 ", "1.5", "0x10", "ten", "1e3", "18446744073709551616",
                             "99999999999999999999999999999999", "&#x663;"}) {
        for (const char* name : {"average", "peak", "floor", "burst"}) {
            const std::string other = std::string(name) == "average" ? "" : " average='1'";
            const auto error = error_of([&] { parse("<inbound" + other + " " + name + "='" + text + "'/>"); });
            EXPECT_EQ(error.refusal(), Refusal::config_unsupported) << name << " '" << text << "'";
            EXPECT_THAT(error.what(), HasSubstr(name));
        }
    }
    EXPECT_THAT(error_of([] { parse("<inbound average='-5'/>"); }).what(), HasSubstr("-5"));
}

TEST(ParseBandwidth, NeedsAnAverageOrAFloor)
{
    EXPECT_REFUSED(invalid_xml, parse("<inbound/>"));
    EXPECT_REFUSED(invalid_xml, parse("<outbound peak='5'/>"));
    EXPECT_REFUSED(config_unsupported, parse("<inbound floor='5' peak='5'/>"));
    EXPECT_REFUSED(config_unsupported, parse("<inbound floor='5' burst='5'/>"));
}

TEST(ParseBandwidth, RefusesADirectionTwice)
{
    EXPECT_REFUSED(invalid_xml, parse("<inbound average='1'/><inbound average='1'/>"));
    EXPECT_REFUSED(invalid_xml, parse("<outbound average='1'/><outbound average='2'/>"));
}

TEST(ParseBandwidth, ZeroIsNotGiven)
{
    EXPECT_EQ(parse("<inbound average='0' peak='0' floor='0' burst='0'/>").inbound, rate(0));
}

TEST(FormatBandwidth, PrintsAsLibvirtDoes)
{
    EXPECT_EQ(format_bandwidth({rate(1000, 5000, 200, 1024), rate(128)}, ClassId{7}, 2),
              "  <bandwidth classID='7'>\n"
              "    <inbound average='1000' peak='5000' floor='200' burst='1024'/>\n"
              "    <outbound average='128'/>\n"
              "  </bandwidth>\n");
    EXPECT_EQ(format_bandwidth({{}, rate(128, 256)}, {}, 0),
              "<bandwidth>\n  <outbound average='128' peak='256'/>\n</bandwidth>\n");
    EXPECT_EQ(format_bandwidth({rate(0, 0, 9), {}}, {}, 0), "<bandwidth>\n  <inbound floor='9'/>\n</bandwidth>\n");
}

TEST(FormatBandwidth, LeavesOutADirectionWithoutRate)
{
    EXPECT_EQ(format_bandwidth({rate(0), rate(0)}, {}, 0), "<bandwidth>\n</bandwidth>\n");
}

// As text they could not be read back.
TEST(FormatBandwidth, LeavesOutPeakAndBurstOfNoAverage)
{
    EXPECT_EQ(format_bandwidth({rate(0, 900, 3, 32), {}}, {}, 0),
              "<bandwidth>\n  <inbound floor='3'/>\n</bandwidth>\n");
}

TEST(FormatBandwidth, IsReadBackAsItWas)
{
    std::mt19937_64 random(2);
    for (int i = 0; i < 500; ++i) {
        Bandwidth bandwidth;
        bandwidth.inbound = rate(1 + random() % max_rate.count, random() % max_rate.count, random() % max_rate.count,
                                 random() % max_burst.count);
        if (i % 2)
            bandwidth.outbound = rate(1 + random() % 100);
        const auto text = format_bandwidth(bandwidth, {}, 4);
        EXPECT_EQ(parse_bandwidth(XmlDocument::parse(text.substr(4), "bandwidth").root()), bandwidth);
    }
}

} // namespace
} // namespace virfloor::test
