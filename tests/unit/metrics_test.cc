// SPDX-License-Identifier: LGPL-2.1-or-later
#include "metrics.h"

#include "support.h"
#include "wide_drops.h"

#include <prometheus/text_serializer.h>

#include <climits>

namespace virfloor::tool {
namespace {

using test::mac;
using test::uuid;
using testing::HasSubstr;
using testing::Not;

tc::Counters counters(std::uint64_t sent, std::uint64_t packets, std::uint32_t drops)
{
    return {
        .rate = {}, .ceil = {}, .sent = Bytes{sent}, .packets = packets, .drops = drops, .backlog = {}, .queued = 0};
}

TEST(WideDrops, begin_with_what_the_kernel_has)
{
    WideDrops drops;
    EXPECT_EQ(drops.count("a", counters(100, 1, 7)), 7U);
    EXPECT_EQ(drops.count("b", counters(100, 1, UINT32_MAX)), UINT32_MAX);
}

TEST(WideDrops, go_on_past_32_bits)
{
    WideDrops drops;
    std::uint64_t expected = UINT32_MAX - 10;
    std::uint64_t packets = 0;
    EXPECT_EQ(drops.count("a", counters(0, packets, static_cast<std::uint32_t>(expected))), expected);
    for (const std::uint64_t more : {std::uint64_t{10}, std::uint64_t{1}, std::uint64_t{5}, std::uint64_t{INT_MAX},
                                     std::uint64_t{INT_MAX}, std::uint64_t{INT_MAX}}) {
        drops.end_of_look();
        expected += more;
        ++packets;
        EXPECT_EQ(drops.count("a", counters(packets * 100, packets, static_cast<std::uint32_t>(expected))), expected);
    }
    EXPECT_GT(expected, std::uint64_t{2} * UINT32_MAX);
}

TEST(WideDrops, begin_anew_with_their_class)
{
    WideDrops drops;
    drops.count("a", counters(5000, 50, UINT32_MAX));
    drops.end_of_look();
    EXPECT_EQ(drops.count("a", counters(100, 1, 3)), 3U);
    drops.end_of_look();
    EXPECT_EQ(drops.count("a", counters(200, 2, 4)), 4U);
}

TEST(WideDrops, begin_anew_with_their_queue)
{
    WideDrops drops;
    drops.count("a", counters(5000, 50, 1000));
    drops.end_of_look();
    EXPECT_EQ(drops.count("a", counters(6000, 60, 2)), 2U);
}

TEST(WideDrops, of_a_class_that_went_are_forgotten)
{
    WideDrops drops;
    drops.count("a", counters(0, 0, UINT32_MAX));
    drops.end_of_look();
    drops.count("b", counters(0, 0, 0));
    drops.end_of_look();
    EXPECT_EQ(drops.count("a", counters(0, 0, 1)), 1U);
}

class Metrics : public testing::Test {
protected:
    Metrics()
    {
        network_.name = "lab";
        network_.bridge = "virbr0";
        network_.limits.average = KilobytesPerSecond{4000};
        network_.mtu = Bytes{1500};
        network_.floored = true;
    }

    Interface& add(unsigned number, const std::string& domain, const std::string& device, ClassId id, unsigned floor)
    {
        return network_.interfaces.emplace_back(
            Interface{uuid(number), mac(number), domain, device, id, KilobytesPerSecond{floor}});
    }

    std::string text(std::optional<tc::Sample> kernel = {}, std::optional<SavedNetwork> status = {})
    {
        Scrape scrape;
        scrape.networks.push_back({&network_, std::move(kernel), std::move(status)});
        return prometheus::TextSerializer().Serialize(families(scrape, drops_));
    }

