// SPDX-License-Identifier: LGPL-2.1-or-later
#include "support.h"
#include "virfloor/status.h"
#include "virfloor/xml.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <functional>
#include <set>
#include <thread>

namespace virfloor::test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

unsigned mode_of(const fs::path& path)
{
    struct stat status {};
    EXPECT_EQ(lstat(path.c_str(), &status), 0);
    return status.st_mode & 07777;
}

class StatusTest : public testing::Test {
protected:
    std::map<Uuid, Port> loaded()
    {
        std::map<Uuid, Port> ports;
        const auto saved = directory_.load("tenants");
        for (const Port& port : saved ? saved->ports : std::vector<Port>{})
            EXPECT_TRUE(ports.emplace(port.uuid, port).second);
        return ports;
    }
    std::map<Uuid, Port> promised() const { return {network_.ports().begin(), network_.ports().end()}; }
    fs::path file() const { return temporary_.path() / "state/net/tenants.xml"; }
    std::string text() const { return read_text(file()); }

    TemporaryDirectory temporary_;
    StatusDirectory directory_{temporary_.path() / "state/net"};
    Network network_{"tenants", "virbr7", rate(10000, 20000, 0, 512), {9000}};
};

TEST_F(StatusTest, IsReadBackAsItWas)
{
    for (unsigned i = 1; i < 20; ++i)
        network_.plug(uuid(i), mac(i), {i});
    directory_.save(network_, 7);
    const auto saved = directory_.load("tenants").value();
    EXPECT_EQ(saved.name, "tenants");
    EXPECT_EQ(saved.bridge, "virbr7");
    EXPECT_EQ(saved.ifindex, 7);
    EXPECT_EQ(saved.mtu.count, 9000u);
    EXPECT_EQ(saved.limits, network_.limits());
    EXPECT_EQ(loaded(), promised());
}

TEST_F(StatusTest, OnlyTheOwnerMayReadIt)
{
    directory_.save(network_, 7);
    EXPECT_EQ(mode_of(file()), 0600u);
    EXPECT_EQ(mode_of(file().parent_path()), 0700u);
}

TEST_F(StatusTest, RecordsAreOverwrittenInPlace)
{
    auto status = directory_.save(network_, 7);
    struct stat before {
    }, after{};
    stat(file().c_str(), &before);
    const Port port = network_.plug(uuid(1), mac(1), {300});
    status.update(network_, port.uuid);
    EXPECT_EQ(loaded(), promised());
    network_.update(uuid(1), {400});
    status.update(network_, uuid(1));
    EXPECT_EQ(loaded(), promised());
    network_.unplug(uuid(1));
    status.update(network_, uuid(1));
    EXPECT_EQ(loaded(), promised());
    stat(file().c_str(), &after);
    EXPECT_EQ(before.st_ino, after.st_ino);
    EXPECT_EQ(before.st_size, after.st_size);
}

TEST_F(StatusTest, CountsAreOverwrittenInPlace)
{
    network_.plug(uuid(1), mac(1), {300});
    auto status = directory_.save(network_, 7);
    struct stat before {
    }, after{};
    stat(file().c_str(), &before);
    for (const Counts& counts : {Counts{1, 0}, Counts{UINT64_MAX, UINT64_MAX}, Counts{0, 2}}) {
        status.describe(network_, 7, Condition::kept, counts);
        EXPECT_EQ(directory_.load("tenants")->counts, counts);
        EXPECT_EQ(loaded(), promised());
    }
    stat(file().c_str(), &after);
    EXPECT_EQ(before.st_ino, after.st_ino);
    EXPECT_EQ(before.st_size, after.st_size);
}

TEST_F(StatusTest, CountsAreKeptWhenTheFileIsReplaced)
{
    auto status = directory_.file("tenants");
    const Counts counts{.refusals = 3, .repairs = 4};
    status.describe(network_, 7, Condition::kept, counts);
    for (unsigned i = 1; i <= 9; ++i)
        status.update(network_, network_.plug(uuid(i), mac(i), {1}).uuid);
    EXPECT_EQ(directory_.load("tenants")->counts, counts);
    status.describe(network_, 7, Condition::broken, counts);
    EXPECT_EQ(directory_.load("tenants")->counts, counts);
    EXPECT_EQ(loaded(), promised());
}

