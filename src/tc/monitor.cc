// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virfloor/monitor.h"
#include "virfloor/text.h"

#include "netlink.h"

#include <linux/filter.h>
#include <netlink/netlink.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstddef>

namespace virfloor::tc {

namespace {

// Notices that are read at one time, so that a storm of them leaves the caller time for others.
constexpr int most_at_once = 256;
// Large enough for a tree of some thousand classes to go at once.
constexpr int receive_buffer = 1 << 20;

// Drops, in the kernel, notices of changes that this port asked for: they would wake the daemon at
// every plug. (netlink_broadcast runs a socket's filter on each message.)
void drop_own(int socket, std::uint32_t port)
{
    constexpr std::uint32_t all = UINT32_MAX;
    std::array<sock_filter, 4> code{{
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(nlmsghdr, nlmsg_pid)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htonl(port), 0, 1), // a load is in network order
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, all),
    }};
    const sock_fprog program{code.size(), code.data()};
    if (setsockopt(socket, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0)
        throw kernel_error(_("cannot filter the kernel's notices"), {errno, ""});
}

std::optional<Notice> read_notice(const nlmsghdr& message)
{
    auto* header = const_cast<nlmsghdr*>(&message);
    switch (message.nlmsg_type) {
    case RTM_NEWQDISC:
    case RTM_DELQDISC:
    case RTM_NEWTCLASS:
    case RTM_DELTCLASS:
    case RTM_NEWTFILTER:
    case RTM_DELTFILTER:
        if (!nlmsg_valid_hdr(header, sizeof(tcmsg)))
            return {};
        return Notice{Notice::About::traffic_control, static_cast<const tcmsg*>(nlmsg_data(header))->tcm_ifindex, ""};
    case RTM_NEWLINK:
    case RTM_DELLINK: {
        const auto found = attributes(message, sizeof(ifinfomsg), IFLA_IFNAME);
        if (!found)
            return {};
        const auto& link = *static_cast<const ifinfomsg*>(nlmsg_data(header));
        // A bridge tells of its ports in the same group.
        if (link.ifi_family != AF_UNSPEC)
            return {};
        return Notice{message.nlmsg_type == RTM_NEWLINK ? Notice::About::device : Notice::About::device_gone,
                      link.ifi_index, text((*found)[IFLA_IFNAME]).value_or("")};
    }
    default: return {};
    }
}

} // namespace

struct Monitor::State {
    std::unique_ptr<nl_sock, void (*)(nl_sock*)> socket{nl_socket_alloc(), nl_socket_free};
};

Monitor::Monitor(const Netlink& own) : state_(std::make_unique<State>())
{
    nl_sock* socket = state_->socket.get();
    if (!socket)
        throw std::bad_alloc();
    if (const int error = nl_connect(socket, NETLINK_ROUTE); error < 0)
        throw Error(Refusal::system, format(_("cannot open a socket for the kernel's notices: %s"), nl_geterror(error)),
                    errno);
    nl_socket_set_buffer_size(socket, receive_buffer, 0);
    nl_socket_set_nonblocking(socket);
    drop_own(nl_socket_get_fd(socket), own.port());
    if (const int error = nl_socket_add_memberships(socket, RTNLGRP_TC, RTNLGRP_LINK, RTNLGRP_NONE); error < 0)
        throw Error(Refusal::system, format(_("cannot listen to the kernel's notices: %s"), nl_geterror(error)), errno);
}

Monitor::~Monitor() = default;

int Monitor::descriptor() const { return nl_socket_get_fd(state_->socket.get()); }

void Monitor::take(const std::function<void(const Notice&)>& handler)
{
    for (int i = 0; i < most_at_once; ++i) {
        sockaddr_nl sender{};
        unsigned char* data = nullptr;
        errno = 0;
        int size = nl_recv(state_->socket.get(), &sender, &data, nullptr);
        const std::unique_ptr<unsigned char, void (*)(void*)> owner(data, free);
        if (size == 0 || size == -NLE_AGAIN)
            return;
        if (size < 0) {
            // ENOBUFS: more than the socket holds. Whatever it is, what was missed is not known.
            handler({});
            if (errno != ENOBUFS && errno != EINTR)
                return;
            continue;
        }
        if (sender.nl_pid != 0)
            continue;
        for (auto* at = reinterpret_cast<nlmsghdr*>(data); nlmsg_ok(at, size); at = nlmsg_next(at, &size))
            if (const auto notice = read_notice(*at))
                handler(*notice);
    }
}

} // namespace virfloor::tc
