// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Many threads on the running networks, as libvirtd's workers and its timer are. What the thread
// sanitizer says of them is the point; what they leave behind is checked, too.
#include "floored_network.h"

#include "fake_kernel.h"
#include "netlink.h"
#include "support.h"

#include <atomic>
#include <random>
#include <thread>

namespace virfloor::test {
namespace {

constexpr unsigned threads = 8;
constexpr unsigned operations = 100;

class ConcurrencyTest : public testing::Test {
protected:
    ConcurrencyTest()
    {
        set_log_sink([](Severity, const std::string&) {});
        networks_.lock("tenants").set(make());
    }

    std::unique_ptr<FlooredNetwork> make()
    {
        auto network =
            std::make_unique<FlooredNetwork>(Network("tenants", "virbr7", {{100'000}, {}, {}, {}}, {1500}),
                                             tc::DeviceTree(netlink_, "virbr7", Direction::inbound), directory_);
        network->write_down();
        network->reconcile();
        return network;
    }

    // Each thread has ports of its own, some with an address of another thread's.
    void plug_and_unplug(unsigned thread)
    {
        std::mt19937 random(thread);
        for (unsigned i = 0; i < operations; ++i) {
            const Uuid id = uuid(thread << 8 | random() % 6);
            const MacAddress address = mac(random() % 40);
            auto place = networks_.lock("tenants");
            if (!place)
                continue;
            ++done_;
            if (!place->promises().find(id))
                place->plug(id, address, {1 + random() % 50}, {});
            else if (random() % 2)
                place->update(id, {1 + random() % 50});
            else
                place->unplug(id);
        }
    }
    void run_in_threads(const std::function<void(unsigned)>& work)
    {
        std::vector<std::jthread> workers;
        for (unsigned i = 0; i < threads; ++i)
            workers.emplace_back(work, i);
    }
    void expect_in_step()
    {
        auto place = networks_.lock("tenants");
        ASSERT_TRUE(place);
        EXPECT_EQ(place->reconcile(), 0u);
        const auto saved = directory_.load("tenants");
        ASSERT_TRUE(saved);
        EXPECT_EQ(saved->ports.size(), place->promises().ports().size());
    }

    FakeKernel kernel_;
    TemporaryDirectory temporary_;
    StatusDirectory directory_{temporary_.path()};
    std::shared_ptr<tc::Netlink> netlink_ = std::make_shared<tc::Netlink>();
    FlooredNetworks networks_;
    std::atomic<unsigned> done_ = 0;
};

TEST_F(ConcurrencyTest, PlugsFromManyThreads)
{
    run_in_threads([this](unsigned thread) { plug_and_unplug(thread); });
    EXPECT_EQ(done_, threads * operations);
    expect_in_step();
}

// As the event loop does, and a reload.
TEST_F(ConcurrencyTest, IsTendedMeanwhile)
{
    std::atomic<bool> stop = false;
    std::atomic<unsigned> wakes = 0;
    networks_.on_work([&wakes] { ++wakes; });
    std::jthread event_loop([&] {
        const tc::Notice notice{tc::Notice::About::traffic_control, FakeKernel::ifindex, ""};
        while (!stop) {
            networks_.tend({&notice, 1}, FlooredNetwork::Clock::now());
            for (const auto& name : networks_.names())
                networks_.lock(name);
        }
    });
    run_in_threads([this](unsigned thread) {
        networks_.lock("other" + std::to_string(thread)).set(nullptr);
        plug_and_unplug(thread);
    });
    stop = true;
    event_loop.join();
    EXPECT_GT(wakes, 0u);
    EXPECT_EQ(networks_.names().size(), 1 + threads);
    expect_in_step();
}

TEST_F(ConcurrencyTest, EndsAndStartsMeanwhile)
{
    run_in_threads([this](unsigned thread) {
        if (thread > 1)
            return plug_and_unplug(thread);
        for (int i = 0; i < 10; ++i) {
            networks_.clear();
            auto place = networks_.lock("tenants");
            if (!place)
                place.set(make());
        }
    });
    expect_in_step();
}

// One socket, whoever asks.
TEST_F(ConcurrencyTest, SharesTheSocket)
{
    run_in_threads([this](unsigned thread) {
        if (thread % 2)
            return plug_and_unplug(thread);
        for (unsigned i = 0; i < operations / 5; ++i) {
            tc::DeviceTree tree(netlink_, "virbr7", Direction::inbound);
            EXPECT_TRUE(tree.read().root);
        }
    });
    expect_in_step();
}

} // namespace
} // namespace virfloor::test
