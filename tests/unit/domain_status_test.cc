// SPDX-License-Identifier: LGPL-2.1-or-later
#include "support.h"
#include "virfloor/status.h"

namespace virfloor::test {
namespace {

using testing::HasSubstr;

std::string fixture(const std::string& name) { return read_text(std::filesystem::path(DATA_DIR) / "domstatus" / name); }

std::string replaced(std::string text, const std::string& old, const std::string& by)
{
    const auto at = text.find(old);
    EXPECT_NE(at, std::string::npos) << old;
    return text.replace(at, old.size(), by);
}

TEST(DomainStatus, OfAQemuDomain)
{
    const auto ports = parse_domain_status(fixture("qemu.xml"));
    ASSERT_EQ(ports.size(), 1u);
    EXPECT_EQ(ports[0].network, "tenants");
    EXPECT_EQ(ports[0].uuid.text(), "5d744f21-ba4a-4d6e-bdb2-30a35ff3207d");
    EXPECT_EQ(ports[0].mac, mac("52:54:00:7b:35:93"));
    EXPECT_EQ(ports[0].floor.count, 300u);
    EXPECT_EQ(ports[0].id, ClassId{3});
}

TEST(DomainStatus, OfAContainerWithoutClass)
{
    const auto ports = parse_domain_status(fixture("lxc.xml"));
    ASSERT_EQ(ports.size(), 1u);
    EXPECT_EQ(ports[0].floor.count, 500u);
    EXPECT_FALSE(ports[0].id);
}

TEST(DomainStatus, PassesOverClassIdsThatAreNone)
{
    for (const char* id : {"0", "1", "2", "65536", "-3", "x", "", "99999999999999999999"}) {
        const auto ports = parse_domain_status(
            replaced(fixture("qemu.xml"), "<class id='3'/>", "<class id='" + std::string(id) + "'/>"));
        ASSERT_EQ(ports.size(), 1u);
        EXPECT_FALSE(ports[0].id) << id;
    }
}

TEST(DomainStatus, PassesOverInterfacesThatSayTooLittle)
{
    const std::string whole = fixture("lxc.xml");
    for (const auto& [old, by] : std::vector<std::pair<std::string, std::string>>{
             {"address='00:16:3e:10:22:31'", "address='?'"},
             {"<source network='tenants' portid='6d744f21-ba4a-4d6e-bdb2-30a35ff3207d' bridge='virbr7'/>", ""},
             {"portid='6d744f21-ba4a-4d6e-bdb2-30a35ff3207d'", "portid='6d744f21'"},
             {"floor='500'", "floor='0' average='1'"},
             {"<inbound floor='500'/>", ""},
             {"<domain type='lxc' id='918'>", "<domain type='lxc' id='918'><devices/>"}})
        EXPECT_TRUE(parse_domain_status(replaced(whole, old, by)).empty()) << old;
    EXPECT_TRUE(parse_domain_status("<domstatus/>").empty());
    EXPECT_TRUE(parse_domain_status("<domstatus><domain/></domstatus>").empty());
}

TEST(DomainStatus, RefusesHostileText)
{
    EXPECT_REFUSED(invalid_xml, parse_domain_status(""));
    EXPECT_REFUSED(invalid_xml, parse_domain_status("<domain/>"));
    EXPECT_REFUSED(invalid_xml, parse_domain_status(fixture("qemu.xml").substr(0, 900)));
    EXPECT_REFUSED(invalid_xml, parse_domain_status("<!DOCTYPE domstatus [<!ENTITY x SYSTEM 'file:///etc/hostname'>]>"
                                                    "<domstatus>&x;</domstatus>"));
    EXPECT_THROW(parse_domain_status(replaced(fixture("lxc.xml"), "floor='500'", "floor='-1'")), Error);
}

TEST(ReadDomainStatus, ReadsBothDriversAndPassesOverTheRest)
{
    TemporaryDirectory state;
    LogCapture log;
    write_text(state.path() / "qemu/web.xml", fixture("qemu.xml"));
    write_text(state.path() / "lxc/db.xml", fixture("lxc.xml"));
    const std::string whole = fixture("lxc.xml");
    write_text(state.path() / "lxc/broken.xml", whole.substr(0, whole.find("</devices>")));
    write_text(state.path() / "lxc/db.pid", fixture("lxc.xml"));
    std::filesystem::create_directory(state.path() / "qemu/folder.xml");
    std::filesystem::create_symlink(state.path() / "lxc/db.xml", state.path() / "qemu/link.xml");
    EXPECT_EQ(read_domain_status(state.path()).size(), 2u);
    EXPECT_EQ(LogCapture::lines().size(), 3u);
    EXPECT_THAT(LogCapture::text(), HasSubstr("broken.xml"));
    EXPECT_TRUE(read_domain_status(state.path() / "nowhere").empty());
}

} // namespace
} // namespace virfloor::test
