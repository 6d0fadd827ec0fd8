// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virfloor/network_xml.h"

#include "support.h"

namespace virfloor::test {
namespace {

using testing::HasSubstr;
using testing::Not;

// As networkGetXMLDesc of libvirt 9.0.0 prints one.
const std::string before = R"(<network connections='2'>
  <name>tenants</name>
  <uuid>7b5c3d0e-5f0a-4d57-8d2e-2c4f6c9d1a11</uuid>
  <forward mode='nat'>
    <nat>
      <port start='1024' end='65535'/>
    </nat>
  </forward>
  <bridge name='virbr7' stp='on' delay='0'/>
  <mtu size='9000'/>
  <mac address='52:54:00:6c:3c:01'/>
  <domain name='tenants.example'/>
)";
const std::string after = R"(  <ip address='192.168.127.1' netmask='255.255.255.0'>
    <dhcp>
      <range start='192.168.127.2' end='192.168.127.254'/>
    </dhcp>
  </ip>
  <portgroup name='gold'>
    <bandwidth>
      <inbound average='77'/>
    </bandwidth>
  </portgroup>
</network>
)";
const std::string both = R"(  <bandwidth>
    <inbound average='10000' peak='20000' burst='512'/>
    <outbound average='128' peak='256'/>
  </bandwidth>
)";

NetworkDescription with_forward(const std::string& forward)
{
    return parse_network("<network><name>n</name>" + forward +
                         "<bandwidth><inbound average='1'/></bandwidth></network>");
}

TEST(ParseNetwork, ReadsWhatLibvirtPrints)
{
    const auto network = parse_network(before + both + after);
    EXPECT_EQ(network.name, "tenants");
    EXPECT_EQ(network.bridge, "virbr7");
    EXPECT_EQ(network.forward, "nat");
    EXPECT_EQ(network.mtu.count, 9000u);
    EXPECT_EQ(network.bandwidth.inbound, rate(10000, 20000, 0, 512));
    EXPECT_EQ(network.bandwidth.outbound, rate(128, 256));
    EXPECT_TRUE(network.wants_tree());
}

TEST(ParseNetwork, HasDefaults)
{
    const auto network = parse_network("<network><name>n</name></network>");
    EXPECT_EQ(network.bridge, "");
    EXPECT_EQ(network.forward, "");
    EXPECT_EQ(network.mtu.count, 1500u);
    EXPECT_FALSE(network.bandwidth.inbound);
    EXPECT_TRUE(network.supports_floor());
    EXPECT_FALSE(network.wants_tree());
    EXPECT_EQ(parse_network("<network><name>n</name><mtu size='x'/></network>").mtu.count, 1500u);
}

TEST(ParseNetwork, KnowsTheForwardModes)
{
    EXPECT_EQ(with_forward("<forward/>").forward, "nat");
    EXPECT_TRUE(with_forward("").wants_tree());
    for (const char* mode : {"nat", "route", "open", "none"})
        EXPECT_TRUE(with_forward("<forward mode='" + std::string(mode) + "'/>").wants_tree()) << mode;
    for (const char* mode : {"bridge", "private", "vepa", "passthrough", "hostdev", "NAT"})
        EXPECT_FALSE(with_forward("<forward mode='" + std::string(mode) + "'/>").wants_tree()) << mode;
}

TEST(ParseNetwork, AnAverageOfZeroWantsNoTree)
{
    EXPECT_FALSE(
        parse_network("<network><name>n</name><bandwidth><inbound average='0'/></bandwidth></network>").wants_tree());
}

TEST(ParseNetwork, RefusesAFloor)
{
    for (const char* direction : {"inbound", "outbound"})
        EXPECT_REFUSED(config_unsupported,
                       parse_network("<network><name>n</name><bandwidth><" + std::string(direction) +
                                     " average='1' floor='1'/></bandwidth></network>"));
}

TEST(ParseNetwork, RefusesANameThatIsNoFileName)
{
    for (const char* name : {"", "a/b", "../../etc/passwd", "a&#10;b"})
        EXPECT_REFUSED(invalid_xml, parse_network("<network><name>" + std::string(name) + "</name></network>"));
    EXPECT_REFUSED(invalid_xml, parse_network("<network/>"));
}