// Whatever stands before it.
TEST_F(StatusTest, TheRecordOfCountsCrossesNoPage)
{
    for (std::size_t length = 1; length <= 130; ++length) {
        const Network network(std::string(length, 'n'), "virbr7", rate(5), {1500});
        auto status = directory_.save(network, 7);
        status.describe(network, 7, Condition::kept, {.refusals = length, .repairs = UINT64_MAX});
        const std::string whole = read_text(temporary_.path() / "state/net" / (network.name() + ".xml"));
        const auto at = whole.find("  <counts");
        ASSERT_EQ(at % 128, 0u) << length;
        EXPECT_EQ(whole[at - 1], '\n');
        EXPECT_EQ(whole.find('\n', at), at + 127);
        EXPECT_EQ(whole.substr(at + 128, 9), "  <ports>");
        EXPECT_EQ(directory_.load(network.name())->counts.refusals, length);
    }
}

TEST_F(StatusTest, AFileOfBeforeThereWereCountsIsRead)
{
    network_.plug(uuid(1), mac(1), {300});
    directory_.file("tenants").describe(network_, 7, Condition::kept, {.refusals = 3, .repairs = 4});
    std::string old = text();
    const auto at = old.find("  <counts");
    write_text(file(), old.erase(at, 128));
    EXPECT_EQ(directory_.load("tenants")->counts, Counts{});
    EXPECT_EQ(loaded(), promised());
}

TEST_F(StatusTest, TheConditionIsReadBack)
{
    for (const auto condition : {Condition::contested, Condition::broken, Condition::absent, Condition::kept}) {
        directory_.file("tenants").describe(network_, 7, condition, {});
        EXPECT_EQ(directory_.load("tenants")->condition, condition);
    }
}

TEST_F(StatusTest, GrowsWithThePorts)
{
    auto status = directory_.save(network_, 7);
    for (unsigned i = 1; i <= 300; ++i) {
        status.update(network_, network_.plug(uuid(i), mac(i), {1 + i % 3}).uuid);
        if (i % 60 == 0) {
            EXPECT_EQ(loaded(), promised());
        }
    }
    status.update(network_, network_.plug(uuid(999), mac(999), {1}, ClassId{65535}).uuid);
    EXPECT_EQ(loaded(), promised());
    network_.unplug(uuid(999));
    status.update(network_, uuid(999));
    EXPECT_EQ(loaded(), promised());
    EXPECT_LT(fs::file_size(file()), 16u << 20);
    EXPECT_EQ(mode_of(file()), 0600u);
}

TEST_F(StatusTest, RecordsCrossNoPage)
{
    Network longest(std::string(200, 'n'), "virbr1234567890", {max_rate, max_rate, {}, max_burst}, {65535});
    longest.plug(uuid(1), mac(1), max_rate, ClassId{65535});
    directory_.save(longest, 7);
    const auto saved = directory_.load(longest.name()).value();
    EXPECT_EQ(saved.ports.at(0).floor, max_rate);
    const std::string whole = read_text(temporary_.path() / "state/net" / (longest.name() + ".xml"));
    const auto at = whole.find("    <port uuid");
    EXPECT_EQ(at % 128, 0u);
    EXPECT_EQ(whole[at + 127], '\n');
    EXPECT_EQ(whole.find('\n', at), at + 127);
}

TEST_F(StatusTest, NamesAreEscaped)
{
    Network odd("a&b'<c>", "br\"0", rate(5), {1500});
    directory_.save(odd, 7);
    EXPECT_EQ(directory_.load("a&b'<c>")->bridge, "br\"0");
    EXPECT_EQ(directory_.networks(), std::vector<std::string>{"a&b'<c>"});
}