    NetworkState network_;
    WideDrops drops_;
};

TEST_F(Metrics, escape_names)
{
    add(1, "a\"b\\c ü研究", "", first_port_class, 100);
    EXPECT_THAT(text(), HasSubstr("domain=\"a\\\"b\\\\c ü研究\""));
}

TEST_F(Metrics, stay_one_line_each_whatever_a_name_is)
{
    network_.name = "two\nlines";
    add(1, "no \xff utf-8", "", first_port_class, 100);
    const std::string all = text();
    EXPECT_THAT(all, HasSubstr("network=\"two lines\""));
    EXPECT_THAT(all, HasSubstr("domain=\"no \xef\xbf\xbd utf-8\""));
}

TEST_F(Metrics, have_one_series_for_interfaces_of_one_class)
{
    add(1, "guest", "", first_port_class, 300);
    Interface& again = add(1, "guest", "vnet0", first_port_class, 500);
    again.port = uuid(2);
    const std::string all = text();
    EXPECT_THAT(all, HasSubstr("device=\"vnet0\",class=\"1:3\"} 500000\n"));
    EXPECT_THAT(all, Not(HasSubstr("device=\"\"")));
    EXPECT_THAT(all, HasSubstr("virt_floor_network_promised_bytes_per_second{network=\"lab\"} 500000\n"));
    EXPECT_THAT(all, HasSubstr("virt_floor_network_floors{network=\"lab\"} 2\n"));
}

TEST_F(Metrics, lack_what_is_not_known)
{
    add(1, "guest", "vnet0", first_port_class, 500);
    const std::string all = text();
    EXPECT_THAT(all, HasSubstr("virt_floor_interface_floor_bytes_per_second{"));
    for (const char* absent :
         {"sent_bytes", "catchment", "refusals", "condition", "network_peak", "inventory_timestamp"})
        EXPECT_THAT(all, Not(HasSubstr(absent)));
}

TEST_F(Metrics, of_networks_that_promised_too_much_have_nothing_free)
{
    add(1, "guest", "vnet0", first_port_class, 5000);
    EXPECT_THAT(text(), HasSubstr("virt_floor_network_free_bytes_per_second{network=\"lab\"} 0\n"));
}

TEST_F(Metrics, are_the_kernels_counters)
{
    add(1, "guest", "vnet0", first_port_class, 500);
    tc::Sample sample;
    sample.classes[root_class] = counters(900, 9, 0);
    sample.classes[catchment_class] = counters(300, 3, 1);
    sample.classes[first_port_class] = {.rate = BytesPerSecond{500'000},
                                        .ceil = BytesPerSecond{4'000'000},
                                        .sent = Bytes{600},
                                        .packets = 6,
                                        .drops = 2,
                                        .backlog = Bytes{1514},
                                        .queued = 1};
    const std::string all = text(sample);
    const std::string guest = "{network=\"lab\",domain=\"guest\",mac=\"52:54:00:00:00:01\",device=\"vnet0\","
                              "class=\"1:3\"} ";
    for (const std::string& line :
         {"virt_floor_interface_sent_bytes_total" + guest + "600",
          "virt_floor_interface_sent_packets_total" + guest + "6",
          "virt_floor_interface_dropped_packets_total" + guest + "2",
          "virt_floor_interface_backlog_bytes" + guest + "1514", "virt_floor_interface_backlog_packets" + guest + "1",
          "virt_floor_interface_rate_bytes_per_second" + guest + "500000",
          "virt_floor_interface_ceil_bytes_per_second" + guest + "4000000",
          std::string("virt_floor_catchment_sent_bytes_total{network=\"lab\"} 300"),
          std::string("virt_floor_catchment_dropped_packets_total{network=\"lab\"} 1"),
          std::string("virt_floor_network_sent_bytes_total{network=\"lab\"} 900")})
        EXPECT_THAT(all, HasSubstr(line + "\n"));
}

TEST_F(Metrics, tell_the_condition_as_a_set_of_states)
{
    SavedNetwork status;
    status.condition = Condition::broken;
    status.counts = {.refusals = 3, .repairs = 4};
    const std::string all = text({}, status);
    for (const char* line :
         {"refusals_total{network=\"lab\"} 3", "repairs_total{network=\"lab\"} 4",
          "condition{network=\"lab\",state=\"kept\"} 0", "condition{network=\"lab\",state=\"contested\"} 0",
          "condition{network=\"lab\",state=\"broken\"} 1", "condition{network=\"lab\",state=\"absent\"} 0"})
        EXPECT_THAT(all, HasSubstr(std::string("virt_floor_network_") + line + "\n"));
}

} // namespace
} // namespace virfloor::tool