TEST(WithBandwidth, GoesWhereLibvirtWouldPrintIt)
{
    const Bandwidth bandwidth{rate(10000, 20000, 0, 512), rate(128, 256)};
    EXPECT_EQ(with_bandwidth(before + after, bandwidth), before + both + after);
    for (const char* next :
         {"  <port isolated='yes'/>\n", "  <route address='10.0.0.0'/>\n", "  <virtualport type='openvswitch'/>\n"})
        EXPECT_EQ(with_bandwidth(before + next + after, bandwidth), before + both + next + after);
    EXPECT_EQ(with_bandwidth(before + "</network>\n", bandwidth), before + both + "</network>\n");
}

TEST(WithBandwidth, ReplacesTheOneThatIsThere)
{
    const Bandwidth bandwidth{rate(10000, 20000, 0, 512), rate(128, 256)};
    EXPECT_EQ(with_bandwidth(before + both + after, bandwidth), before + both + after);
    EXPECT_EQ(with_bandwidth(before + "  <bandwidth/>\n" + after, bandwidth), before + both + after);
    EXPECT_EQ(
        with_bandwidth(before + "  <bandwidth>\n    <outbound average='128' peak='256'/>\n  </bandwidth>\n" + after,
                       bandwidth),
        before + both + after);
}

TEST(WithBandwidth, IsNotMisledByComments)
{
    const std::string comment = "  <!-- <bandwidth> <ip> -->\n";
    EXPECT_EQ(with_bandwidth(before + comment + after, {rate(1), {}}),
              before + comment + "  <bandwidth>\n    <inbound average='1'/>\n  </bandwidth>\n" + after);
}

TEST(WithoutInbound, KeepsOutbound)
{
    const auto left = parse_network(without_inbound(before + both + after));
    EXPECT_FALSE(left.bandwidth.inbound);
    EXPECT_EQ(left.bandwidth.outbound, rate(128, 256));
    EXPECT_EQ(left.mtu.count, 9000u);
}

TEST(WithoutInbound, TakesAnEmptyElementAlong)
{
    const std::string left =
        without_inbound(before + "  <bandwidth>\n    <inbound average='5'/>\n  </bandwidth>\n" + after);
    EXPECT_THAT(left, Not(HasSubstr("average='5'")));
    EXPECT_THAT(left, HasSubstr("average=\"77\"")); // the port group's
    EXPECT_FALSE(parse_network(left).bandwidth.inbound);
}

// libvirt takes the first, and would take the second in its place.
TEST(WithoutInbound, LeavesNoSecondBandwidth)
{
    const std::string first = "<bandwidth><inbound average='1'/></bandwidth>";
    const std::string second = "<bandwidth><inbound average='2'/></bandwidth>";
    const std::string both = "<network><name>n</name>" + first + second + second + "</network>";
    EXPECT_EQ(parse_network(both).bandwidth.inbound, rate(1));
    EXPECT_EQ(without_inbound(both), "<network><name>n</name></network>");
}

TEST(ParseNetwork, TakesNoElementOfANamespace)
{
    const auto network =
        parse_network("<network xmlns:x='u'><x:name>other</x:name><name>n</name><x:bandwidth><inbound average='1'/>"
                      "</x:bandwidth></network>");
    EXPECT_EQ(network.name, "n");
    EXPECT_FALSE(network.bandwidth.inbound);
    EXPECT_REFUSED(invalid_xml, parse_network("<network xmlns='u'><name>n</name></network>"));
}

TEST(WithoutInbound, LeavesOtherNetworksAsTheyAre)
{
    EXPECT_EQ(without_inbound("<network><name>n</name></network>"), "<network><name>n</name></network>");
    EXPECT_EQ(without_inbound("<network><bandwidth><outbound average=\"1\"/></bandwidth></network>"),
              "<network><bandwidth><outbound average=\"1\"/></bandwidth></network>");
    EXPECT_REFUSED(invalid_xml, without_inbound("<domain/>"));
}

} // namespace
} // namespace virfloor::test