TEST_F(StatusTest, AStartIsWrittenDownBeforeItHappens)
{
    EXPECT_FALSE(directory_.has("intended"));
    directory_.save(Network("intended", "", rate(5), {1500}), no_ifindex);
    EXPECT_TRUE(directory_.has("intended"));
    const auto saved = directory_.load("intended").value();
    EXPECT_EQ(saved.bridge, "");
    EXPECT_EQ(saved.ifindex, no_ifindex);
}

TEST_F(StatusTest, ANameThatIsNoFileNameIsRefused)
{
    for (const char* name : {"", "a/b", "../x"}) {
        EXPECT_REFUSED(invalid_xml, directory_.load(name));
        EXPECT_REFUSED(invalid_xml, directory_.remove(name));
        EXPECT_REFUSED(invalid_xml, directory_.set_aside(name));
        EXPECT_REFUSED(invalid_xml, directory_.save(Network(name, "b", rate(1), {1500}), 7));
    }
}

TEST_F(StatusTest, ListsAndRemoves)
{
    EXPECT_FALSE(directory_.load("tenants"));
    directory_.save(network_, 7);
    directory_.save(Network("other", "virbr8", rate(5), {1500}), 7);
    write_text(file().parent_path() / "note.txt", "x");
    auto names = directory_.networks();
    std::sort(names.begin(), names.end());
    EXPECT_EQ(names, (std::vector<std::string>{"other", "tenants"}));
    directory_.remove("other");
    directory_.remove("other");
    EXPECT_EQ(directory_.networks(), std::vector<std::string>{"tenants"});
}

TEST_F(StatusTest, SetsAFileAside)
{
    directory_.save(network_, 7);
    const auto aside = directory_.set_aside("tenants");
    EXPECT_EQ(aside.filename(), "tenants.xml.damaged");
    EXPECT_TRUE(fs::exists(aside));
    EXPECT_FALSE(directory_.load("tenants"));
    EXPECT_TRUE(directory_.networks().empty());
    EXPECT_EQ(error_of([&] { directory_.set_aside("tenants"); }).system_errno(), ENOENT);
}

// A crash in the middle of a write leaves the file behind that was to take the other's place.
TEST_F(StatusTest, WhatACrashCutOffIsRemovedAtTheNextStart)
{
    directory_.save(network_, 7);
    const fs::path folder = file().parent_path();
    for (const char* name : {"tenants.xml.A1b2C3", "tenants.xml.damaged", "a.xml.ABCDE", "a.xml.ABCDE!", "ABCDEF",
                             "a.txt.ABCDEF", "a.xml.ABCDEF.xml"})
        write_text(folder / name, "<floor");
    StatusDirectory again(folder);
    std::set<std::string> left;
    for (const auto& entry : fs::directory_iterator(folder))
        left.insert(entry.path().filename());
    EXPECT_EQ(left, (std::set<std::string>{"tenants.xml", "tenants.xml.damaged", "a.xml.ABCDE", "a.xml.ABCDE!",
                                           "ABCDEF", "a.txt.ABCDEF", "a.xml.ABCDEF.xml"}));
    EXPECT_TRUE(again.load("tenants"));
}

TEST_F(StatusTest, DamagedFilesAreRefused)
{
    network_.plug(uuid(1), mac(1), {300});
    network_.plug(uuid(2), mac(2), {400});
    directory_.save(network_, 7);
    const std::string whole = text();
    const auto refused = [&](const std::string& damaged) {
        write_text(file(), damaged);
        EXPECT_REFUSED(invalid_xml, directory_.load("tenants"));
    };
    for (std::size_t length = 0; length + 2 < whole.size(); length += 97)
        refused(whole.substr(0, length));
    refused("garbage");
    refused(std::string(2000, '\0'));
    refused("<network/>");
    refused("<floornetwork/>");
    const auto changed = [&](const std::string& old, const std::string& by) {
        std::string copy = whole;
        const auto at = copy.find(old);
        ASSERT_NE(at, std::string::npos) << old;
        SCOPED_TRACE(old);
        refused(copy.replace(at, old.size(), by));
    };
    changed("<name>tenants<", "<name>others<");
    changed("bridge name='virbr7'", "bridge name=''");
    changed("ifindex='7'", "ifindex='-1'");
    changed("ifindex='7'", "ifindex='2147483648'");
    changed("ifindex='7' ", "");
    changed("average='10000'", "average='0'");
    changed("mtu='9000'", "mtu='many'");
    changed("mtu='9000'", "mtu='4294967296'");
    changed("<inbound", "<outbound");
    changed("<bandwidth>", "<bandwidht>\n</bandwidht><bandwidth2>");
    changed("refusals='0'", "refusals='18446744073709551616'");
    changed("refusals='0'", "refusals=''");
    changed("repairs='0'", "repairs='-1'");
    changed(" repairs='0'", "");
    changed("<counts", "<tree state='odd'/><counts");
    changed("<counts", "<tree/><counts");
    changed(uuid(1).text(), "0ff1ce");
    changed(mac(1).text(), "nonsense");
    changed("class='3'", "class='65536'");
    changed("class='3'", "class='-3'");
    changed("floor='300'", "floor='x'");
    changed("floor='300'", "floor='18014398509481985'");
}

