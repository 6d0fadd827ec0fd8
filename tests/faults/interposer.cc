// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A library that libvirtd is started with (LD_PRELOAD), to stop it or to fail it at a chosen point.
//
// A point is a call of libvirtd, by whatever code in it, that changes files, network devices or the
// kernel's traffic control; or, where only our module is looked at, each of its file operations and
// each single netlink message it sends. The library numbers points as they are passed, and writes
// down what they are. What it is to do stands in a file that the tests map too (see interposer.py,
// which has the same layout): nothing, or at point N to kill the process before, after or in the
// middle, or to let the call fail. So it can be armed while the daemon runs and before it starts.
#undef _FILE_OFFSET_BITS // both names of open() are ours, and must not become one

#include <glib.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <netlink/netlink.h>

#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

constexpr char control_path[] = "/run/sandbox/interposer";
constexpr char host[] = "libvirtd";
constexpr const char* state_folders[] = {"/run/libvirt/", "/etc/libvirt/", "/sys/class/net/",
                                         "/sys/devices/virtual/net/", "/proc/sys/net/"};
constexpr char our_state[] = "/run/libvirt/network-floor";
constexpr char extended_text[] = "refused by the test"; // interposer.py looks for it

enum class Mode : std::uint32_t { idle, record, kill_before, kill_after, kill_torn, fault };
enum class Scope : std::uint32_t {
    changes, // whoever makes them
    ours,    // what our module does for a caller
    watch,   // what it does by itself, in the event loop's thread
};
enum class Fault : std::uint32_t {
    error,          // the call, or the kernel's answer, is an error
    torn,           // half is written, then an error
    short_count,    // half is written, and no error
    cut,            // the answer's datagram lacks its end
    wrong_sequence, // the answer is one to another message
    silence,        // no answer
    overrun,        // the answer did not fit the socket's buffer
};

constexpr std::uint32_t most_traced = 4096;
struct Trace {
    std::uint32_t flags;
    char text[252];
};
enum TraceFlags : std::uint32_t { is_write = 1, is_netlink = 2 };

struct Control {
    std::atomic<Mode> mode;
    Scope scope;
    std::uint32_t target; // number of the point, from 0
    Fault fault;
    std::uint32_t error;
    std::uint32_t quick; // answers that do not come are not waited for
    std::atomic<std::uint32_t> passed;
    std::atomic<std::uint32_t> hits;
    Trace trace[most_traced];
};

Control* control = nullptr;
pid_t own_pid = 0;
char our_folder[4096];            // of the modules that the daemon was told to load
thread_local int within_ours = 0; // in a library's function that our module called
std::atomic<int> our_socket = -1; // where a message was failed last, and which
std::atomic<std::uint32_t> our_sequence = 0;

template <class Function>
Function* next(const char* name)
{
    void* found = dlsym(RTLD_NEXT, name);
    if (!found) {
        // Loaded for a module only, not for the daemon itself.
        static void* const netlink = dlopen("libnl-3.so.200", RTLD_NOW);
        found = netlink ? dlsym(netlink, name) : nullptr;
    }
    if (!found) {
        std::fprintf(stderr, "interposer: no %s\n", name);
        std::abort();
    }
    return reinterpret_cast<Function*>(found);
}

