// SPDX-License-Identifier: LGPL-2.1-or-later
#include "stock_state.h"

#include "fake_files.h"
#include "fake_kernel.h"
#include "support.h"
#include "virfloor/port_xml.h"
#include "virfloor/xml.h"

#include <cerrno>

namespace virfloor::test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

const char* const first = "5d744f21-ba4a-4d6e-bdb2-30a35ff3207d";
const char* const second = "6d744f21-ba4a-4d6e-bdb2-30a35ff3207d";
const char* const plain = "7d744f21-ba4a-4d6e-bdb2-30a35ff3207d";

class StockState : public testing::Test {
protected:
    StockState()
    {
        fs::create_directories(libvirt());
        fs::copy(fs::path(DATA_DIR) / "stock", libvirt() / "network", fs::copy_options::recursive);
    }
    fs::path libvirt() const { return temporary_.path() / "libvirt"; }
    fs::path status() const { return libvirt() / "network/tenants.xml"; }
    fs::path port(const std::string& id) const { return libvirt() / "network/tenants/ports" / (id + ".xml"); }
    void take_over() { take_over_stock_state(libvirt(), directory_); }

    void expect_taken_over()
    {
        const auto saved = directory_.load("tenants").value();
        EXPECT_EQ(saved.bridge, "virbr7");
        EXPECT_EQ(saved.ifindex, no_ifindex); // the tree is not ours
        EXPECT_EQ(saved.limits, rate(10000, 20000, 0, 512));
        EXPECT_THAT(saved.ports, testing::UnorderedElementsAre(
                                     Port{Uuid::parse(first).value(), mac("52:54:00:7b:35:93"), {3}, {300}},
                                     Port{Uuid::parse(second).value(), mac("52:54:00:7b:35:94"), {5}, {500}}));
        for (const char* id : {first, second}) {
            const auto left = parse_port(read_text(port(id)));
            EXPECT_FALSE(left.floor());
            EXPECT_FALSE(left.class_id);
            EXPECT_EQ(left.uuid.text(), id);
        }
        EXPECT_EQ(parse_port(read_text(port(first))).bandwidth.outbound, rate(128));
        const auto account = XmlDocument::parse(read_text(status()), "networkstatus");
        EXPECT_EQ(attribute(child(account.root(), "class_id"), "bitmap"), "0-2");
        EXPECT_EQ(attribute(child(account.root(), "floor"), "sum"), "0");
        EXPECT_THAT(read_text(status()), HasSubstr("virbr7"));
    }

    FakeKernel kernel_; // for the bridge's index
    TemporaryDirectory temporary_;
    LogCapture log_;
    FileFaults files_;
    StatusDirectory directory_{temporary_.path() / "ours"};
};

TEST_F(StockState, PortsWithFloorsBecomeOurs)
{
    const std::string other = read_text(port(plain)), idle = read_text(libvirt() / "network/idle.xml");
    take_over();
    expect_taken_over();
    EXPECT_EQ(read_text(port(plain)), other);
    EXPECT_EQ(read_text(libvirt() / "network/idle.xml"), idle);
    EXPECT_EQ(directory_.networks(), std::vector<std::string>{"tenants"});
    EXPECT_THAT(LogCapture::text(), HasSubstr("took over 2 ports"));
}

TEST_F(StockState, TwiceIsAsOnce)
{
    take_over();
    LogCapture::lines().clear();
    take_over();
    expect_taken_over();
    EXPECT_TRUE(LogCapture::lines().empty());
}

TEST_F(StockState, NothingThereIsNothingDone)
{
    take_over_stock_state(temporary_.path() / "nowhere", directory_);
    EXPECT_TRUE(directory_.networks().empty());
    EXPECT_TRUE(LogCapture::lines().empty());
}

// It is killed, or the disk is full, at each file it writes: the next time completes it.
TEST_F(StockState, IsCompletedAfterAnInterruption)
{
    for (int number = 0; number < 4; ++number) {
        SCOPED_TRACE("interrupted at file " + std::to_string(number));
        fs::remove_all(libvirt());
        fs::remove_all(temporary_.path() / "ours/tenants.xml");
        fs::create_directories(libvirt());
        fs::copy(fs::path(DATA_DIR) / "stock", libvirt() / "network", fs::copy_options::recursive);
        files_.fail("g_file_set_contents_full", ENOSPC, number, 100);
        take_over();
        EXPECT_THAT(LogCapture::text(), HasSubstr("cannot take over"));
        files_.heal();
        take_over();
        expect_taken_over();
    }
}

TEST_F(StockState, WhatACrashCutOffIsRemoved)
{
    const fs::path cut_off[] = {libvirt() / "network/tenants.xml.A1b2C3", port(first).string() + ".A1b2C3"};
    for (const fs::path& path : cut_off)
        write_text(path, "<net");
    const fs::path stocks = libvirt() / "network/tenants.xml.new";
    write_text(stocks, "<net");
    take_over();
    for (const fs::path& path : cut_off)
        EXPECT_FALSE(fs::exists(path)) << path;
    EXPECT_TRUE(fs::exists(stocks));
    expect_taken_over();
}

TEST_F(StockState, DamagedPortsAreLoggedAndLeft)
{
    write_text(port(second), "<networkport>");
    const std::string before = read_text(port(first));
    take_over();
    EXPECT_THAT(LogCapture::text(), HasSubstr("tenants.xml"));
    EXPECT_EQ(read_text(port(first)), before);
    EXPECT_FALSE(directory_.load("tenants"));
}

TEST_F(StockState, ADamagedNetworkIsLoggedAndLeft)
{
    const std::string before = read_text(port(first));
    for (const char* text :
         {"", "<networkstatus/>", "<networkstatus><network><name>tenants</name></network></networkstatus>"}) {
        LogCapture::lines().clear();
        write_text(status(), text);
        take_over();
        EXPECT_THAT(LogCapture::text(), HasSubstr("cannot take over"));
        EXPECT_EQ(read_text(port(first)), before);
    }
}

TEST_F(StockState, OurDamagedFileIsReplaced)
{
    write_text(temporary_.path() / "ours/tenants.xml", "garbage");
    take_over();
    expect_taken_over();
}

TEST_F(StockState, OurOwnPortsAreKept)
{
    Network ours("tenants", "virbr7", rate(10000, 20000, 0, 512), {1500});
    ours.plug(uuid(1), mac(1), {100}, ClassId{3});
    directory_.file("tenants").describe(ours, 7, Condition::kept, {.refusals = 2, .repairs = 3});
    take_over();
    const auto saved = directory_.load("tenants").value();
    EXPECT_EQ(saved.counts, (Counts{.refusals = 2, .repairs = 3}));
    EXPECT_EQ(saved.ports.size(), 3u);
    EXPECT_THAT(saved.ports, testing::Contains(Port{uuid(1), mac(1), {3}, {100}}));
}

} // namespace
} // namespace virfloor::test
