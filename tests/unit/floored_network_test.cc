// SPDX-License-Identifier: LGPL-2.1-or-later
#include "floored_network.h"

#include "fake_files.h"
#include "fake_kernel.h"
#include "netlink.h"
#include "request.h"
#include "support.h"

#include <linux/if_ether.h>

#include <algorithm>
#include <cerrno>
#include <thread>

namespace virfloor::test {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

class FlooredNetworkTest : public testing::Test {
protected:
    FlooredNetworkTest()
    {
        network_.write_down();
        network_.reconcile();
    }

    // Promises, file and kernel, as one text.
    std::string state()
    {
        std::string text = kernel_.picture() + taken_ids(network_.promises()) + " " +
                           std::to_string(network_.promises().floor_sum().count) + "\n";
        std::map<Uuid, Port> ports(network_.promises().ports().begin(), network_.promises().ports().end());
        for (const auto& [id, port] : ports)
            text += "port " + line(port);
        try {
            auto saved = saved_ports();
            std::sort(saved.begin(), saved.end(), [](const auto& a, const auto& b) { return a.uuid < b.uuid; });
            for (const auto& port : saved)
                text += "file " + line(port);
        } catch (const std::exception& error) {
            text += std::string("file is damaged: ") + error.what() + "\n";
        }
        return text;
    }
    std::vector<Port> saved_ports()
    {
        const auto saved = directory_.load("tenants");
        return saved ? saved->ports : std::vector<Port>{};
    }
    static std::string line(const Port& port)
    {
        return port.uuid.text() + " " + port.mac.text() + " " + std::to_string(port.id.minor) + " " +
               std::to_string(port.floor.count) + "\n";
    }
    Counts counted() { return directory_.load("tenants").value().counts; }
    void expect_in_step()
    {
        std::map<Uuid, Port> saved;
        for (const auto& port : saved_ports())
            saved.emplace(port.uuid, port);
        EXPECT_EQ(saved,
                  (std::map<Uuid, Port>(network_.promises().ports().begin(), network_.promises().ports().end())));
        EXPECT_EQ(network_.reconcile(), 0u);
    }
    // The call fails at each message to the kernel, in turn: everything is as before.
    void expect_refused_at_each_message(const std::function<void()>& call)
    {
        const std::string before = state();
        for (std::size_t number = 0; number < 20; ++number) {
            kernel_.heal();
            kernel_.fail_at(number, EPERM, "no");
            bool refused = false;
            try {
                call();
            } catch (const Error& error) {
                refused = true;
                EXPECT_EQ(error.system_errno(), EPERM);
            }
            if (!refused) {
                EXPECT_GT(number, 0u);
                break;
            }
            kernel_.heal();
            ASSERT_EQ(state(), before) << "message " << number;
        }
        kernel_.heal();
        expect_in_step();
    }
    void expect_refused_without_disk(const std::function<void()>& call)
    {
        const std::string before = state();
        for (const char* function : {"pwrite", "fdatasync"}) {
            files_.fail(function, ENOSPC);
            EXPECT_EQ(error_of(call).system_errno(), ENOSPC) << function;
            files_.heal();
            ASSERT_EQ(state(), before) << function;
        }
        expect_in_step();
    }

    static Network full_network()
    {
        Network full("tenants", "virbr7", rate(100000), {1500});
        for (unsigned id = first_port_class.minor; id <= last_class.minor; ++id)
            full.plug(uuid(id), mac(id), {1});
        return full;
    }

