// SPDX-License-Identifier: LGPL-2.1-or-later
#include "netlink.h"

#include "virfloor/text.h"

#include <netlink/netlink.h>

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <bitset>
#include <cerrno>
#include <cstring>
#include <stdexcept>

namespace virfloor::tc {

namespace {

// Few enough that their answers fit the socket's buffer all at once.
constexpr std::size_t messages_a_send = 64;
constexpr int receive_buffer = 1 << 20;
// The kernel fits a dump's datagrams to the buffer it was last asked to fill, but for its least size
// of 8 KiB (netlink_dump, NLMSG_GOODSIZE). Small, since libnl allocates it for each answer.
constexpr std::size_t datagram_size = std::size_t{16} * 1024;
constexpr int dump_attempts = 8;
// 65533 classes or their filters take about 20 MiB.
constexpr std::size_t max_dump_size = std::size_t{128} * 1024 * 1024;

[[noreturn]] void fail(const std::string& what, int error) { throw kernel_error(what, {error, ""}); }

// The kernel's errno, negative in its answers; what cannot be one is a broken protocol.
int positive(int error)
{
    constexpr int most = 4095; // MAX_ERRNO, include/linux/err.h
    return error == 0 ? 0 : error < 0 && error >= -most ? -error : EPROTO;
}

// The text of an extended ack (netlink_ack, net/netlink/af_netlink.c): attributes behind struct
// nlmsgerr, or behind the whole request where that is not cut off.
std::string extended_text(const nlmsghdr& header)
{
    if (header.nlmsg_type != NLMSG_ERROR || !(header.nlmsg_flags & NLM_F_ACK_TLVS) ||
        header.nlmsg_len < NLMSG_LENGTH(sizeof(nlmsgerr)))
        return {};
    const auto& error = *static_cast<const nlmsgerr*>(nlmsg_data(const_cast<nlmsghdr*>(&header)));
    std::size_t skip = sizeof(nlmsgerr);
    if (!(header.nlmsg_flags & NLM_F_CAPPED)) {
        if (error.msg.nlmsg_len < sizeof(nlmsghdr) || error.msg.nlmsg_len > header.nlmsg_len)
            return {};
        skip += NLMSG_ALIGN(error.msg.nlmsg_len) - sizeof(nlmsghdr);
    }
    const auto found = attributes(header, skip, NLMSGERR_ATTR_MAX);
    return found ? text((*found)[NLMSGERR_ATTR_MSG]).value_or("") : "";
}

} // namespace

Message::Message(std::uint16_t type, std::uint16_t flags, const tcmsg& header)
{
    nlmsghdr* head = this->header();
    *head = {};
    head->nlmsg_len = NLMSG_LENGTH(sizeof header);
    head->nlmsg_type = type;
    head->nlmsg_flags = NLM_F_REQUEST | flags;
    std::memcpy(NLMSG_DATA(head), &header, sizeof header);
}

void Message::put_bytes(int attribute, const void* data, std::size_t size)
{
    nlmsghdr* head = header();
    const nlattr start{static_cast<std::uint16_t>(NLA_HDRLEN + size), static_cast<std::uint16_t>(attribute)};
    const std::size_t padded = NLA_ALIGN(start.nla_len);
    if (size > room || padded > room - head->nlmsg_len)
        throw std::length_error("netlink message is too long");
    unsigned char* at = bytes_.data() + head->nlmsg_len;
    std::memcpy(at, &start, sizeof start);
    if (size > 0)
        std::memcpy(at + NLA_HDRLEN, data, size);
    std::memset(at + start.nla_len, 0, padded - start.nla_len);
    head->nlmsg_len += static_cast<std::uint32_t>(padded);
}

void Message::put(int attribute, std::uint32_t value) { put_struct(attribute, value); }
void Message::put(int attribute, std::uint64_t value) { put_struct(attribute, value); }
void Message::put(int attribute, const char* text) { put_bytes(attribute, text, std::strlen(text) + 1); }

nlattr* Message::begin(int attribute)
{
    auto* nest = reinterpret_cast<nlattr*>(bytes_.data() + header()->nlmsg_len);
    put_bytes(NLA_F_NESTED | attribute, nullptr, 0);
    return nest;
}

void Message::end(nlattr* nest)
{
    const auto* end = bytes_.data() + header()->nlmsg_len;
    nest->nla_len = static_cast<std::uint16_t>(end - reinterpret_cast<unsigned char*>(nest));
}

Netlink::Netlink(std::chrono::milliseconds timeout)
    : socket_(nl_socket_alloc(), nl_socket_free), envelope_(nlmsg_alloc_size(NLMSG_HDRLEN), nlmsg_free),
      timeout_(timeout)
{
    if (!socket_ || !envelope_)
        throw std::bad_alloc();
    if (const int error = nl_connect(socket_.get(), NETLINK_ROUTE); error < 0)
        fail(format(_("cannot open a netlink socket: %s"), nl_geterror(error)), errno);
    if (const int error = nl_socket_set_buffer_size(socket_.get(), receive_buffer, 0); error < 0)
        fail(_("cannot set the netlink socket's buffer"), errno);
    nl_socket_disable_msg_peek(socket_.get());
    nl_socket_set_msg_buf_size(socket_.get(), datagram_size);
    nl_socket_set_nonblocking(socket_.get());
    const int on = 1;
    // Kernels before 4.12 have no texts to give, and all the rest works without.
    setsockopt(nl_socket_get_fd(socket_.get()), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on);
    setsockopt(nl_socket_get_fd(socket_.get()), SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
}

void Netlink::send(std::span<const Message> messages)
{
    std::array<iovec, messages_a_send> parts;
    unsigned count = 0;
    for (const Message& message : messages) {
        nlmsghdr* header = message.header();
        header->nlmsg_seq = ++sequence_;
        header->nlmsg_pid = nl_socket_get_local_port(socket_.get());
        parts.at(count++) = {header, NLMSG_ALIGN(header->nlmsg_len)};
    }
    if (nl_send_iovec(socket_.get(), envelope_.get(), parts.data(), count) < 0)
        fail(_("cannot send to the kernel over netlink"), errno);
}

void Netlink::for_each(const Datagram& datagram, const Handler& handler)
{
    auto* at = reinterpret_cast<nlmsghdr*>(datagram.data.get());
    int left = static_cast<int>(datagram.size);
    while (nlmsg_ok(at, left)) {
        handler(*at);
        at = nlmsg_next(at, &left);
    }
    // What is missing may be any object of a dump.
    if (left > 0)
        fail(_("the kernel's answer over netlink is cut short"), EPROTO);
}

Netlink::Datagram Netlink::receive(std::chrono::steady_clock::time_point deadline)
{
    for (;;) {
        sockaddr_nl sender{};
        unsigned char* data = nullptr;
        errno = 0;
        const int size = nl_recv(socket_.get(), &sender, &data, nullptr);
        std::unique_ptr<unsigned char, void (*)(void*)> owner(data, free);
        if (size > 0 && sender.nl_pid == 0)
            return {std::move(owner), static_cast<std::size_t>(size)};
        if (size < 0 && size != -NLE_AGAIN)
            fail(_("cannot receive from the kernel over netlink"), errno);
        pollfd wait{nl_socket_get_fd(socket_.get()), POLLIN, 0};
        const int ready = poll(&wait, 1, static_cast<int>(time_left(deadline).count()));
        if (ready == 0)
            give_up();
        if (ready < 0 && errno != EINTR)
            fail(_("cannot wait for the kernel's answer"), errno);
    }
}

std::chrono::milliseconds Netlink::time_left(std::chrono::steady_clock::time_point deadline) const
{
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0)
        give_up();
    return left;
}

void Netlink::give_up() const
{
    fail(format(_("the kernel did not answer within %jd ms"), std::intmax_t{timeout_.count()}), ETIMEDOUT);
}

// The kernel takes the messages of a send one by one, and answers each that it refuses, be that wished
// for or not; an answer that does not fit the socket makes the next receive fail. So the answer to
// the last is enough: those before it that have none succeeded.
std::vector<Answer> Netlink::transact(std::span<const Message> messages)
{
    const std::lock_guard lock(mutex_);
    std::vector<Answer> answers(messages.size());
    for (std::size_t start = 0; start < messages.size(); start += messages_a_send) {
        const auto part = messages.subspan(start, std::min(messages_a_send, messages.size() - start));
        for (const Message& message : part.first(part.size() - 1))
            message.header()->nlmsg_flags &= static_cast<std::uint16_t>(~NLM_F_ACK);
        const std::uint32_t first = sequence_ + 1;
        send(part);
        const auto deadline = std::chrono::steady_clock::now() + timeout_;
        std::bitset<messages_a_send> answered;
        const auto take = [&](const nlmsghdr& header) {
            const std::uint32_t index = header.nlmsg_seq - first;
            if (header.nlmsg_type != NLMSG_ERROR || index >= part.size() || answered[index] ||
                header.nlmsg_len < NLMSG_LENGTH(sizeof(nlmsgerr)))
                return;
            const auto& error = *static_cast<const nlmsgerr*>(nlmsg_data(const_cast<nlmsghdr*>(&header)));
            answers[start + index] = {positive(error.error), extended_text(header)};
            answered.set(index);
        };
        while (!answered[part.size() - 1]) {
            const std::size_t before = answered.count();
            for_each(receive(deadline), take);
            if (answered.count() == before)
                time_left(deadline);
        }
    }
    return answers;
}

// One try; false if the objects changed meanwhile (NLM_F_DUMP_INTR).
bool Netlink::dump_once(Message& request, std::vector<Datagram>& datagrams)
{
    datagrams.clear();
    send({&request, 1});
    const auto deadline = std::chrono::steady_clock::now() + timeout_;
    bool done = false, consistent = true;
    const auto take = [&](const nlmsghdr& header) {
        if (header.nlmsg_seq != sequence_)
            return;
        consistent &= !(header.nlmsg_flags & NLM_F_DUMP_INTR);
        if (header.nlmsg_type != NLMSG_ERROR && header.nlmsg_type != NLMSG_DONE)
            return;
        done = true;
        if (header.nlmsg_len < NLMSG_LENGTH(sizeof(int)))
            return;
        const int error = *static_cast<const int*>(nlmsg_data(const_cast<nlmsghdr*>(&header)));
        if (error < 0)
            throw kernel_error(_("the kernel refused to list its traffic control"),
                               {positive(error), extended_text(header)});
    };
    std::size_t size = 0;
    while (!done) {
        datagrams.push_back(receive(deadline));
        size += datagrams.back().size;
        if (size > max_dump_size)
            fail(_("the kernel's list of its traffic control has no end"), EMSGSIZE);
        for_each(datagrams.back(), take);
    }
    return consistent;
}

void Netlink::dump(Message& request, const Handler& handler)
{
    std::vector<Datagram> datagrams;
    {
        const std::lock_guard lock(mutex_);
        int attempt = 0;
        while (!dump_once(request, datagrams))
            if (++attempt == dump_attempts)
                fail(_("the kernel's traffic control changes faster than it can be read"), EAGAIN);
    }
    for (const auto& datagram : datagrams)
        for_each(datagram, [&](const nlmsghdr& header) {
            if (header.nlmsg_seq == request.header()->nlmsg_seq && header.nlmsg_type >= NLMSG_MIN_TYPE)
                handler(header);
        });
}

Error kernel_error(const std::string& what, const Answer& answer)
{
    const std::string reason = std::strerror(answer.error);
    return Error(Refusal::system, what + ": " + (answer.text.empty() ? reason : answer.text + " (" + reason + ")"),
                 answer.error);
}

namespace {

std::optional<std::vector<nlattr*>> parse(nlattr* head, int size, int most)
{
    std::vector<nlattr*> found(most + 1);
    if (nla_parse(found.data(), most, head, size, nullptr) < 0)
        return {};
    return found;
}

} // namespace

std::optional<std::vector<nlattr*>> attributes(const nlmsghdr& message, std::size_t header_size, int most)
{
    auto* header = const_cast<nlmsghdr*>(&message);
    if (!nlmsg_valid_hdr(header, static_cast<int>(header_size)))
        return {};
    return parse(nlmsg_attrdata(header, static_cast<int>(header_size)),
                 nlmsg_attrlen(header, static_cast<int>(header_size)), most);
}

std::optional<std::vector<nlattr*>> attributes(nlattr* nest, int most)
{
    return parse(static_cast<nlattr*>(nla_data(nest)), nla_len(nest), most);
}

std::optional<std::string> text(nlattr* attribute)
{
    if (!attribute || nla_len(attribute) == 0)
        return {};
    const auto* data = static_cast<const char*>(nla_data(attribute));
    if (data[nla_len(attribute) - 1] != '\0')
        return {};
    return std::string(data);
}

} // namespace virfloor::tc