// What no file of ours has is damage too.
TEST_F(StatusTest, FilesThatContradictThemselvesAreRefused)
{
    network_.plug(uuid(1), mac(1), {300});
    network_.plug(uuid(2), mac(2), {400});
    directory_.save(network_, 7);
    const std::string whole = text();
    for (const auto& [old, by] :
         std::vector<std::pair<std::string, std::string>>{{uuid(2).text(), uuid(1).text()},
                                                          {mac(2).text(), mac(1).text()} /* one address, two classes */,
                                                          {"class='4'", "class='3'"},
                                                          {"class='4'", "class='2'"},
                                                          {"floor='400'", "floor='0'"}}) {
        std::string copy = whole;
        copy.replace(copy.find(old), old.size(), by);
        write_text(file(), copy);
        SCOPED_TRACE(old + " becomes " + by);
        EXPECT_REFUSED(invalid_xml, directory_.load("tenants"));
    }
}

TEST_F(StatusTest, FollowsNoSymbolicLink)
{
    directory_.save(network_, 7);
    const auto other = temporary_.path() / "other.xml";
    fs::rename(file(), other);
    fs::create_symlink(other, file());
    EXPECT_EQ(error_of([&] { directory_.load("tenants"); }).system_errno(), ELOOP);
    const std::string before = read_text(other);
    network_.plug(uuid(1), mac(1), {300});
    directory_.save(network_, 7);
    EXPECT_EQ(read_text(other), before);
    EXPECT_FALSE(fs::is_symlink(file()));
    fs::remove(file());
    fs::create_symlink("/nowhere/at/all", file());
    EXPECT_THROW(directory_.load("tenants"), Error);
}

TEST_F(StatusTest, ReadsRegularFilesOfBoundedSizeAlone)
{
    EXPECT_EQ(error_of([&] { read_file(temporary_.path(), 100); }).refusal(), Refusal::system);
    EXPECT_EQ(error_of([&] { read_file("/dev/null", 100); }).system_errno(), EINVAL);
    EXPECT_EQ(error_of([&] { read_file(temporary_.path() / "no", 100); }).system_errno(), ENOENT);
    write_text(temporary_.path() / "f", std::string(101, 'x'));
    EXPECT_EQ(error_of([&] { read_file(temporary_.path() / "f", 100); }).system_errno(), EFBIG);
    EXPECT_EQ(read_file(temporary_.path() / "f", 101).size(), 101u);
    ASSERT_EQ(mkfifo((temporary_.path() / "p").c_str(), 0600), 0);
    EXPECT_EQ(error_of([&] { read_file(temporary_.path() / "p", 100); }).system_errno(), EINVAL);
}

TEST_F(StatusTest, TellsADirectoryThatCannotBe)
{
    write_text(temporary_.path() / "f", "x");
    EXPECT_EQ(error_of([&] { StatusDirectory(temporary_.path() / "f/d"); }).refusal(), Refusal::system);
    fs::remove_all(file().parent_path());
    EXPECT_EQ(error_of([&] { directory_.save(network_, 7); }).system_errno(), ENOENT);
    EXPECT_FALSE(directory_.load("tenants"));
}

