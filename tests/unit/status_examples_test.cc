// SPDX-License-Identifier: LGPL-2.1-or-later
//
// status/examples: each file is made here, and is byte for byte what the code writes. With
// UPDATE_GOLDEN=1 in the environment they are written anew.
#include "support.h"
#include "virfloor/status.h"

namespace virfloor::test {
namespace {

namespace fs = std::filesystem;

const fs::path examples = EXAMPLES_DIR;

// A network and its status file, in step.
class Example {
public:
    Example(const StatusDirectory& directory, Network network, int ifindex)
        : network_(std::move(network)), ifindex_(ifindex), file_(directory.file(network_.name()))
    {
        describe(Condition::kept, {});
    }

    void describe(Condition condition, const Counts& counts) { file_.describe(network_, ifindex_, condition, counts); }
    void plug(const std::string& uuid, const std::string& address, std::uint64_t floor,
              std::optional<ClassId> preferred = {})
    {
        file_.update(network_, network_.plug(Uuid::parse(uuid).value(), mac(address), {floor}, preferred).uuid);
    }
    void unplug(const std::string& uuid)
    {
        network_.unplug(Uuid::parse(uuid).value());
        file_.update(network_, Uuid::parse(uuid).value());
    }

private:
    Network network_;
    int ifindex_;
    StatusFile file_;
};

void three_ports(const StatusDirectory& directory)
{
    Example example(directory, {"three-ports", "virbr1", rate(4000), {1500}}, 5);
    const std::string third = "2d3e4f50-7a1b-4c6d-8e9f-a0b1c2d3e403";
    example.plug("6b2c1c3e-5a0f-4d55-9a53-0c9b7b0f5a01", "52:54:00:8a:11:03", 500);
    example.plug("c0a7d2f4-0f6e-4a7c-8d3c-51f4a0a1b202", "52:54:00:8a:11:04", 1000);
    example.plug(third, "52:54:00:8a:11:05", 300);
    example.plug("e3f1a5c8-94b2-4d0e-a6b7-8f9c0d1e2f04", "52:54:00:8a:11:06", 1500);
    example.unplug(third);
    example.describe(Condition::kept, {.refusals = 2, .repairs = 0});
}

void grown(const StatusDirectory& directory)
{
    Example example(directory, {"grown", "virbr3", rate(max_rate.count), {65535}}, 7);
    constexpr char small[] = "00000000-0000-4000-8000-00000000000";
    for (unsigned i = 1; i <= 9; ++i) {
        const std::string address = std::string("52:54:00:8a:33:0") + "0123456789ab"[i + 2];
        example.plug(small + std::to_string(i), address, i < 9 ? 1 : 2'000'000'000'000);
    }
    example.plug("ffffffff-ffff-4fff-bfff-ffffffffffff", "52:54:00:8a:33:ff", 18'012'398'509'481'976, ClassId{18});
    example.plug("eeeeeeee-eeee-4eee-beee-eeeeeeeeeeee", "52:54:00:8a:33:ff", 5);
}

void make_all(const StatusDirectory& directory)
{
    Example(directory, {"empty", "virbr0", rate(10000, 20000, 0, 512), {1500}}, 4);
    Example(directory, {"intended", "", rate(4000), {1500}}, no_ifindex);
    Example reserved(directory, {"R&D <lab>'s", "virbr&2", rate(1'000'000, 2'000'000, 0, 1024), {9000}}, 6);
    reserved.plug("8f14e45f-ceea-467f-a0e6-7c5f2b1d9a05", "52:54:00:8a:22:03", 250'000);
    Example contested(directory, {"contested", "virbr5", rate(4000), {1500}}, 11);
    contested.plug("5f0e6b1a-4f0c-4f43-9d0e-6a3f0e5a7c21", "52:54:00:8a:11:21", 700);
    contested.describe(Condition::contested, {.refusals = 0, .repairs = 14});
    three_ports(directory);
    grown(directory);
}

std::set<std::string> files_in(const fs::path& directory)
{
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(directory))
        names.insert(entry.path().filename());
    return names;
}

TEST(StatusExamples, AreWhatTheCodeWrites)
{
    const TemporaryDirectory temporary;
    make_all(StatusDirectory(temporary.path()));
    for (const auto& name : files_in(temporary.path())) {
        const std::string written = read_text(temporary.path() / name);
        if (std::getenv("UPDATE_GOLDEN"))
            write_text(examples / name, written);
        EXPECT_EQ(read_text(examples / name), written) << name;
    }
    EXPECT_EQ(files_in(examples), files_in(temporary.path()));
}

TEST(StatusExamples, AreReadAsTheyWereMeant)
{
    const auto contested = read_status(examples, "contested").value();
    EXPECT_EQ(contested.condition, Condition::contested);
    EXPECT_EQ(contested.counts, (Counts{.refusals = 0, .repairs = 14}));
    EXPECT_EQ(read_status(examples, "three-ports")->counts.refusals, 2u);
    EXPECT_EQ(read_status(examples, "R&D <lab>'s")->bridge, "virbr&2");
    for (const auto& name : list_status(examples))
        EXPECT_EQ(read_status(examples, name)->name, name);
}

} // namespace
} // namespace virfloor::test