    FakeKernel kernel_;
    FileFaults files_;
    LogCapture log_;
    TemporaryDirectory temporary_;
    StatusDirectory directory_{temporary_.path()};
    FlooredNetwork network_{Network("tenants", "virbr7", rate(10000, 20000), {1500}),
                            tc::DeviceTree(std::make_shared<tc::Netlink>(20ms), "virbr7", Direction::inbound),
                            directory_};
};

TEST_F(FlooredNetworkTest, PlugsUpdatesAndUnplugs)
{
    EXPECT_EQ(network_.plug(uuid(1), mac(1), {300}, {}).id, ClassId{3});
    expect_in_step();
    network_.update(uuid(1), {500});
    expect_in_step();
    EXPECT_EQ(kernel_.classes.at(0x10003).rate, 500'000u);
    network_.plug(uuid(2), mac(2), {100}, ClassId{77});
    expect_in_step();
    network_.unplug(uuid(1));
    expect_in_step();
    EXPECT_FALSE(kernel_.classes.contains(0x10003));
    EXPECT_TRUE(kernel_.classes.contains(0x1004d));
}

TEST_F(FlooredNetworkTest, APlugIsFourMessages)
{
    kernel_.heal();
    network_.plug(uuid(1), mac(1), {300}, {});
    EXPECT_EQ(kernel_.changes, 4u); // catchment, class, leaf, match
    EXPECT_EQ(kernel_.dumps, 0u);
}

TEST_F(FlooredNetworkTest, ARefusedFloorTouchesNothing)
{
    const std::string before = state();
    kernel_.heal();
    EXPECT_REFUSED(operation_invalid, network_.plug(uuid(1), mac(1), {20001}, {}));
    EXPECT_EQ(kernel_.changes, 0u);
    EXPECT_EQ(state(), before);
}

TEST_F(FlooredNetworkTest, RefusalsAreCounted)
{
    EXPECT_REFUSED(operation_invalid, network_.plug(uuid(1), mac(1), {20001}, {}));
    EXPECT_EQ(counted(), (Counts{.refusals = 1, .repairs = 0}));
    network_.plug(uuid(1), mac(1), {300}, {});
    EXPECT_REFUSED(operation_invalid, network_.update(uuid(1), {20001}));
    EXPECT_EQ(counted().refusals, 2u);
    network_.count_refusal();
    EXPECT_EQ(counted().refusals, 3u);
    expect_in_step();
}

TEST_F(FlooredNetworkTest, ARefusalForWantOfClassIdsIsCounted)
{
    FlooredNetwork full(full_network(),
                        tc::DeviceTree(std::make_shared<tc::Netlink>(20ms), "virbr7", Direction::inbound), directory_);
    full.write_down();
    EXPECT_REFUSED(operation_invalid, full.plug(uuid(70000), mac(70000), {1}, {}));
    EXPECT_REFUSED(operation_invalid, full.reclaim(uuid(70000), mac(70000), {1}, {}));
    EXPECT_EQ(counted().refusals, 2u);
}

// What the kernel or the disk refused is no want of room.
TEST_F(FlooredNetworkTest, OtherErrorsAreNoRefusals)
{
    kernel_.fail_at(kernel_.changes, EPERM);
    EXPECT_EQ(error_of([&] { network_.plug(uuid(1), mac(1), {300}, {}); }).system_errno(), EPERM);
    files_.fail("pwrite", ENOSPC);
    EXPECT_EQ(error_of([&] { network_.plug(uuid(1), mac(1), {300}, {}); }).system_errno(), ENOSPC);
    kernel_.heal();
    network_.reconcile();
    EXPECT_EQ(counted(), Counts{});
}

TEST_F(FlooredNetworkTest, ACountThatCannotBeWrittenChangesNothingElse)
{
    files_.fail("pwrite", ENOSPC);
    files_.fail("g_file_set_contents_full", ENOSPC);
    for (int i = 0; i < 2; ++i)
        EXPECT_REFUSED(operation_invalid, network_.plug(uuid(1), mac(1), {20001}, {}));
    EXPECT_EQ(LogCapture::lines().size(), 1u) << LogCapture::text();
    files_.heal();
    network_.plug(uuid(1), mac(1), {300}, {});
    EXPECT_EQ(counted().refusals, 2u);
    expect_in_step();

    kernel_.clear();
    files_.fail("pwrite", EIO, 1); // the first is the port's record
    network_.plug(uuid(2), mac(2), {300}, {});
    EXPECT_EQ(kernel_.classes.size(), 4u);
    network_.write_down();
    EXPECT_EQ(counted(), (Counts{.refusals = 2, .repairs = 1}));
    expect_in_step();
}

// Neither to the disk nor to the kernel.
TEST_F(FlooredNetworkTest, CountingMakesNoCallDearer)
{
    const std::map<std::string, int> one_write{{"pwrite", 1}, {"fdatasync", 1}};
    files_.take_calls();
    kernel_.heal();
    network_.plug(uuid(1), mac(1), {300}, {});
    EXPECT_EQ(files_.take_calls(), one_write) << "plug";
    network_.update(uuid(1), {400});
    EXPECT_EQ(files_.take_calls(), one_write) << "update";
    network_.unplug(uuid(1));
    EXPECT_EQ(files_.take_calls(), one_write) << "unplug";
    EXPECT_EQ(kernel_.dumps, 0u);
}

TEST_F(FlooredNetworkTest, APlugThatTheKernelRefusesIsUndone)
{
    network_.plug(uuid(9), mac(9), {100}, {});
    expect_refused_at_each_message([&] { network_.plug(uuid(1), mac(1), {300}, {}); });
}

TEST_F(FlooredNetworkTest, AnUpdateThatTheKernelRefusesIsUndone)
{
    network_.plug(uuid(1), mac(1), {300}, {});
    expect_refused_at_each_message([&] { network_.update(uuid(1), {15000}); });
}

TEST_F(FlooredNetworkTest, AnUnplugThatTheKernelRefusesIsUndone)
{
    network_.plug(uuid(1), mac(1), {300}, {});
    network_.plug(uuid(2), mac(2), {300}, {});
    expect_refused_at_each_message([&] { network_.unplug(uuid(1)); });
}

TEST_F(FlooredNetworkTest, AReclaimThatTheKernelRefusesIsUndone)
{
    expect_refused_at_each_message([&] { network_.reclaim(uuid(1), mac(1), {30000}, ClassId{50}); });
    EXPECT_EQ(network_.promises().find(uuid(1))->id, ClassId{50});
}

TEST_F(FlooredNetworkTest, AFullDiskRefusesEachCall)
{
    network_.plug(uuid(1), mac(1), {300}, {});
    expect_refused_without_disk([&] { network_.plug(uuid(2), mac(2), {300}, {}); });
    expect_refused_without_disk([&] { network_.update(uuid(1), {400}); });
    expect_refused_without_disk([&] { network_.unplug(uuid(1)); });
}

// The file has no record left, and cannot grow.
TEST_F(FlooredNetworkTest, AFullDiskRefusesAPortThatNeedsALargerFile)
{
    for (unsigned i = 1; i <= 8; ++i)
        network_.plug(uuid(i), mac(i), {300}, {});
    const std::string before = state();
    files_.fail("g_file_set_contents_full", ENOSPC);
    EXPECT_EQ(error_of([&] { network_.plug(uuid(9), mac(9), {300}, {}); }).system_errno(), ENOSPC);
    EXPECT_EQ(state(), before);
    files_.heal();
    network_.plug(uuid(9), mac(9), {300}, {});
    expect_in_step();
}

TEST_F(FlooredNetworkTest, PortsOfOneMacShareAClassInTheKernel)
{
    network_.plug(uuid(1), mac(1), {300}, {});
    network_.plug(uuid(2), mac(1), {400}, {});
    EXPECT_EQ(kernel_.classes.size(), 3u);
    EXPECT_EQ(kernel_.classes.at(0x10003).rate, 400'000u);
    expect_in_step();
    network_.unplug(uuid(2));
    EXPECT_EQ(kernel_.classes.at(0x10003).rate, 300'000u);
    expect_in_step();
    network_.unplug(uuid(1));
    EXPECT_EQ(kernel_.classes.size(), 2u);
    expect_in_step();
}

TEST_F(FlooredNetworkTest, AKernelThatDoesNotAnswerIsAnError)
{
    const std::string before = state();
    for (const bool done : {false, true}) {
        kernel_.heal();
        kernel_.fault = [=](std::size_t at, const nlmsghdr&) {
            return at == 1 ? std::optional(FakeKernel::Fault{0, "", true, done}) : std::nullopt;
        };
        EXPECT_EQ(error_of([&] { network_.plug(uuid(1), mac(1), {300}, {}); }).system_errno(), ETIMEDOUT);
        kernel_.heal();
        kernel_.queue.clear();
        EXPECT_EQ(state(), before);
    }
    network_.plug(uuid(1), mac(1), {300}, {});
    expect_in_step();
}

TEST_F(FlooredNetworkTest, DriftIsPutRightByTheNextCall)
{
    network_.plug(uuid(1), mac(1), {300}, {});
    network_.plug(uuid(2), mac(2), {300}, {});
    kernel_.clear();
    network_.plug(uuid(3), mac(3), {300}, {});
    EXPECT_THAT(LogCapture::text(), HasSubstr("changed by somebody else"));
    expect_in_step();
    kernel_.clear();
    network_.update(uuid(1), {400});
    expect_in_step();
    kernel_.clear();
    network_.unplug(uuid(1));
    expect_in_step();
    // Our tables outlive their preference beside the reservation, and take the match without a word:
    // it is the next look at the kernel that shows what is missing.
    kernel_.remove_preference(10);
    network_.plug(uuid(1), mac(1), {300}, {});
    EXPECT_GT(network_.reconcile(), 0u);
    expect_in_step();
    EXPECT_EQ(kernel_.classes.size(), 5u);
}

TEST_F(FlooredNetworkTest, EachErrnoThatSpeaksOfDriftIsMended)
{
    unsigned number = 10;
    for (const int error : {EBUSY, EEXIST, EINVAL, ENODEV, ENOENT, ENOSPC, ESRCH}) {
        kernel_.heal();
        kernel_.fail_at(1, error);
        ++number;
        EXPECT_NO_THROW(network_.plug(uuid(number), mac(number), {10}, {})) << error;
        kernel_.heal();
        expect_in_step();
    }
    EXPECT_EQ(counted(), Counts{}); // nobody had changed anything
}

TEST_F(FlooredNetworkTest, DriftThatACallPutsRightIsCountedOnce)
{
    for (unsigned i = 1; i <= 3; ++i)
        network_.plug(uuid(i), mac(i), {300}, {});
    std::uint64_t repairs = 0;
    const auto expect_counted = [&](const char* what) {
        EXPECT_EQ(counted().repairs, ++repairs) << what;
        expect_in_step();
        EXPECT_EQ(counted().repairs, repairs) << what;
    };
    kernel_.clear();
    network_.plug(uuid(4), mac(4), {300}, {});
    expect_counted("a plug");
    kernel_.clear();
    network_.update(uuid(1), {400});
    expect_counted("a change");
    kernel_.clear();
    network_.unplug(uuid(1));
    expect_counted("an unplug");
    kernel_.clear();
    network_.forget(uuid(2));
    expect_counted("an unplug that cannot fail");
    kernel_.classes.at(0x10005).rate = 1;
    network_.reconcile();
    expect_counted("a reload");
}

// Another daemon was here before: what its file says goes on.
TEST_F(FlooredNetworkTest, CountsGoOnAfterARestart)
{
    network_.plug(uuid(1), mac(1), {300}, {});
    network_.count_refusal();
    const auto restarted = [&](const std::function<void(SavedNetwork&)>& change) {
        SavedNetwork left = directory_.load("tenants").value();
        change(left);
        Network promises("tenants", "virbr7", rate(10000, 20000), {1500});
        for (const Port& port : left.ports)
            promises.restore(port.uuid, port.mac, port.floor, port.id);
        FlooredNetwork again(std::move(promises),
                             tc::DeviceTree(std::make_shared<tc::Netlink>(20ms), "virbr7", Direction::inbound),
                             directory_);
        again.go_on_from(left);
        again.write_down();
        again.reconcile();
        return counted();
    };
    EXPECT_EQ(restarted([](auto&) {}), (Counts{.refusals = 1, .repairs = 0}));
    kernel_.classes.at(0x10003).rate = 1;
    EXPECT_EQ(restarted([](auto&) {}), (Counts{.refusals = 1, .repairs = 1}));
    EXPECT_EQ(restarted([](auto&) {}), (Counts{.refusals = 1, .repairs = 1}));
    // Those trees were not ours, or not as they should be when they were left.
    kernel_.clear();
    EXPECT_EQ(restarted([](auto& left) { left.ifindex = no_ifindex; }).repairs, 1u);
    kernel_.clear();
    EXPECT_EQ(restarted([](auto& left) { left.condition = Condition::broken; }).repairs, 1u);
}

TEST_F(FlooredNetworkTest, ABridgeThatIsGoneIsAnError)
{
    const std::string before = state();
    kernel_.device = "";
    EXPECT_EQ(error_of([&] { network_.plug(uuid(1), mac(1), {300}, {}); }).system_errno(), ENODEV);
    kernel_.device = "virbr7";
    EXPECT_EQ(state(), before);
    network_.plug(uuid(1), mac(1), {300}, {});
    expect_in_step();
}

TEST_F(FlooredNetworkTest, ForgettingNeverFails)
{
    network_.plug(uuid(1), mac(1), {300}, {});
    network_.plug(uuid(2), mac(2), {300}, {});
    kernel_.fault = [](std::size_t, const nlmsghdr&) {
        return std::optional(FakeKernel::Fault{EPERM, "no", false, false});
    };
    files_.fail("pwrite", EIO);
    network_.forget(uuid(1));
    EXPECT_EQ(LogCapture::lines().size(), 2u);
    EXPECT_THAT(LogCapture::text(), HasSubstr("tenants"));
    EXPECT_EQ(network_.promises().find(uuid(1)), nullptr);
    kernel_.heal();
    files_.heal();
    // The next call mends the kernel.
    network_.plug(uuid(3), mac(3), {300}, {});
    EXPECT_EQ(network_.reconcile(), 0u);
    EXPECT_EQ(kernel_.classes.size(), 4u);
}

TEST_F(FlooredNetworkTest, ForgetsAPort)
{
    network_.plug(uuid(1), mac(1), {300}, {});
    network_.forget(uuid(1));
    expect_in_step();
    EXPECT_EQ(kernel_.classes.size(), 2u);
    EXPECT_TRUE(LogCapture::lines().empty());
}

TEST_F(FlooredNetworkTest, StaysInStepThroughRandomCallsAndTrouble)
{
    std::mt19937 random(5);
    for (int i = 0; i < 1500; ++i) {
        kernel_.heal();
        files_.heal();
        if (random() % 5 == 0)
            kernel_.fail_at(random() % 4, random() % 2 ? EPERM : EBUSY);
        if (random() % 9 == 0)
            files_.fail("pwrite", ENOSPC);
        const unsigned number = random() % 30;
        const KilobytesPerSecond floor{1 + random() % 1500};
        try {
            if (!network_.promises().find(uuid(number)))
                network_.plug(uuid(number), mac((number % 15) << 8 | number / 15), floor, {});
            else if (random() % 2)
                network_.update(uuid(number), floor);
            else
                network_.unplug(uuid(number));
        } catch (const Error&) {
        }
        kernel_.heal();
        files_.heal();
        if (i % 50 == 0) {
            network_.reconcile();
            expect_in_step();
        }
        if (HasFailure())
            return;
    }
}

// --- looked after

class TendedNetworkTest : public FlooredNetworkTest {
protected:
    using About = tc::Notice::About;

    void notice(About about, int ifindex = FakeKernel::ifindex, std::string name = "virbr7")
    {
        network_.notice({about, ifindex, std::move(name)}, now_);
    }
    // As the event loop does, until nothing is left to be done or for so long. Returns the calls.
    int tend(FlooredNetwork::Clock::duration most = 1h)
    {
        const auto end = now_ + most;
        int calls = 0;
        for (auto next = network_.next_tending(now_); next && *next <= end; next = network_.next_tending(now_)) {
            now_ = std::max(now_, *next);
            network_.tend(now_);
            ++calls;
        }
        return calls;
    }
    std::string file() { return read_file(temporary_.path() / "tenants.xml", 1 << 20); }

    FlooredNetwork::Time now_{1h};
};

TEST_F(TendedNetworkTest, ThatIsInStepIsLeftAlone)
{
    network_.plug(uuid(1), mac(1), {300}, {});
    kernel_.heal();
    EXPECT_EQ(tend(), 0);
    network_.tend(now_);
    EXPECT_EQ(kernel_.changes + kernel_.dumps, 0u);
}

TEST_F(TendedNetworkTest, IsPutRightAfterANotice)
{
    network_.plug(uuid(1), mac(1), {300}, {});
    const std::string before = state();
    kernel_.classes.at(0x10003).rate = 1;
    notice(About::traffic_control);
    const auto start = now_;
    EXPECT_EQ(tend(), 1);
    EXPECT_LE(now_ - start, 100ms);
    EXPECT_EQ(state(), before);
    EXPECT_THAT(LogCapture::text(), HasSubstr("not as it should be"));
    EXPECT_EQ(counted(), (Counts{.refusals = 0, .repairs = 1}));
}

// The notice is there, but the event loop was not: the call's own change is no repair.
TEST_F(TendedNetworkTest, ACallThatComesBeforeTheLookCountsOthersChangesAlone)
{
    notice(About::traffic_control);
    network_.plug(uuid(1), mac(1), {300}, {});
    notice(About::traffic_control);
    network_.update(uuid(1), {400});
    notice(About::traffic_control);
    network_.unplug(uuid(1));
    tend();
    EXPECT_EQ(counted().repairs, 0u);
    network_.plug(uuid(1), mac(1), {300}, {});
    kernel_.classes.at(0x10003).rate = 1;
    notice(About::traffic_control);
    network_.unplug(uuid(1));
    EXPECT_EQ(counted().repairs, 1u);
    kernel_.clear();
    notice(About::traffic_control);
    network_.plug(uuid(1), mac(1), {300}, {});
    tend();
    EXPECT_EQ(counted().repairs, 2u);
    expect_in_step();
}

TEST_F(TendedNetworkTest, IsPutRightThoughTheCountCannotBeWritten)
{
    network_.plug(uuid(1), mac(1), {300}, {});
    const std::string before = state();
    kernel_.classes.at(0x10003).rate = 1;
    files_.fail("pwrite", EIO);
    files_.fail("g_file_set_contents_full", ENOSPC, 0, 2);
    notice(About::traffic_control);
    tend();
    EXPECT_EQ(state(), before);
    EXPECT_EQ(counted().repairs, 1u);
}

TEST_F(TendedNetworkTest, DoesNotCareForOtherDevices)
{
    kernel_.heal();
    notice(About::traffic_control, 8);
    notice(About::device_gone, 8);
    notice(About::device, 8, "vnet0");
    notice(About::device); // nothing that concerns a tree
    EXPECT_EQ(tend(), 0);
    EXPECT_EQ(kernel_.dumps, 0u);
}

TEST_F(TendedNetworkTest, IsReadButNotChangedForWhatIsForeign)
{
    kernel_.add_u32(5, 3, mac(77), 0x10002);
    const std::string before = state();
    kernel_.heal();
    for (int i = 0; i < 100; ++i) {
        notice(About::traffic_control);
        now_ += 1ms;
    }
    tend();
    EXPECT_EQ(kernel_.changes, 0u);
    EXPECT_EQ(state(), before);
    EXPECT_TRUE(LogCapture::lines().empty());
}

TEST_F(TendedNetworkTest, FollowsAGuestToAnotherAddress)
{
    network_.plug(uuid(1), mac(1), {300}, {});
    network_.plug(uuid(2), mac(2), {300}, {});
    kernel_.add_u32(libvirt_preference, ETH_P_IP, mac(77), 0x10003); // as libvirt's QEMU driver does
    notice(About::traffic_control);
    EXPECT_EQ(tend(), 1);
    const auto of_ours = [this] {
        return std::count_if(kernel_.nodes.begin(), kernel_.nodes.end(), [](const auto& at) {
            return at.second.preference == our_preference && at.second.target == 0x10003;
        });
    };
    EXPECT_EQ(of_ours(), 2);
    LogCapture::lines().clear();
    network_.plug(uuid(3), mac(77), {100}, {}); // which is promised to another now
    EXPECT_EQ(of_ours(), 1);
    network_.unplug(uuid(3));
    EXPECT_EQ(of_ours(), 2);
    network_.unplug(uuid(1));
    EXPECT_EQ(of_ours(), 0);
    EXPECT_TRUE(LogCapture::lines().empty()) << LogCapture::text();
    expect_in_step();
    EXPECT_EQ(counted(), Counts{}); // a guest that is followed is no repair
}

// The kernel lets go of a table some time after its link; somebody else may hold it for ever.
TEST_F(TendedNetworkTest, DeletesTablesThatAreNotUsed)
{
    for (unsigned i = 1; i <= 9; ++i)
        network_.plug(uuid(i), mac(i << 8), {10}, {});
    const std::size_t tables = kernel_.tables.size();
    kernel_.fault = [](std::size_t, const nlmsghdr& message) -> std::optional<FakeKernel::Fault> {
        const bool table = message.nlmsg_type == RTM_DELTFILTER &&
                           (static_cast<const tcmsg*>(NLMSG_DATA(&message))->tcm_handle & 0xfffff) == 0;
        return table ? std::optional(FakeKernel::Fault{EBUSY, "in use", false, false}) : std::nullopt;
    };
    for (unsigned i = 1; i <= 9; ++i)
        network_.unplug(uuid(i));
    EXPECT_EQ(kernel_.tables.size(), tables);
    EXPECT_LT(tend(1min), 70);
    EXPECT_TRUE(LogCapture::lines().empty());
    kernel_.heal();
    tend(2s);
    EXPECT_EQ(kernel_.tables.size(), tables - 1);
}

TEST_F(TendedNetworkTest, IsReadWhenNoticesWereLost)
{
    kernel_.clear();
    notice(About::anything, 0, "");
    tend();
    EXPECT_EQ(kernel_.classes.size(), 2u);
}

TEST_F(TendedNetworkTest, BacksOffFromSomebodyWhoKeepsUndoingIt)
{
    kernel_.heal();
    const auto undo = [this] {
        kernel_.clear();
        notice(About::traffic_control);
    };
    int repairs = 0;
    undo();
    for (const auto end = now_ + 10min; now_ < end;) {
        const auto next = network_.next_tending(now_);
        ASSERT_TRUE(next);
        now_ = std::max(now_, *next);
        network_.tend(now_);
        if (!kernel_.classes.empty()) {
            ++repairs;
            undo();
        }
    }
    EXPECT_GT(repairs, 10);
    EXPECT_LT(repairs, 40);
    EXPECT_EQ(LogCapture::lines().size(), 2u) << LogCapture::text(); // the first repair, and the fight
    EXPECT_THAT(file(), HasSubstr("<tree state='contested'/>"));
    EXPECT_EQ(counted().repairs, static_cast<std::uint64_t>(repairs));

    tend();
    EXPECT_EQ(counted().repairs, static_cast<std::uint64_t>(repairs) + 1);
    EXPECT_EQ(kernel_.classes.size(), 2u);
    EXPECT_THAT(file(), testing::Not(HasSubstr("<tree")));
    EXPECT_EQ(LogCapture::lines().size(), 3u) << LogCapture::text();
    // What comes later is put right at once again.
    undo();
    const auto start = now_;
    tend();
    EXPECT_LE(now_ - start, 100ms);
}

TEST_F(TendedNetworkTest, BeginsAnewWhenItIsAsked)
{
    kernel_.heal();
    const auto undo = [this] {
        kernel_.clear();
        notice(About::traffic_control);
    };
    for (const auto end = now_ + 10min; now_ < end && file().find("contested") == std::string::npos;) {
        undo();
        now_ = std::max(now_, network_.next_tending(now_).value_or(now_));
        network_.tend(now_);
    }
    ASSERT_THAT(file(), HasSubstr("<tree state='contested'/>"));

    network_.reconcile();
    network_.begin_anew(now_);

    now_ += Pacer::settling;
    network_.tend(now_);
    EXPECT_THAT(file(), testing::Not(HasSubstr("<tree")));
    undo();
    const auto start = now_;
    tend();
    EXPECT_LE(now_ - start, 100ms);
}

TEST_F(TendedNetworkTest, IsTriedAgainWhenTheKernelRefuses)
{
    network_.plug(uuid(1), mac(1), {300}, {});
    const std::string before = state();
    kernel_.classes.at(0x10003).rate = 1;
    kernel_.fault = [](std::size_t, const nlmsghdr&) {
        return std::optional(FakeKernel::Fault{ENOMEM, "no", false, false});
    };
    notice(About::traffic_control);
    EXPECT_LT(tend(10min), 40);
    EXPECT_EQ(LogCapture::lines().size(), 1u) << LogCapture::text();
    EXPECT_THAT(file(), HasSubstr("<tree state='broken'/>"));
    EXPECT_EQ(counted().repairs, 0u);
    kernel_.heal();
    tend();
    EXPECT_EQ(state(), before);
    EXPECT_THAT(file(), testing::Not(HasSubstr("<tree")));
    EXPECT_EQ(counted().repairs, 1u);
}

TEST_F(TendedNetworkTest, MendsWhatForgettingCouldNot)
{
    const std::string before = state();
    for (int i = 0; i < 30; ++i) {
        network_.plug(uuid(1), mac(1), {300}, {});
        kernel_.fail_at(kernel_.changes, EPERM);
        network_.forget(uuid(1));
        kernel_.heal();
        const auto start = now_;
        tend();
        EXPECT_EQ(state(), before);
        EXPECT_LE(now_ - start, 5s); // nobody fights with us: a row of 30 would take a minute
    }
    EXPECT_EQ(counted(), Counts{});
}

TEST_F(TendedNetworkTest, WritesDownWhatTheDiskRefused)
{
    const std::string before = state();
    network_.plug(uuid(1), mac(1), {300}, {});
    files_.fail("pwrite", EIO);
    network_.forget(uuid(1));
    EXPECT_EQ(saved_ports().size(), 1u);
    files_.fail("g_file_set_contents_full", ENOSPC, 0, 1000);
    EXPECT_LT(tend(10min), 40);
    EXPECT_EQ(LogCapture::lines().size(), 2u) << LogCapture::text();
    files_.heal();
    tend();
    EXPECT_EQ(state(), before);
}

TEST_F(TendedNetworkTest, AnErrorIsReportedThoughTheDiskFailsToo)
{
    kernel_.fail_at(kernel_.changes, EPERM, "no");
    files_.fail("pwrite", EIO, 1);
    EXPECT_EQ(error_of([&] { network_.plug(uuid(1), mac(1), {300}, {}); }).system_errno(), EPERM);
    kernel_.heal();
    EXPECT_EQ(saved_ports().size(), 1u);
    tend();
    EXPECT_TRUE(saved_ports().empty());
}

TEST_F(TendedNetworkTest, WaitsForABridgeThatIsGone)
{
    network_.plug(uuid(1), mac(1), {300}, {});
    network_.plug(uuid(2), mac(2), {300}, {});
    kernel_.device = "";
    kernel_.clear();
    notice(About::device_gone);
    EXPECT_LT(tend(), 3);
    EXPECT_THAT(file(), HasSubstr("<tree state='absent'/>"));
    EXPECT_EQ(LogCapture::lines().size(), 1u) << LogCapture::text();

    const Error error = error_of([&] { network_.plug(uuid(3), mac(3), {300}, {}); });
    EXPECT_THAT(error.what(), HasSubstr("network 'tenants' has lost its bridge virbr7"));
    network_.forget(uuid(2));
    EXPECT_EQ(LogCapture::lines().size(), 1u) << LogCapture::text();
    EXPECT_EQ(tend(), 0);

    kernel_.device = "virbr7";
    kernel_.device_index = 9;
    notice(About::device, 9);
    tend();
    EXPECT_EQ(kernel_.classes.size(), 3u);
    EXPECT_THAT(file(), testing::Not(HasSubstr("<tree")));
    EXPECT_EQ(directory_.load("tenants")->ifindex, 9);
    kernel_.clear();
    notice(About::traffic_control, 9);
    tend();
    EXPECT_EQ(kernel_.classes.size(), 3u);
}

TEST_F(TendedNetworkTest, GoesOnWithABridgeThatIsRenamed)
{
    kernel_.device = "else0";
    notice(About::device, FakeKernel::ifindex, "else0");
    tend();
    EXPECT_EQ(LogCapture::lines().size(), 1u) << LogCapture::text();
    kernel_.clear();
    notice(About::traffic_control);
    tend();
    EXPECT_EQ(kernel_.classes.size(), 2u);
    kernel_.device = "virbr7";
    notice(About::device);
    tend();
    EXPECT_EQ(LogCapture::lines().size(), 2u) << LogCapture::text();
    EXPECT_EQ(network_.reconcile(), 0u);
}

TEST_F(TendedNetworkTest, IsTendedOnceNobodyHoldsIt)
{
    FlooredNetworks networks;
    int wakes = 0;
    networks.on_work([&wakes] { ++wakes; });
    auto held = networks.lock("tenants");
    held.set(std::make_unique<FlooredNetwork>(
        Network("tenants", "virbr7", rate(10000, 20000), {1500}),
        tc::DeviceTree(std::make_shared<tc::Netlink>(20ms), "virbr7", Direction::inbound), directory_));
    held->write_down();
    held->reconcile();
    kernel_.classes.at(0x10002).rate = 1;
    const tc::Notice notice{About::traffic_control, FakeKernel::ifindex, ""};
    EXPECT_TRUE(networks.tend({&notice, 1}, now_)); // held: come again
    EXPECT_EQ(kernel_.classes.at(0x10002).rate, 1u);
    {
        const auto gone = std::move(held);
    }
    EXPECT_EQ(wakes, 0); // it does not know of the notice yet
    for (auto next = networks.tend({}, now_); next; next = networks.tend({}, now_))
        now_ = *next;
    EXPECT_EQ(kernel_.classes.at(0x10002).rate, 10'000'000u);
    kernel_.fail_at(kernel_.changes, EPERM);
    EXPECT_EQ(error_of([&] { networks.lock("tenants")->plug(uuid(1), mac(1), {300}, {}); }).system_errno(), EPERM);
    EXPECT_EQ(wakes, 1);
}

TEST(FlooredNetworks, AreLockedByName)
{
    FlooredNetworks networks;
    EXPECT_FALSE(networks.lock("a"));
    {
        auto a = networks.lock("a");
        auto b = networks.lock("b");
        EXPECT_FALSE(b);
    }
    EXPECT_EQ(networks.names(), (std::vector<std::string>{"a", "b"}));
    int running = 0, most = 0, rounds = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i)
        threads.emplace_back([&] {
            for (int j = 0; j < 200; ++j) {
                auto locked = networks.lock("a");
                most = std::max(most, ++running);
                ++rounds;
                --running;
            }
        });
    for (auto& thread : threads)
        thread.join();
    EXPECT_EQ(most, 1);
    EXPECT_EQ(rounds, 1600);
    networks.clear();
}

} // namespace
} // namespace virfloor::test
