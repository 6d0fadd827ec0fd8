// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Preloaded into a libvirtd, takes away what LACKING names: a kind of qdisc or filter (htb, u32, fq_codel)
// from the kernel, netlink from the network driver, or a function that is looked up by name.
#include <dlfcn.h>
#include <linux/netlink.h>
#include <netlink/errno.h>
#include <sys/socket.h>

#include <cstdlib>
#include <string>
#include <string_view>

namespace {

bool lacks(std::string_view what)
{
    const char* lacking = getenv("LACKING");
    return lacking && what == lacking;
}

template <class Function>
Function real(const char* name)
{
    return reinterpret_cast<Function>(dlvsym(RTLD_NEXT, name, "GLIBC_2.2.5"));
}

} // namespace

#pragma GCC visibility push(default)

// The kernel is asked for a kind that it cannot know, and answers in its own words.
extern "C" ssize_t sendmsg(int file, const msghdr* message, int flags)
{
    static const auto send = real<ssize_t (*)(int, const msghdr*, int)>("sendmsg");
    std::string bytes;
    for (std::size_t i = 0; i < message->msg_iovlen; ++i)
        bytes.append(static_cast<const char*>(message->msg_iov[i].iov_base), message->msg_iov[i].iov_len);
    for (const std::string_view kind : {"htb", "u32", "fq_codel"}) {
        // TCA_KIND: its length with header and final 0, its type, the name.
        std::string attribute(1, static_cast<char>(4 + kind.size() + 1));
        attribute.append("\0\x01\0", 3).append(kind).push_back('\0');
        for (std::size_t at = 0; lacks(kind) && (at = bytes.find(attribute, at)) != std::string::npos;)
            bytes.replace(at + 4, 3, "???");
    }
    iovec all{bytes.data(), bytes.size()};
    msghdr changed = *message;
    changed.msg_iov = &all;
    changed.msg_iovlen = 1;
    return send(file, bytes.find("???") == std::string::npos ? message : &changed, flags);
}

extern "C" int nl_connect(struct nl_sock* socket, int protocol)
{
    Dl_info caller{};
    if (lacks("netlink") && dladdr(__builtin_return_address(0), &caller) &&
        std::string_view(caller.dli_fname).ends_with("libvirt_driver_network.so"))
        return -NLE_NOACCESS;
    using Connect = int (*)(nl_sock*, int);
    return reinterpret_cast<Connect>(dlsym(RTLD_NEXT, "nl_connect"))(socket, protocol);
}

extern "C" void* dlsym(void* library, const char* name) noexcept
{
    static const auto look_up = real<void* (*)(void*, const char*)>("dlsym");
    return lacks(name) ? nullptr : look_up(library, name);
}
