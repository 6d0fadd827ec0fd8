// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Golden files: data/golden/NAME/{network.xml, events.txt} → expected.txt, the commands that each
// event leads to, as tc(8) has them. UPDATE_GOLDEN=1 writes expected.txt anew; read what it wrote.
//
// An event is a line: start | plug UUID MAC FLOOR [classID] | plug FILE | update UUID FLOOR |
// unplug UUID | restore UUID MAC FLOOR classID, without commands | have LINE, which adds to the picture of the kernel before `start`:
//   have root | have class ID PARENT RATE | have leaf ID KIND | have fw PREF MARK CLASS |
//   have u32 PREF MAC CLASS
#include "support.h"
#include "translator.h"
#include "virfloor/network_xml.h"
#include "virfloor/port_xml.h"

#include <linux/if_ether.h>
#include <linux/pkt_sched.h>

#include <sstream>

namespace virfloor::tc {
namespace {

namespace fs = std::filesystem;
using test::read_text;

const fs::path golden = fs::path(DATA_DIR) / "golden";

ClassId class_id(const std::string& hex) { return {static_cast<std::uint16_t>(std::stoul(hex, nullptr, 16))}; }

class Scenario {
public:
    explicit Scenario(const fs::path& directory)
        : directory_(directory), description_(parse_network(read_text(directory / "network.xml"))),
          network_(description_.name, description_.bridge, description_.bandwidth.inbound.value(), description_.mtu)
    {
    }

    std::string run()
    {
        std::istringstream events(read_text(directory_ / "events.txt"));
        for (std::string line; std::getline(events, line);)
            if (!line.empty() && line[0] != '#')
                event(line);
        return out_.str();
    }

private:
    void event(const std::string& line)
    {
        std::istringstream words(line);
        std::string verb;
        words >> verb;
        if (verb == "have")
            return have(words);
        if (verb == "restore")
            return restore(words);
        out_ << "# " << line << '\n';
        std::string id;
        if (verb != "start")
            words >> id;
        try {
            if (verb == "start")
                start();
            else if (verb == "plug")
                plug(id, words);
            else if (verb == "update")
                update(id, words);
            else
                unplug(id);
        } catch (const Error& error) {
            out_ << "refused: " << error.what() << '\n';
        }
        out_ << '\n';
    }

    void have(std::istringstream& words)
    {
        std::string what, first, second;
        words >> what >> first >> second;
        if (what == "root") {
            picture_.qdiscs[TC_H_ROOT] = {"htb", root_qdisc, 2};
        } else if (what == "class") {
            std::uint64_t rate = 0;
            words >> rate;
            Class at{.id = class_id(first), .parent = {}, .shape = {{rate}, {20'000'000}, {1000}, {1000}, 1514}};
            if (second != "0")
                at.parent = class_id(second);
            at.inner = second == "0";
            picture_.classes[at.id] = at;
        } else if (what == "leaf") {
            picture_.classes.at(class_id(first)).leaf = second == "sfq" ? std::optional(Leaf::sfq) : std::nullopt;
        } else if (what == "fw") {
            std::string target;
            words >> target;
            picture_.foreign.push_back({static_cast<std::uint16_t>(std::stoul(first)),
                                        ETH_P_ALL,
                                        static_cast<std::uint32_t>(std::stoul(second)),
                                        "fw",
                                        class_id(target),
                                        {}});
        } else if (what == "u32") {
            std::string target;
            words >> target;
            const auto preference = static_cast<std::uint16_t>(std::stoul(first));
            picture_.foreign.push_back(
                {preference, ETH_P_IP, 0x80000800 + ++nodes_, "u32", class_id(target), test::mac(second)});
            picture_.tables.insert(0x800);
            if (preference == libvirt_preference)
                picture_.libvirt_protocol = ip_protocol;
        }
    }

    void restore(std::istringstream& words)
    {
        std::string id, mac;
        std::uint64_t floor = 0;
        unsigned number = 0;
        words >> id >> mac >> floor >> number;
        network_.restore(Uuid::parse(id).value(), test::mac(mac), {floor}, ClassId{static_cast<std::uint16_t>(number)});
    }

    void start()
    {
        // Where the kernel has no tree, a leaf is asked for as it is made; here it has fq_codel.
        const Tree have = translator_.load(picture_);
        if (!have.root)
            translator_.set_leaf(Leaf::fq_codel);
        Tree want = network_.tree();
        want.leaf = have.leaf;
        print(difference(have, want));
    }

    template <class Function>
    void branch(MacAddress mac, Function change)
    {
        const Tree before = network_.branch(mac);
        change();
        print(difference(before, network_.branch(mac)));
    }

    void plug(const std::string& first, std::istringstream& words)
    {
        if (first.ends_with(".xml")) {
            const auto port = parse_port(read_text(directory_ / first));
            return branch(port.mac, [&] { network_.plug(port.uuid, port.mac, port.floor(), port.class_id); });
        }
        std::string mac;
        std::uint64_t floor = 0;
        unsigned id = 0;
        words >> mac >> floor;
        words >> id;
        const auto uuid = Uuid::parse(first).value();
        branch(test::mac(mac), [&] {
            network_.plug(uuid, test::mac(mac), {floor},
                          id ? std::optional(ClassId{static_cast<std::uint16_t>(id)}) : std::nullopt);
        });
    }

    void update(const std::string& id, std::istringstream& words)
    {
        std::uint64_t floor = 0;
        words >> floor;
        const auto uuid = Uuid::parse(id).value();
        branch(network_.find(uuid)->mac, [&] { network_.update(uuid, {floor}); });
    }

    void unplug(const std::string& id)
    {
        const auto uuid = Uuid::parse(id).value();
        branch(network_.find(uuid)->mac, [&] { network_.unplug(uuid); });
    }

    void print(const Change& change)
    {
        for (const Step& step : change)
            for (const auto& request : translator_.translate(step))
                out_ << describe(request.request, network_.bridge(), MacKey::destination) << '\n';
    }

    fs::path directory_;
    NetworkDescription description_;
    Network network_;
    Picture picture_;
    Translator translator_;
    unsigned nodes_ = 0;
    std::ostringstream out_;
};

// Line by line: what was expected and is not there, and what is there instead.
std::string diff(const std::string& expected, const std::string& actual)
{
    std::istringstream left(expected), right(actual);
    std::string out, a, b;
    for (int line = 1;; ++line) {
        const bool more_left = static_cast<bool>(std::getline(left, a));
        const bool more_right = static_cast<bool>(std::getline(right, b));
        if (!more_left && !more_right)
            return out;
        if (more_left && more_right && a == b)
            continue;
        out += "line " + std::to_string(line) + "\n" + (more_left ? "- " + a + "\n" : "") +
               (more_right ? "+ " + b + "\n" : "");
    }
}

class Golden : public testing::TestWithParam<std::string> {};

TEST_P(Golden, GivesTheExpectedCommands)
{
    const fs::path directory = golden / GetParam();
    const std::string actual = Scenario(directory).run();
    if (std::getenv("UPDATE_GOLDEN"))
        std::ofstream(directory / "expected.txt") << actual;
    EXPECT_NE(actual, "");
    const std::string expected = read_text(directory / "expected.txt");
    EXPECT_EQ(expected == actual, true) << diff(expected, actual);
}

std::vector<std::string> scenarios()
{
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(golden))
        names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
}

INSTANTIATE_TEST_SUITE_P(Files, Golden, testing::ValuesIn(scenarios()), [](const auto& info) { return info.param; });

} // namespace
} // namespace virfloor::tc