TEST_F(StatusTest, ADirectoryOfOthersIsRefused)
{
    const auto directory = file().parent_path();
    for (const unsigned mode : {0777u, 01777u, 0720u, 0702u}) {
        ASSERT_EQ(chmod(directory.c_str(), mode), 0);
        EXPECT_THAT(error_of([&] { StatusDirectory{directory}; }).what(),
                    HasSubstr("may be written to by other users"));
    }
    ASSERT_EQ(chmod(directory.c_str(), 0700), 0);
    const auto link = temporary_.path() / "link";
    fs::create_symlink(directory, link);
    EXPECT_THAT(error_of([&] { StatusDirectory{link}; }).what(), HasSubstr("remove it and restart"));
    if (geteuid() == 0) {
        ASSERT_EQ(chown(directory.c_str(), 12345, 0), 0);
        EXPECT_THAT(error_of([&] { StatusDirectory{directory}; }).what(), HasSubstr("belongs to another user"));
    }
}

TEST_F(StatusTest, ADirectoryThatOthersMayReadIsClosedToThem)
{
    const auto directory = file().parent_path();
    for (const unsigned mode : {0755u, 0711u, 02750u, 0500u}) {
        ASSERT_EQ(chmod(directory.c_str(), mode), 0);
        StatusDirectory{directory};
        EXPECT_EQ(mode_of(directory), 0700u);
    }
}

TEST_F(StatusTest, WhatStandsWhereAFileShouldIsSetAside)
{
    const fs::path aside = file().string() + ".damaged";
    const auto precious = temporary_.path() / "precious";
    write_text(precious, "x");
    const std::vector<std::function<void(const fs::path&)>> plants{
        [](const fs::path& path) { fs::create_directories(path / "in/it"); },
        [&](const fs::path& path) { fs::create_symlink(precious, path); },
        [&](const fs::path& path) { fs::create_directory_symlink(temporary_.path(), path); },
        [](const fs::path& path) { ASSERT_EQ(mkfifo(path.c_str(), 0600), 0); },
        [](const fs::path& path) { write_text(path, "rubbish"); },
    };
    for (const auto& there : plants)
        for (const auto& older : plants) {
            there(file());
            older(aside);
            EXPECT_THROW(directory_.load("tenants"), Error);
            EXPECT_EQ(directory_.set_aside("tenants"), aside);
            EXPECT_FALSE(directory_.load("tenants"));
            directory_.save(network_, 7);
            EXPECT_EQ(directory_.load("tenants")->ifindex, 7);
            directory_.remove("tenants");
            there(file());
            directory_.remove("tenants");
            EXPECT_TRUE(directory_.networks().empty());
            EXPECT_EQ(read_text(precious), "x");
            fs::remove_all(aside);
        }
}

TEST_F(StatusTest, OddNamesStayInTheDirectory)
{
    for (const std::string name : {".", "..", "...", ".hidden", "a.xml", "tenants.xml.damaged", "tenants.xml.AbCdEf",
                                   "-rf", "$(id)", "a b'\"<&>", "gr\xc3\xbc\xc3\x9f", "line\nbreak", "*"}) {
        const Network network(name, "virbr7", rate(5), {1500});
        directory_.save(network, 7);
        EXPECT_EQ(directory_.load(name)->name, name);
        EXPECT_EQ(directory_.networks(), std::vector<std::string>{name});
        EXPECT_EQ(directory_.set_aside(name).parent_path(), file().parent_path());
        fs::remove(file().parent_path() / (name + ".xml.damaged"));
        EXPECT_TRUE(fs::is_empty(file().parent_path())) << name;
    }
    const Network longest(std::string(NAME_MAX - 4, 'n'), "virbr7", rate(5), {1500});
    EXPECT_EQ(error_of([&] { directory_.save(longest, 7); }).system_errno(), ENAMETOOLONG);
    EXPECT_TRUE(fs::is_empty(file().parent_path()));
}