__attribute__((constructor)) void set_up()
{
    if (std::strcmp(program_invocation_short_name, host) != 0)
        return;
    const int file = next<int(const char*, int, ...)>("open")(control_path, O_RDWR | O_CLOEXEC);
    if (file < 0)
        return;
    void* mapped = mmap(nullptr, sizeof(Control), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (mapped == MAP_FAILED)
        return;
    const char* folder = std::getenv("LIBVIRT_DRIVER_DIR");
    std::snprintf(our_folder, sizeof our_folder, "%s/", folder ? folder : "");
    own_pid = getpid();
    control = static_cast<Control*>(mapped);
}

// Not in a child that was forked to run something else.
bool armed() { return control && control->mode != Mode::idle && getpid() == own_pid; }

bool is_ours(void* caller)
{
    Dl_info info{};
    return within_ours > 0 ||
           (dladdr(caller, &info) && std::strncmp(info.dli_fname, our_folder, std::strlen(our_folder)) == 0);
}

// The event loop runs in the process's first thread; calls and the daemon's start and reload do not.
bool in_scope() { return (gettid() == own_pid) == (control->scope == Scope::watch); }

[[noreturn]] void die()
{
    kill(own_pid, SIGKILL);
    for (;;)
        pause();
}

// Numbers the point; true if it is the one.
bool pass(const std::string& text, std::uint32_t flags)
{
    const std::uint32_t number = control->passed++;
    if (number < most_traced) {
        Trace& trace = control->trace[number];
        trace.flags = flags;
        std::snprintf(trace.text, sizeof trace.text, "%s", text.c_str());
    }
    if (control->mode == Mode::record || number != control->target)
        return false;
    ++control->hits;
    return true;
}

// Files that hold state; not logs, and not what a daemon does to be a daemon.
bool holds_state(const std::string& path)
{
    const auto starts = [&path](const char* head) { return path.starts_with(head); };
    return std::any_of(std::begin(state_folders), std::end(state_folders), starts) && !starts("/run/libvirt/common") &&
           !path.ends_with(".pid") && path.find("-sock") == std::string::npos;
}

std::string path_of(int file)
{
    char link[64], path[4096];
    std::snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    const ssize_t size = readlink(link, path, sizeof path);
    return size > 0 ? std::string(path, static_cast<std::size_t>(size)) : "";
}

bool counts(const std::string& path, bool changes, void* caller)
{
    if (!holds_state(path))
        return false;
    if (control->scope == Scope::changes)
        return changes;
    return in_scope() && (is_ours(caller) || path.starts_with(our_state));
}

// Makes the call, or what is to become of it. Half of it can be done only of a write.
template <class Call, class Half>
auto at_point(const char* what, const std::string& path, bool changes, void* caller, Call call, Half half)
    -> decltype(call())
{
    constexpr bool writes = !std::is_null_pointer_v<Half>;
    constexpr std::uint32_t flags = writes ? std::uint32_t{is_write} : 0;
    if (!counts(path, changes, caller) || !pass(std::string(what) + ' ' + path, flags))
        return call();
    switch (control->mode) {
    case Mode::kill_before: die();
    case Mode::kill_after: call(); die();
    case Mode::kill_torn:
        if constexpr (writes)
            half();
        die();
    case Mode::fault:
        if constexpr (writes) {
            if (control->fault == Fault::short_count)
                return half();
            if (control->fault == Fault::torn)
                half();
        }
        errno = static_cast<int>(control->error);
        return -1;
    default: return call();
    }
}

template <class Call>
auto at_point(const char* what, const std::string& path, bool changes, void* caller, Call call)
{
    return at_point(what, path, changes, caller, call, nullptr);
}

template <class Open>
int opened(const char* path, int flags, void* caller, Open open)
{
    if (!armed())
        return open();
    const bool changes = flags & (O_CREAT | O_TRUNC);
    return at_point(changes ? "create" : "open", path, changes, caller, open);
}

mode_t mode_of(int flags, va_list arguments) { return flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0; }

// --- netlink ------------------------------------------------------------------------------------

bool is_route_socket(int file)
{
    int domain = 0, protocol = -1;
    socklen_t size = sizeof domain;
    return getsockopt(file, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_NETLINK &&
           getsockopt(file, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) == 0 && protocol == NETLINK_ROUTE;
}

std::vector<char> gather(const msghdr& message)
{
    std::vector<char> bytes;
    for (std::size_t i = 0; i < message.msg_iovlen; ++i) {
        const auto* data = static_cast<const char*>(message.msg_iov[i].iov_base);
        bytes.insert(bytes.end(), data, data + message.msg_iov[i].iov_len);
    }
    return bytes;
}

std::vector<nlmsghdr*> messages_in(std::vector<char>& bytes)
{
    std::vector<nlmsghdr*> found;
    auto* at = reinterpret_cast<nlmsghdr*>(bytes.data());
    auto left = static_cast<int>(bytes.size());
    for (; NLMSG_OK(at, static_cast<unsigned>(left)); at = NLMSG_NEXT(at, left))
        found.push_back(at);
    return found;
}

// In rtnetlink, every fourth number is a request to read.
bool reads(const nlmsghdr* message) { return message->nlmsg_type % 4 == 2; }

constexpr std::uint16_t unknown_type = 0xff0; // which rtnetlink refuses

template <class Send>
ssize_t send_ours(int file, const msghdr* message, Send send)
{
    std::vector<char> bytes = gather(*message);
    bool refused = false;
    const auto messages = messages_in(bytes);
    for (nlmsghdr* each : messages) {
        if (!pass("netlink " + std::to_string(each->nlmsg_type), is_netlink) || control->mode != Mode::fault)
            continue;
        // A message that is not refused has an answer only if it is the last of the send.
        our_sequence = (control->fault == Fault::error ? each : messages.back())->nlmsg_seq;
        our_socket = file;
        if (control->fault == Fault::error) {
            each->nlmsg_type = unknown_type;
            refused = true;
        }
    }
    if (!refused)
        return send(message);
    iovec whole{bytes.data(), bytes.size()};
    msghdr changed = *message;
    changed.msg_iov = &whole;
    changed.msg_iovlen = 1;
    return send(&changed);
}

template <class Send>
ssize_t send_any(const msghdr* message, Send send)
{
    std::vector<char> bytes = gather(*message);
    std::string text = "netlink";
    bool changes = false;
    for (const nlmsghdr* each : messages_in(bytes)) {
        text += ' ' + std::to_string(each->nlmsg_type);
        changes |= !reads(each);
    }
    if (!changes || !pass(text, is_netlink))
        return send(message);
    if (control->mode == Mode::kill_before)
        die();
    const ssize_t sent = send(message);
    if (control->mode == Mode::kill_after)
        die();
    return sent;
}

// The kernel's refusal becomes the one asked for, with a text as it may have.
std::size_t rewrite_error(nlmsghdr* answer, std::size_t room)
{
    auto* error = static_cast<nlmsgerr*>(NLMSG_DATA(answer));
    error->error = -static_cast<int>(control->error);
    nlattr attribute{};
    attribute.nla_type = NLMSGERR_ATTR_MSG;
    attribute.nla_len = NLA_HDRLEN + sizeof extended_text;
    const std::size_t size = NLMSG_LENGTH(sizeof(nlmsgerr)) + NLA_ALIGN(attribute.nla_len);
    if (size > room)
        std::abort();
    answer->nlmsg_len = static_cast<std::uint32_t>(size);
    answer->nlmsg_flags |= NLM_F_ACK_TLVS | NLM_F_CAPPED;
    char* at = reinterpret_cast<char*>(answer) + NLMSG_LENGTH(sizeof(nlmsgerr));
    std::memset(at, 0, NLA_ALIGN(attribute.nla_len));
    std::memcpy(at, &attribute, sizeof attribute);
    std::memcpy(at + NLA_HDRLEN, extended_text, sizeof extended_text);
    return size;
}

template <class Receive>
ssize_t receive_ours(msghdr* message, Receive receive)
{
    constexpr std::size_t cut_off = 6;
    for (;;) {
        const ssize_t size = receive();
        auto* answer = static_cast<nlmsghdr*>(message->msg_iov[0].iov_base);
        if (size < static_cast<ssize_t>(sizeof *answer) || answer->nlmsg_seq != our_sequence)
            return size;
        switch (control->fault) {
        case Fault::error:
            return answer->nlmsg_type == NLMSG_ERROR
                       ? static_cast<ssize_t>(rewrite_error(answer, message->msg_iov[0].iov_len))
                       : size;
        case Fault::cut: return size - static_cast<ssize_t>(cut_off);
        case Fault::wrong_sequence:
            for (auto left = static_cast<int>(size); NLMSG_OK(answer, static_cast<unsigned>(left));
                 answer = NLMSG_NEXT(answer, left))
                answer->nlmsg_seq += 1u << 30;
            return size;
        case Fault::overrun:
            our_socket = -1;
            errno = ENOBUFS;
            return -1;
        default: continue; // it never came
        }
    }
}

} // namespace

#define EXPORTED extern "C" __attribute__((visibility("default")))
#define NEXT(name) static auto* const real = next<decltype(name)>(#name)
#define CALLER __builtin_return_address(0)

EXPORTED int open(const char* path, int flags, ...)
{
    NEXT(open);
    va_list arguments;
    va_start(arguments, flags);
    const mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return opened(path, flags, CALLER, [&] { return real(path, flags, mode); });
}

EXPORTED int open64(const char* path, int flags, ...)
{
    NEXT(open64);
    va_list arguments;
    va_start(arguments, flags);
    const mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return opened(path, flags, CALLER, [&] { return real(path, flags, mode); });
}

EXPORTED ssize_t read(int file, void* data, size_t size)
{
    NEXT(read);
    const auto call = [&] { return real(file, data, size); };
    if (!armed() || control->scope == Scope::changes)
        return call();
    return at_point("read", path_of(file), false, CALLER, call);
}

EXPORTED ssize_t write(int file, const void* data, size_t size)
{
    NEXT(write);
    const auto call = [&] { return real(file, data, size); };
    if (!armed())
        return call();
    return at_point("write", path_of(file), true, CALLER, call, [&] { return real(file, data, size / 2); });
}

EXPORTED ssize_t pwrite64(int file, const void* data, size_t size, off64_t offset)
{
    NEXT(pwrite64);
    const auto call = [&] { return real(file, data, size, offset); };
    if (!armed())
        return call();
    return at_point("pwrite", path_of(file), true, CALLER, call, [&] { return real(file, data, size / 2, offset); });
}

EXPORTED int fsync(int file)
{
    NEXT(fsync);
    const auto call = [&] { return real(file); };
    return armed() ? at_point("fsync", path_of(file), true, CALLER, call) : call();
}

EXPORTED int fdatasync(int file)
{
    NEXT(fdatasync);
    const auto call = [&] { return real(file); };
    return armed() ? at_point("fdatasync", path_of(file), true, CALLER, call) : call();
}

EXPORTED int mkdir(const char* path, mode_t mode) noexcept
{
    NEXT(mkdir);
    const auto call = [&] { return real(path, mode); };
    return armed() ? at_point("mkdir", path, true, CALLER, call) : call();
}

EXPORTED int rename(const char* from, const char* to) noexcept
{
    NEXT(rename);
    const auto call = [&] { return real(from, to); };
    return armed() ? at_point("rename", to, true, CALLER, call) : call();
}

EXPORTED int unlink(const char* path) noexcept
{
    NEXT(unlink);
    const auto call = [&] { return real(path); };
    return armed() ? at_point("unlink", path, true, CALLER, call) : call();
}

EXPORTED int remove(const char* path) noexcept
{
    NEXT(remove);
    const auto call = [&] { return real(path); };
    return armed() ? at_point("remove", path, true, CALLER, call) : call();
}

EXPORTED int rmdir(const char* path) noexcept
{
    NEXT(rmdir);
    const auto call = [&] { return real(path); };
    return armed() ? at_point("rmdir", path, true, CALLER, call) : call();
}

EXPORTED int symlink(const char* to, const char* path) noexcept
{
    NEXT(symlink);
    const auto call = [&] { return real(to, path); };
    return armed() ? at_point("symlink", path, true, CALLER, call) : call();
}

// Bridges are made, addressed and set up by these.
EXPORTED int ioctl(int file, unsigned long request, ...) noexcept
{
    NEXT(ioctl);
    va_list arguments;
    va_start(arguments, request);
    void* argument = va_arg(arguments, void*);
    va_end(arguments);
    const auto call = [&] { return real(file, request, argument); };
    const bool changes = request == SIOCSIFFLAGS || request == SIOCSIFHWADDR || request == SIOCSIFMTU ||
                         (request >= SIOCBRADDBR && request <= SIOCBRDELIF);
    if (!changes || !armed() || control->scope != Scope::changes)
        return call();
    char text[32];
    std::snprintf(text, sizeof text, "ioctl 0x%lx", request);
    if (!pass(text, 0))
        return call();
    if (control->mode == Mode::kill_before)
        die();
    const int result = call();
    if (control->mode == Mode::kill_after)
        die();
    return result;
}

EXPORTED gboolean g_file_set_contents_full(const gchar* path, const gchar* contents, gssize length,
                                           GFileSetContentsFlags flags, int mode, GError** error)
{
    NEXT(g_file_set_contents_full);
    const int ours = armed() && is_ours(CALLER);
    within_ours += ours;
    const gboolean result = real(path, contents, length, flags, mode, error);
    const int kept = errno;
    within_ours -= ours;
    errno = kept;
    return result;
}

EXPORTED int nl_send_iovec(nl_sock* socket, nl_msg* message, iovec* parts, unsigned count)
{
    NEXT(nl_send_iovec);
    const int ours = armed() && is_ours(CALLER);
    within_ours += ours;
    const int result = real(socket, message, parts, count);
    const int kept = errno;
    within_ours -= ours;
    errno = kept;
    return result;
}

EXPORTED ssize_t sendmsg(int file, const msghdr* message, int flags)
{
    NEXT(sendmsg);
    const auto send = [&](const msghdr* what) { return real(file, what, flags); };
    if (!armed() || !is_route_socket(file))
        return send(message);
    if (control->scope == Scope::changes)
        return send_any(message, send);
    return in_scope() && is_ours(CALLER) ? send_ours(file, message, send) : send(message);
}

EXPORTED ssize_t recvmsg(int file, msghdr* message, int flags)
{
    NEXT(recvmsg);
    const auto receive = [&] { return real(file, message, flags); };
    if (!armed() || control->mode != Mode::fault || file != our_socket)
        return receive();
    return receive_ours(message, receive);
}

// The kernel answers before a send returns. What is not there then never comes.
EXPORTED int poll(pollfd* files, nfds_t count, int timeout)
{
    NEXT(poll);
    const bool quick =
        armed() && control->mode == Mode::fault && control->quick && count == 1 && files[0].fd == our_socket;
    return real(files, count, quick ? 0 : timeout);
}
