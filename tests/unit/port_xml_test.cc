// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virfloor/port_xml.h"

#include "support.h"

namespace virfloor::test {
namespace {

using testing::HasSubstr;
using testing::Not;

// As networkPortGetXMLDesc of libvirt 9.0.0 prints one.
const std::string head = R"(<networkport>
  <uuid>5d744f21-ba4a-4d6e-bdb2-30a35ff3207d</uuid>
  <owner>
    <name>web</name>
    <uuid>3e3fce45-4f53-4fa7-bb32-11f34168b82b</uuid>
  </owner>
  <group>gold</group>
  <mac address='52:54:00:7b:35:93'/>
)";
const std::string tail = R"(  <rxfilters trustGuest='no'/>
  <plug type='network' bridge='virbr7'/>
</networkport>
)";

std::string port(const std::string& bandwidth) { return head + bandwidth + tail; }

std::string floored(const std::string& inbound = "floor='300'")
{
    return port("  <bandwidth>\n    <inbound " + inbound + "/>\n  </bandwidth>\n");
}

std::string without_floor(const std::string& xml, bool valid) { return split_port(xml, valid).without_floor; }

TEST(ParsePort, ReadsWhatLibvirtPrints)
{
    const auto description = parse_port(port("  <bandwidth classID='7'>\n    <inbound average='10' floor='300'/>\n"
                                             "    <outbound average='5'/>\n  </bandwidth>\n"));
    EXPECT_EQ(description.uuid.text(), "5d744f21-ba4a-4d6e-bdb2-30a35ff3207d");
    EXPECT_EQ(description.mac, mac("52:54:00:7b:35:93"));
    EXPECT_EQ(description.floor().count, 300u);
    EXPECT_EQ(description.class_id, ClassId{7});
    EXPECT_EQ(description.bandwidth.outbound, rate(5));
}

TEST(ParsePort, HasNoFloorWithoutOne)
{
    for (const auto& xml : {port(""), floored("average='5'"), floored("average='5' floor='0'"),
                            port("  <bandwidth>\n    <outbound average='5'/>\n  </bandwidth>\n")}) {
        EXPECT_FALSE(parse_port(xml).floor());
        EXPECT_FALSE(parse_port(xml).class_id);
    }
}

TEST(ParsePort, ReadsClassIds)
{
    const auto with_id = [](const std::string& id) {
        return parse_port(port("  <bandwidth classID='" + id + "'/>\n")).class_id;
    };
    EXPECT_EQ(with_id("65535"), ClassId{65535});
    EXPECT_FALSE(with_id("0"));
    for (const char* id : {"65536", "-1", "", "x", "3 ", "4294967299"})
        EXPECT_REFUSED(invalid_xml, with_id(id)) << id;
}

TEST(ParsePort, RefusesWhatIsNoPort)
{
    EXPECT_REFUSED(invalid_xml, parse_port("<networkport/>"));
    EXPECT_REFUSED(invalid_xml, parse_port("<network/>"));
    EXPECT_REFUSED(invalid_xml, parse_port("<networkport><uuid>5d744f21-ba4a-4d6e-bdb2-30a35ff3207d</uuid>"
                                           "<mac address='nonsense'/></networkport>"));
    EXPECT_REFUSED(invalid_xml, parse_port("<networkport><uuid>5d744f21</uuid>"
                                           "<mac address='52:54:00:7b:35:93'/></networkport>"));
    EXPECT_REFUSED(config_unsupported, parse_port(port("<bandwidth><outbound average='5' floor='5'/></bandwidth>")));
}

TEST(WithoutFloor, LeavesStockNoFloor)
{
    const auto left =
        without_floor(port("  <bandwidth classID='7'>\n    <inbound average='10' peak='20' floor='300' burst='5'/>\n"
                           "    <outbound average='5'/>\n  </bandwidth>\n"),
                      false);
    EXPECT_THAT(left, Not(HasSubstr("floor")));
    EXPECT_THAT(left, Not(HasSubstr("classID")));
    EXPECT_EQ(parse_port(left).bandwidth, (Bandwidth{rate(10, 20, 0, 5), rate(5)}));
    EXPECT_THAT(left, HasSubstr("<name>web</name>"));
}

TEST(WithoutFloor, AFloorAloneBecomesNoLimit)
{
    EXPECT_THAT(without_floor(floored(), false), HasSubstr("<inbound average=\"0\"/>"));
    EXPECT_THAT(without_floor(floored(), true), Not(HasSubstr("<inbound")));
    EXPECT_THAT(without_floor(floored("floor='300' average='0'"), false), HasSubstr("average=\"0\""));
    EXPECT_THAT(without_floor(floored("floor='300' average='9'"), true), HasSubstr("average=\"9\""));
}

TEST(WithoutFloor, LeavesOtherPortsAsTheyAre)
{
    for (const bool valid : {false, true}) {
        EXPECT_EQ(parse_port(without_floor(port(""), valid)).bandwidth, Bandwidth{});
        EXPECT_EQ(parse_port(without_floor(floored("average='9'"), valid)).bandwidth.inbound, rate(9));
        const std::string once = without_floor(floored(), valid);
        EXPECT_EQ(without_floor(once, valid), once);
    }
}

TEST(WithFloor, PutsFloorAndClassBack)
{
    const std::string expected = port("  <bandwidth classID='7'>\n    <inbound floor='300'/>\n  </bandwidth>\n");
    EXPECT_EQ(with_floor(port(""), {300}, {7}), expected);
    EXPECT_EQ(with_floor(port("  <bandwidth/>\n"), {300}, {7}), expected);
    EXPECT_EQ(with_floor(floored("average='0'"), {300}, {7}), expected);
    EXPECT_EQ(with_floor(expected, {300}, {7}), expected);
}

TEST(WithFloor, KeepsTheRest)
{
    const std::string limited = port("  <bandwidth>\n    <inbound average='10' peak='20' burst='5'/>\n"
                                     "    <outbound average='5'/>\n  </bandwidth>\n");
    EXPECT_EQ(with_floor(limited, {300}, {65535}),
              port("  <bandwidth classID='65535'>\n    <inbound average='10' peak='20' floor='300' burst='5'/>\n"
                   "    <outbound average='5'/>\n  </bandwidth>\n"));
}

TEST(WithFloor, GoesWhereLibvirtWouldPrintIt)
{
    const std::string bandwidth = "  <bandwidth classID='3'>\n    <inbound floor='1'/>\n  </bandwidth>\n";
    const std::string vlan = "  <vlan>\n    <tag id='5'/>\n  </vlan>\n";
    EXPECT_EQ(with_floor(port(vlan), {1}, {3}), port(bandwidth + vlan));
    const std::string isolated = "  <port isolated='yes'/>\n";
    EXPECT_EQ(with_floor(port(isolated), {1}, {3}), port(bandwidth + isolated));
    const std::string profile = "  <virtualport type='802.1Qbh'/>\n";
    EXPECT_EQ(with_floor(port(profile), {1}, {3}), port(profile + bandwidth));
}

} // namespace
} // namespace virfloor::test