TEST_F(StatusTest, ListingADirectoryThatIsGoneIsAnErrorOfOurs)
{
    fs::remove_all(file().parent_path());
    try {
        directory_.networks();
    } catch (const Error& error) {
        EXPECT_EQ(error.refusal(), Refusal::system);
    } catch (const std::exception& error) {
        ADD_FAILURE() << "another exception: " << error.what();
    }
}

// Tools look at what a daemon writes, with whatever rights they have.
TEST_F(StatusTest, AToolReadsWithoutChangingAnything)
{
    const fs::path directory = file().parent_path();
    network_.plug(uuid(1), mac(1), {300});
    directory_.file("tenants").describe(network_, 7, Condition::absent, {.refusals = 3, .repairs = 4});
    write_text(directory / "tenants.xml.A1b2C3", "<floor");
    ASSERT_EQ(chmod(directory.c_str(), 0755), 0);
    EXPECT_EQ(list_status(directory), std::vector<std::string>{"tenants"});
    const auto saved = read_status(directory, "tenants").value();
    EXPECT_EQ(saved.bridge, "virbr7");
    EXPECT_EQ(saved.condition, Condition::absent);
    EXPECT_EQ(saved.counts, (Counts{.refusals = 3, .repairs = 4}));
    EXPECT_EQ(saved.ports.at(0), *network_.find(uuid(1)));
    EXPECT_EQ(mode_of(directory), 0755u);
    EXPECT_TRUE(fs::exists(directory / "tenants.xml.A1b2C3"));
    EXPECT_FALSE(read_status(directory, "other"));

    const fs::path missing = temporary_.path() / "missing";
    EXPECT_TRUE(list_status(missing).empty());
    EXPECT_FALSE(read_status(missing, "tenants"));
    EXPECT_FALSE(fs::exists(missing));
}

// One process writes, as fast as it can, what the other reads.
TEST_F(StatusTest, AToolReadsWhileItIsWritten)
{
    std::atomic<bool> stop = false;
    auto status = directory_.save(network_, 7);
    std::thread writer([&] {
        for (std::uint64_t round = 1; !stop; ++round) {
            status.describe(network_, 7, round % 50 ? Condition::kept : Condition::broken, {round, round});
            const unsigned port = 1 + static_cast<unsigned>(round % 12); // the file grows on the way
            if (network_.find(uuid(port)))
                network_.unplug(uuid(port));
            else
                network_.plug(uuid(port), mac(port), {round % 1000 + 1});
            status.update(network_, uuid(port));
        }
    });
    std::uint64_t seen = 0;
    for (int reads = 0; reads < 2000 || seen == 0; ++reads) {
        const auto saved = read_status(file().parent_path(), "tenants");
        EXPECT_TRUE(saved && saved->name == "tenants");
        seen = saved ? saved->counts.repairs : 1;
    }
    stop = true;
    writer.join();
}

TEST_F(StatusTest, AToolIsToldWhatStandsInItsWay)
{
    directory_.save(network_, 7);
    const fs::path directory = file().parent_path();
    write_text(file(), "<floornetwork>");
    const auto damaged = error_of([&] { read_status(directory, "tenants"); });
    EXPECT_EQ(damaged.refusal(), Refusal::invalid_xml);
    EXPECT_THAT(damaged.what(), HasSubstr(file().string()));
    EXPECT_REFUSED(invalid_xml, read_status(directory, "../tenants"));
    EXPECT_EQ(error_of([&] { list_status(file()); }).system_errno(), ENOTDIR);
    fs::remove(file());
    fs::create_symlink("/dev/null", file());
    EXPECT_EQ(error_of([&] { read_status(directory, "tenants"); }).system_errno(), ELOOP);
}

TEST(Descriptor, ClosesWithItsOwner)
{
    const int number = dup(0);
    {
        Descriptor first(number), second;
        second = std::move(first);
        EXPECT_EQ(second.get(), number);
        Descriptor third(std::move(second));
        EXPECT_EQ(second.get(), -1);
        EXPECT_NE(fcntl(number, F_GETFD), -1);
    }
    EXPECT_EQ(fcntl(number, F_GETFD), -1);
}

} // namespace
} // namespace virfloor::test
