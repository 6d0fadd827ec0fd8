// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The kernel's answers: from the bytes of a datagram to the requests that would mend the tree that
// they tell of.
//
// The input is what there is to receive, as frames: 16 bits of length, and the datagram. A frame of
// length 0 ends the answer to one request. The highest bit of a length: another process sent it.
// Sequence numbers count from that of the request, so that inputs do not depend on what ran before.
#include "netlink.h"

#include "fuzz.h"
#include "reader.h"
#include "translator.h"
#include "virfloor/network.h"

#include <netlink/errno.h>
#include <poll.h>

#include <cerrno>
#include <cstring>
#include <deque>
#include <utility>
#include <vector>

namespace virfloor::fuzz {
namespace {

using namespace tc;

constexpr int ifindex = 7;
constexpr std::uint16_t from_a_process = 0x8000;

struct Datagram {
    std::vector<unsigned char> bytes;
    bool foreign;
};

// What there is to receive, and what has not been sent yet.
std::string_view input;
std::deque<Datagram> queue;

std::vector<unsigned char> take(std::size_t size)
{
    const auto taken = input.substr(0, size);
    input.remove_prefix(taken.size());
    return {taken.begin(), taken.end()};
}

void count_from(std::uint32_t sequence, std::vector<unsigned char>& datagram)
{
    for (std::size_t at = 0; datagram.size() - at >= sizeof(nlmsghdr);) {
        nlmsghdr header;
        std::memcpy(&header, &datagram[at], sizeof header);
        header.nlmsg_seq += sequence;
        std::memcpy(&datagram[at], &header, sizeof header);
        const std::size_t step = NLMSG_ALIGN(std::size_t{header.nlmsg_len});
        if (step < sizeof header || step > datagram.size() - at)
            return;
        at += step;
    }
}

void answer(std::uint32_t sequence)
{
    while (input.size() >= 2) {
        std::uint16_t length;
        std::memcpy(&length, input.data(), sizeof length);
        input.remove_prefix(sizeof length);
        if (length == 0)
            return;
        auto bytes = take(length & ~from_a_process);
        count_from(sequence, bytes);
        queue.push_back({std::move(bytes), (length & from_a_process) != 0});
    }
}

MacAddress mac(std::uint8_t last) { return {{0x52, 0x54, 0x00, 0x01, 0x00, last}}; }

Tree wanted()
{
    Network network("tenants", "virbr7", {{2000}, {4000}, {}, {64}}, {1500});
    for (std::uint8_t i = 0; i < 3; ++i)
        network.plug(Uuid{{i}}, mac(static_cast<std::uint8_t>(11 + i)), {100}, {});
    return network.tree();
}

// Follows the steps as the kernel would, and requires that each can be taken.
class Follower {
public:
    explicit Follower(const Tree& start) : tree_(start) {}

    void operator()(const AddRoot&) { REQUIRE(!std::exchange(tree_.root, true)); }
    void operator()(const AddFilters&) { REQUIRE(!std::exchange(tree_.filters, true)); }
    void operator()(const AddClass& add)
    {
        REQUIRE(!add.added.parent || tree_.classes.contains(*add.added.parent));
        REQUIRE(tree_.classes.emplace(add.added.id, add.added).second);
    }
    void operator()(const ChangeClass& change)
    {
        Class& at = tree_.classes.at(change.to.id);
        REQUIRE(at.parent == change.to.parent);
        at.shape = change.to.shape;
    }
    void operator()(const RemoveClass& remove)
    {
        for (const auto& [mac, target] : tree_.steering)
            REQUIRE(target != remove.removed.id);
        REQUIRE(tree_.classes.erase(remove.removed.id) == 1);
    }
    void operator()(const ReplaceLeaf& replace) { REQUIRE(tree_.classes.contains(replace.of)); }
    void operator()(const AddSteering& add)
    {
        REQUIRE(tree_.classes.contains(add.target));
        REQUIRE(tree_.steering.emplace(add.mac, add.target).second);
    }
    void operator()(const RemoveSteering& remove) { REQUIRE(tree_.steering.erase(remove.mac) == 1); }
    void operator()(const RemoveForeign& remove) { REQUIRE(std::erase(tree_.foreign, remove.removed)); }

    void require_is(const Tree& want) const
    {
        REQUIRE(tree_.root && tree_.filters && tree_.steering == want.steering);
        REQUIRE(tree_.classes.size() == want.classes.size());
        for (const auto& [id, at] : want.classes) {
            Class have = tree_.classes.at(id);
            if (at.inner)
                have.shape.quantum = at.shape.quantum; // means nothing there
            REQUIRE(have.parent == at.parent && have.shape == at.shape);
        }
    }

private:
    Tree tree_;
};

void try_answers(Netlink& netlink)
{
    Translator translator;
    const auto have = attempt([&] { return translator.load(read_picture(netlink, ifindex, MacKey::destination)); });
    if (!have)
        return;
    Tree want = wanted();
    want.leaf = have->leaf;
    Follower follower(*have);
    std::vector<Message> messages;
    for (const Step& step : difference(*have, want)) {
        std::visit(follower, step);
        const auto requests = attempt([&] { return translator.translate(step); });
        if (!requests)
            return; // no room in the tables
        for (const auto& [request, undo] : *requests) {
            messages.push_back(encode(request, ifindex, MacKey::destination));
            REQUIRE(!describe(request, "virbr7", MacKey::destination).empty());
            for (const Request& back : undo)
                encode(back, ifindex, MacKey::destination);
        }
    }
    follower.require_is(want);
    REQUIRE(translator.addresses().steering() == want.steering);

    const auto answers = attempt([&] { return netlink.transact(messages); });
    REQUIRE(!answers || answers->size() == messages.size());
    for (const Answer& at : answers.value_or(std::vector<Answer>{}))
        REQUIRE(at.error >= 0 && at.error <= 4095);
}

} // namespace

int receive(sockaddr_nl* sender, unsigned char** data)
{
    if (queue.empty())
        return -NLE_AGAIN;
    const Datagram datagram = std::move(queue.front());
    queue.pop_front();
    *sender = {};
    sender->nl_pid = datagram.foreign ? 4711 : 0;
    *data = static_cast<unsigned char*>(std::malloc(datagram.bytes.size()));
    if (!datagram.bytes.empty())
        std::memcpy(*data, datagram.bytes.data(), datagram.bytes.size());
    return static_cast<int>(datagram.bytes.size());
}

} // namespace virfloor::fuzz

extern "C" {

// At the link (--wrap), in place of libnl's way to the kernel.
int __wrap_nl_send_iovec(nl_sock*, nl_msg*, iovec* parts, unsigned count)
{
    int sent = 0;
    for (unsigned i = 0; i < count; ++i) {
        virfloor::fuzz::answer(static_cast<const nlmsghdr*>(parts[i].iov_base)->nlmsg_seq);
        sent += static_cast<int>(parts[i].iov_len);
    }
    return sent;
}

int __wrap_nl_recv(nl_sock*, sockaddr_nl* sender, unsigned char** data, ucred**)
{
    return virfloor::fuzz::receive(sender, data);
}

// Nothing comes that is not there already, and there is no time to wait.
int __wrap_poll(pollfd*, nfds_t, int)
{
    errno = EIO;
    return virfloor::fuzz::queue.empty() ? -1 : 1;
}

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    static virfloor::tc::Netlink netlink;
    virfloor::fuzz::input = virfloor::fuzz::text(data, size);
    virfloor::fuzz::queue.clear();
    virfloor::fuzz::try_answers(netlink);
    return 0;
}

} // extern "C"
