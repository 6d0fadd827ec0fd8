// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Requests to the kernel's rtnetlink (RFC 3549) over libnl, and its answers, which are taken as
// hostile: too short, of the wrong type or number, or missing.
//
// Thread safety: one call at a time; a lock inside sees to it.
// Invariants: 1. each message sent is answered or reported as unanswered; 2. no call waits for an
// answer longer than the time given to the constructor, whatever else comes meanwhile; 3. answers to
// earlier messages are dropped.
#pragma once

#include "virfloor/error.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netlink/msg.h>
#include <netlink/socket.h>

#include <array>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace virfloor::tc {

// One request, built without a socket and in a place of its own: many are built for each call.
class Message {
public:
    Message(std::uint16_t type, std::uint16_t flags, const tcmsg& header);

    void put(int attribute, std::uint32_t value);
    void put(int attribute, std::uint64_t value);
    void put(int attribute, const char* text);
    template <class Struct>
    void put_struct(int attribute, const Struct& value)
    {
        put_bytes(attribute, &value, sizeof value);
    }
    void put_bytes(int attribute, const void* data, std::size_t size);
    // Attributes put until the matching end are inside this one.
    nlattr* begin(int attribute);
    void end(nlattr* nest);

    nlmsghdr* header() const { return reinterpret_cast<nlmsghdr*>(bytes_.data()); }

private:
    // The longest that is asked for takes half of it.
    static constexpr std::size_t room = 256;

    alignas(nlmsghdr) mutable std::array<unsigned char, room> bytes_;
};

// The kernel's word on one message.
struct Answer {
    int error = 0;    // positive errno, 0 for success
    std::string text; // the extended ack's text, if the kernel gave one
};

class Netlink {
public:
    using Handler = std::function<void(const nlmsghdr&)>;

    // Throws Error(system) if there is no socket to be had. The kernel answers before a send returns:
    // what is not there after a moment never comes, and callers hold a network's lock.
    explicit Netlink(std::chrono::milliseconds timeout = std::chrono::seconds(1));

    // The socket's address, by which the kernel names it as the cause of a change.
    std::uint32_t port() const { return nl_socket_get_local_port(socket_.get()); }

    // Sends the messages, many at a time, and gives the kernel's word on each, in order; they are no
    // transaction: those behind a failed one are carried out. Throws Error(system) when answers are
    // missing: what became of the messages is not known then.
    std::vector<Answer> transact(std::span<const Message> messages);

    // Calls the handler for each object of a dump that is complete and consistent.
    void dump(Message& request, const Handler& handler);

private:
    using Socket = std::unique_ptr<nl_sock, void (*)(nl_sock*)>;
    using Envelope = std::unique_ptr<nl_msg, void (*)(nl_msg*)>;
    struct Datagram {
        std::unique_ptr<unsigned char, void (*)(void*)> data;
        std::size_t size;
    };

    void send(std::span<const Message> messages);
    // One datagram; throws when none comes in time.
    Datagram receive(std::chrono::steady_clock::time_point deadline);
    // Throws when there is none.
    std::chrono::milliseconds time_left(std::chrono::steady_clock::time_point deadline) const;
    [[noreturn]] void give_up() const;
    bool dump_once(Message& request, std::vector<Datagram>& datagrams);
    static void for_each(const Datagram& datagram, const Handler& handler);

    std::mutex mutex_;
    Socket socket_;
    Envelope envelope_; // libnl wants one of its own with each send
    std::chrono::milliseconds timeout_;
    std::uint32_t sequence_ = 0;
};

// "what it was: the kernel's text (strerror)", errno kept.
Error kernel_error(const std::string& what, const Answer& answer);

// The attributes of a received message, by number up to `most`; nothing if the message is shorter
// than its header says or its attributes are malformed. The array borrows from the message.
std::optional<std::vector<nlattr*>> attributes(const nlmsghdr& message, std::size_t header_size, int most);
std::optional<std::vector<nlattr*>> attributes(nlattr* nest, int most);
// The text of a string attribute that ends in a NUL, if it is one.
std::optional<std::string> text(nlattr* attribute);

} // namespace virfloor::tc
