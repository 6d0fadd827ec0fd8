// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virfloor/identity.h"

#include "support.h"

#include <unordered_set>

namespace virfloor::test {
namespace {

TEST(MacAddress, ReadsWhatLibvirtReads)
{
    EXPECT_EQ(MacAddress::parse("52:54:00:ab:cd:ef")->text(), "52:54:00:ab:cd:ef");
    EXPECT_EQ(MacAddress::parse("52:54:00:AB:CD:EF")->text(), "52:54:00:ab:cd:ef");
    EXPECT_EQ(MacAddress::parse("0:1:2:a:B:c")->text(), "00:01:02:0a:0b:0c");
    EXPECT_EQ(MacAddress::parse("ff:ff:ff:ff:ff:ff")->text(), "ff:ff:ff:ff:ff:ff");
    EXPECT_EQ(MacAddress{}.text(), "00:00:00:00:00:00");
}

TEST(MacAddress, RefusesAllElse)
{
    for (const char* text :
         {"", ":", ":::::", "52:54:00:ab:cd", "52:54:00:ab:cd:", "52:54:00:ab:cd:ef:", "52:54:00:ab:cd:ef:01",
          "52:54:00:ab:cd:efa", "52:54:00:ab:cd:eg", "152:54:00:ab:cd:ef", " 52:54:00:ab:cd:ef", "52:54:00:ab:cd:ef ",
          "52-54-00-ab-cd-ef", "525400abcdef", "52:54:00:ab::ef", "-1:54:00:ab:cd:ef", "+1:54:00:ab:cd:ef",
          "0x:54:00:ab:cd:ef", "52:54:00:ab:cd:\n"})
        EXPECT_FALSE(MacAddress::parse(text)) << "'" << text << "'";
    EXPECT_FALSE(MacAddress::parse(std::string_view("52:54:00:ab:cd:e\0", 17)));
}

TEST(MacAddress, IsOrderedByItsBytes)
{
    EXPECT_LT(mac("52:54:00:00:00:ff"), mac("52:54:00:00:01:00"));
    EXPECT_EQ(mac("52:54:00:00:00:01"), mac(1));
}

TEST(Uuid, ReadsWhatLibvirtReads)
{
    const std::string text = "4c1ff0a2-0b1d-4f5e-9d3c-00112233aabb";
    EXPECT_EQ(Uuid::parse(text)->text(), text);
    EXPECT_EQ(Uuid::parse("4C1FF0A20B1D4F5E9D3C00112233AABB")->text(), text);
    EXPECT_EQ(Uuid::parse("4c-1f-f0a20b1d4f5e9d3c00112233aabb")->text(), text);
    EXPECT_EQ(Uuid{}.text(), "00000000-0000-0000-0000-000000000000");
}

TEST(Uuid, RefusesAllElse)
{
    for (const char* text : {"", "-", "4c1ff0a2-0b1d-4f5e-9d3c-00112233aab", "4c1ff0a2-0b1d-4f5e-9d3c-00112233aabbc",
                             "4c1ff0a2-0b1d-4f5e-9d3c-00112233aabg", "4c1ff0a2 0b1d 4f5e 9d3c 00112233aabb",
                             "4-c1ff0a20b1d4f5e9d3c00112233aabb"})
        EXPECT_FALSE(Uuid::parse(text)) << "'" << text << "'";
}

TEST(Identity, HashesTellNeighboursApart)
{
    std::unordered_set<std::size_t> macs, uuids;
    for (unsigned i = 0; i < 10000; ++i) {
        macs.insert(std::hash<MacAddress>{}(mac(i)));
        uuids.insert(std::hash<Uuid>{}(uuid(i)));
    }
    EXPECT_EQ(macs.size(), 10000u);
    EXPECT_EQ(uuids.size(), 10000u);
    EXPECT_EQ(std::hash<MacAddress>{}(mac(7)), std::hash<MacAddress>{}(mac(7)));
}

} // namespace
} // namespace virfloor::test
