// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A file system that fails while status is written.
#include "fake_files.h"
#include "support.h"
#include "virfloor/status.h"

#include <cerrno>
#include <map>

namespace virfloor::test {
namespace {

class StatusFault : public testing::Test {
protected:
    StatusFault() { network_.plug(uuid(1), mac(1), {300}); }

    std::vector<Port> loaded() { return directory_.load("tenants").value().ports; }

    TemporaryDirectory temporary_;
    FileFaults files_;
    StatusDirectory directory_{temporary_.path()};
    Network network_{"tenants", "virbr7", rate(10000), {1500}};
};

TEST_F(StatusFault, AFailedSaveLeavesTheOldFile)
{
    directory_.save(network_, 7);
    const auto before = read_text(temporary_.path() / "tenants.xml");
    network_.plug(uuid(2), mac(2), {300});
    for (const int error : {ENOSPC, EIO, EACCES, EROFS}) {
        files_.fail("g_file_set_contents_full", error);
        const auto thrown = error_of([&] { directory_.save(network_, 7); });
        EXPECT_EQ(thrown.refusal(), Refusal::system);
        EXPECT_EQ(thrown.system_errno(), error);
        EXPECT_THAT(thrown.what(), testing::HasSubstr("tenants.xml"));
        EXPECT_EQ(read_text(temporary_.path() / "tenants.xml"), before);
    }
}

TEST_F(StatusFault, ARecordThatCannotBeWrittenIsTold)
{
    auto status = directory_.save(network_, 7);
    for (const int error : {ENOSPC, EIO, EDQUOT}) {
        network_.plug(uuid(2), mac(2), {300});
        files_.fail("pwrite", error);
        EXPECT_EQ(error_of([&] { status.update(network_, uuid(2)); }).system_errno(), error);
        network_.unplug(uuid(2));
        status.update(network_, uuid(2));
        EXPECT_EQ(loaded().size(), 1u);
    }
    network_.plug(uuid(2), mac(2), {300});
    status.update(network_, uuid(2));
    EXPECT_EQ(loaded().size(), 2u);
    network_.unplug(uuid(2));
    files_.fail("pwrite", EIO);
    EXPECT_EQ(error_of([&] { status.update(network_, uuid(2)); }).system_errno(), EIO);
    EXPECT_EQ(loaded().size(), 2u);
    status.update(network_, uuid(2));
    EXPECT_EQ(loaded().size(), 1u);
}

// The caller takes its promise back, and with it the record: nothing of it may stay in the file.
TEST_F(StatusFault, AHalfWrittenRecordIsTakenBack)
{
    auto status = directory_.save(network_, 7);
    const auto before = read_text(temporary_.path() / "tenants.xml");
    network_.plug(uuid(2), mac(2), {300});
    files_.fail("pwrite", 0);
    EXPECT_EQ(error_of([&] { status.update(network_, uuid(2)); }).system_errno(), EIO);
    network_.unplug(uuid(2));
    status.update(network_, uuid(2));
    EXPECT_EQ(read_text(temporary_.path() / "tenants.xml"), before);
}

TEST_F(StatusFault, ARecordThatIsNotSynchronisedIsTakenBack)
{
    auto status = directory_.save(network_, 7);
    const auto before = read_text(temporary_.path() / "tenants.xml");
    network_.plug(uuid(2), mac(2), {300});
    files_.fail("fdatasync", EIO);
    EXPECT_EQ(error_of([&] { status.update(network_, uuid(2)); }).system_errno(), EIO);
    network_.unplug(uuid(2));
    status.update(network_, uuid(2));
    EXPECT_EQ(read_text(temporary_.path() / "tenants.xml"), before);
}

TEST_F(StatusFault, CountsThatCannotBeWrittenComeWithTheNextWrite)
{
    for (const char* function : {"pwrite", "fdatasync"})
        for (const int error : {0, ENOSPC}) {
            auto status = directory_.save(network_, 7);
            files_.fail(function, error);
            EXPECT_THROW(status.describe(network_, 7, Condition::kept, {.refusals = 5, .repairs = 6}), Error);
            EXPECT_FALSE(status.is_written());
            status.update(network_, uuid(1));
            EXPECT_TRUE(status.is_written());
            EXPECT_EQ(directory_.load("tenants")->counts, (Counts{.refusals = 5, .repairs = 6})) << function;
            EXPECT_EQ(loaded().size(), 1u);
        }
}

// What each call costs: counts come to no plug.
TEST_F(StatusFault, ACallIsOneWrite)
{
    auto status = directory_.save(network_, 7);
    const std::map<std::string, int> one_write{{"pwrite", 1}, {"fdatasync", 1}};
    files_.take_calls();
    network_.plug(uuid(2), mac(2), {300});
    status.update(network_, uuid(2));
    EXPECT_EQ(files_.take_calls(), one_write) << "a plug";
    network_.update(uuid(2), {400});
    status.update(network_, uuid(2));
    EXPECT_EQ(files_.take_calls(), one_write) << "a change";
    network_.unplug(uuid(2));
    status.update(network_, uuid(2));
    EXPECT_EQ(files_.take_calls(), one_write) << "an unplug";
    status.describe(network_, 7, Condition::kept, {.refusals = 1, .repairs = 0});
    EXPECT_EQ(files_.take_calls(), one_write) << "a refusal";
    status.describe(network_, 7, Condition::kept, {.refusals = 1, .repairs = 0});
    EXPECT_TRUE(files_.take_calls().empty()) << "nothing new";
}

TEST_F(StatusFault, AFileThatCannotGrowIsAsItWas)
{
    for (unsigned i = 2; i <= 8; ++i)
        network_.plug(uuid(i), mac(i), {300});
    auto status = directory_.save(network_, 7);
    const auto before = read_text(temporary_.path() / "tenants.xml");
    network_.plug(uuid(9), mac(9), {300});
    files_.fail("g_file_set_contents_full", ENOSPC);
    EXPECT_EQ(error_of([&] { status.update(network_, uuid(9)); }).system_errno(), ENOSPC);
    network_.unplug(uuid(9));
    status.update(network_, uuid(9));
    EXPECT_EQ(read_text(temporary_.path() / "tenants.xml"), before);
}

TEST_F(StatusFault, AFileThatCannotBeOpenedAgainIsStillInStep)
{
    for (unsigned i = 2; i <= 8; ++i)
        network_.plug(uuid(i), mac(i), {300});
    auto status = directory_.save(network_, 7);
    network_.plug(uuid(9), mac(9), {300});
    files_.fail("open to write", EMFILE);
    EXPECT_EQ(error_of([&] { status.update(network_, uuid(9)); }).system_errno(), EMFILE);
    files_.heal();
    network_.unplug(uuid(9));
    status.update(network_, uuid(9));
    EXPECT_EQ(loaded().size(), 8u);
    network_.plug(uuid(10), mac(10), {300});
    status.update(network_, uuid(10));
    EXPECT_EQ(loaded().size(), 9u);
}

// A file that could not be read once is not thrown away with its floors.
TEST_F(StatusFault, AReadThatFailsOnceIsTriedAgain)
{
    directory_.save(network_, 7);
    files_.fail("open to read", EIO);
    EXPECT_EQ(loaded().size(), 1u);
}

TEST_F(StatusFault, AFailedReadIsTold)
{
    directory_.save(network_, 7);
    files_.fail("open to read", EACCES, 0, 2);
    EXPECT_EQ(error_of([&] { directory_.load("tenants"); }).system_errno(), EACCES);
    files_.fail("rename", EROFS);
    EXPECT_EQ(error_of([&] { directory_.set_aside("tenants"); }).system_errno(), EROFS);
    EXPECT_EQ(loaded().size(), 1u);
}

} // namespace
} // namespace virfloor::test
