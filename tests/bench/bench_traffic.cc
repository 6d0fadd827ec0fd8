// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Traffic of the benchmark suite, with one process at each side, however many guests there are.
//
//   bench-traffic serve PID…              answers in the network namespaces of these processes: takes UDP and
//                                         throws it away, sends back what comes by TCP; prints "ready"; lasts
//                                         until its stdin ends
//   bench-traffic flood TARGET…           offers UDP to each target, until its stdin ends, or SIGTERM;
//                                         TARGET: ADDRESS,BYTES_PER_SECOND,FRAME_BYTES[,FRAMES_PER_PACKET]
//   bench-traffic ask SECONDS FLOWS ADDRESS…
//                                         TCP requests and answers of one byte, FLOWS at a time for each address
//   bench-traffic ping SECONDS MICROSECONDS ADDRESS
//                                         one request each so many microseconds, at one flow
//   bench-traffic lateness SECONDS        how late the processor is given to one that slept 1 ms
//
// All but serve print what they saw as one line of JSON: times in microseconds, bytes per second of frames
// with their Ethernet header, as HTB counts them, answers per second.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <sstream>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::duration;
using std::chrono::microseconds;

constexpr std::uint16_t sink_port = 9, echo_port = 7;
constexpr int ethernet_header = 14, ipv4_header = 20, ipv6_header = 40, udp_header = 8;
constexpr int no_limit = 256 << 20;           // bytes that may wait below one socket
constexpr int batch = 64;                     // messages of one call
constexpr microseconds tick{500};             // of a flood
constexpr duration<double> most_arrears{0.1}; // what a flood cannot send within it, it leaves out

volatile std::sig_atomic_t stopped = 0;

int checked(int result, const char* what)
{
    if (result < 0)
        throw std::system_error(errno, std::generic_category(), what);
    return result;
}

class Descriptor {
public:
    explicit Descriptor(int fd) : fd_(fd) {}
    Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Descriptor& operator=(Descriptor&&) = delete;
    ~Descriptor()
    {
        if (fd_ >= 0)
            close(fd_);
    }
    operator int() const { return fd_; }

private:
    int fd_;
};

void set(int socket, int level, int option, int value, const char* what)
{
    checked(setsockopt(socket, level, option, &value, sizeof value), what);
}

struct Address {
    sockaddr_storage storage{};
    socklen_t size = 0;

    int family() const { return storage.ss_family; }
    const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

Address parse_address(const std::string& text, std::uint16_t port)
{
    Address address;
    if (auto* ip6 = reinterpret_cast<sockaddr_in6*>(&address.storage);
        inet_pton(AF_INET6, text.c_str(), &ip6->sin6_addr) == 1) {
        ip6->sin6_family = AF_INET6;
        ip6->sin6_port = htons(port);
        address.size = sizeof *ip6;
    } else if (auto* ip4 = reinterpret_cast<sockaddr_in*>(&address.storage);
               inet_pton(AF_INET, text.c_str(), &ip4->sin_addr) == 1) {
        ip4->sin_family = AF_INET;
        ip4->sin_port = htons(port);
        address.size = sizeof *ip4;
    } else {
        throw std::runtime_error("no address: " + text);
    }
    return address;
}

double seconds_since(Clock::time_point start) { return duration<double>(Clock::now() - start).count(); }

// Whether the pipe at stdin has been closed by who started us.
bool abandoned()
{
    pollfd input{STDIN_FILENO, POLLIN, 0};
    return poll(&input, 1, 0) > 0;
}

// Median, 99th percentile and the largest of samples, in JSON.
std::string percentiles(std::vector<float>& samples)
{
    if (samples.empty())
        return "null";
    std::sort(samples.begin(), samples.end());
    const auto at = [&samples](double part) {
        return samples[static_cast<std::size_t>(part * static_cast<double>(samples.size() - 1))];
    };
    std::ostringstream text;
    text << "{\"median\": " << at(0.5) << ", \"p99\": " << at(0.99) << ", \"most\": " << samples.back() << "}";
    return text.str();
}

// --- serve ------------------------------------------------------------------------------------------

Descriptor listening(int type, std::uint16_t port)
{
    Descriptor fd(checked(socket(AF_INET6, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket"));
    set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0, "IPV6_V6ONLY");
    set(fd, SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR");
    sockaddr_in6 any{};
    any.sin6_family = AF_INET6;
    any.sin6_port = htons(port);
    checked(bind(fd, reinterpret_cast<const sockaddr*>(&any), sizeof any), "bind");
    if (type == SOCK_STREAM)
        checked(listen(fd, 256), "listen");
    else
        set(fd, SOL_SOCKET, SO_RCVBUF, 1, "SO_RCVBUF"); // nobody reads it: the kernel drops, at no cost
    return fd;
}

void watch(int epoll, int fd)
{
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    checked(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
}

void answer(int fd)
{
    std::array<char, 4096> bytes;
    const ssize_t got = read(fd, bytes.data(), bytes.size());
    if (got > 0 && write(fd, bytes.data(), static_cast<std::size_t>(got)) == got)
        return;
    if (got < 0 && errno == EAGAIN)
        return;
    close(fd);
}

int serve(const std::vector<std::string>& pids)
{
    const Descriptor epoll(checked(epoll_create1(EPOLL_CLOEXEC), "epoll_create1"));
    const Descriptor home(checked(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), "own namespace"));
    std::vector<Descriptor> sinks, listeners;
    for (const std::string& pid : pids) {
        const Descriptor there(checked(open(("/proc/" + pid + "/ns/net").c_str(), O_RDONLY | O_CLOEXEC), "namespace"));
        checked(setns(there, CLONE_NEWNET), "setns");
        sinks.push_back(listening(SOCK_DGRAM, sink_port));
        listeners.push_back(listening(SOCK_STREAM, echo_port));
        watch(epoll, listeners.back());
    }
    checked(setns(home, CLONE_NEWNET), "setns");
    watch(epoll, STDIN_FILENO);
    std::puts("ready");
    std::fflush(stdout);
    std::array<epoll_event, 256> events;
    for (;;) {
        const int count = epoll_wait(epoll, events.data(), events.size(), -1);
        for (int i = 0; i < count; ++i) {
            const int fd = events[static_cast<std::size_t>(i)].data.fd;
            if (fd == STDIN_FILENO)
                return 0;
            if (std::find(listeners.begin(), listeners.end(), fd) == listeners.end()) {
                answer(fd);
                continue;
            }
            const int flow = accept4(fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (flow < 0)
                continue;
            set(flow, IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY");
            watch(epoll, flow);
        }
    }
}

// --- flood ------------------------------------------------------------------------------------------

struct Target {
    Descriptor socket;
    double packets_per_second;
    int frame, frames; // bytes of a frame, frames of a packet
    std::vector<char> payload;
    double sent = 0; // packets
    double left_out = 0;
};

// ADDRESS,BYTES_PER_SECOND,FRAME_BYTES[,FRAMES_PER_PACKET]
Target parse_target(const std::string& text)
{
    std::istringstream words(text);
    std::string address_text, rate, frame, frames = "1";
    std::getline(words, address_text, ',');
    std::getline(words, rate, ',');
    std::getline(words, frame, ',');
    std::getline(words, frames, ',');
    const Address address = parse_address(address_text, sink_port);
    const int header = ethernet_header + (address.family() == AF_INET6 ? ipv6_header : ipv4_header) + udp_header;
    const int frame_size = std::stoi(frame), count = frames.empty() ? 1 : std::stoi(frames);
    const int segment = std::max(frame_size - header, 1);
    Target target{Descriptor(checked(socket(address.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket")),
                  std::stod(rate) / (frame_size * count), frame_size, count,
                  std::vector<char>(static_cast<std::size_t>(segment * count))};
    // As from elsewhere: what waits in a guest's queue does not slow down who sent it.
    set(target.socket, SOL_SOCKET, SO_SNDBUFFORCE, no_limit, "SO_SNDBUFFORCE");
    if (count > 1)
        set(target.socket, IPPROTO_UDP, UDP_SEGMENT, segment, "UDP_SEGMENT");
    checked(connect(target.socket, address.get(), address.size), "connect");
    return target;
}

void send_what_is_due(Target& target, double elapsed)
{
    double due = std::floor(elapsed * target.packets_per_second) - target.sent - target.left_out;
    const double most = std::max(1.0, std::floor(most_arrears.count() * target.packets_per_second));
    if (due > most) {
        target.left_out += due - most;
        due = most;
    }
    iovec bytes{target.payload.data(), target.payload.size()};
    std::array<mmsghdr, batch> messages{};
    for (mmsghdr& message : messages) {
        message.msg_hdr.msg_iov = &bytes;
        message.msg_hdr.msg_iovlen = 1;
    }
    while (due >= 1 && !stopped) {
        const auto count = static_cast<unsigned>(std::min<double>(due, batch));
        const int sent = sendmmsg(target.socket, messages.data(), count, MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN && errno != ENOBUFS && errno != ECONNREFUSED && errno != EINTR)
            checked(sent, "sendmmsg");
        const double done = sent > 0 ? sent : count; // what could not wait anywhere is lost, as on a wire
        target.sent += done;
        due -= done;
    }
}

int flood(const std::vector<std::string>& words)
{
    std::vector<Target> targets;
    for (const std::string& word : words)
        targets.push_back(parse_target(word));
    const auto start = Clock::now();
    auto wake = start;
    while (!stopped && !abandoned()) {
        for (Target& target : targets)
            send_what_is_due(target, seconds_since(start));
        wake = std::max(wake + tick, Clock::now());
        std::this_thread::sleep_until(wake);
    }
    double offered = 0, left_out = 0;
    for (const Target& target : targets) {
        offered += target.sent * target.frame * target.frames;
        left_out += target.left_out * target.frame * target.frames;
    }
    const double seconds = seconds_since(start);
    std::printf("{\"offered\": %.0f, \"left out\": %.0f}\n", offered / seconds, left_out / seconds);
    return 0;
}

// --- ask, ping --------------------------------------------------------------------------------------

Descriptor connected(const Address& address)
{
    Descriptor fd(checked(socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
    checked(connect(fd, address.get(), address.size), "connect");
    set(fd, IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY");
    return fd;
}

struct Flow {
    Descriptor socket;
    std::size_t guest;
};

void request(int flow)
{
    if (send(flow, "?", 1, MSG_NOSIGNAL) != 1)
        checked(-1, "send");
}

float microseconds_since(Clock::time_point start) { return duration<float, std::micro>(Clock::now() - start).count(); }

int ask(double seconds, int flows_each, const std::vector<std::string>& addresses)
{
    const Descriptor epoll(checked(epoll_create1(EPOLL_CLOEXEC), "epoll_create1"));
    std::vector<Flow> flows;
    flows.reserve(addresses.size() * static_cast<std::size_t>(flows_each));
    for (int round = 0; round < flows_each; ++round)
        for (std::size_t guest = 0; guest < addresses.size(); ++guest)
            flows.push_back({connected(parse_address(addresses[guest], echo_port)), guest});
    for (std::size_t i = 0; i < flows.size(); ++i) {
        epoll_event event{};
        event.events = EPOLLIN;
        event.data.u64 = i;
        checked(epoll_ctl(epoll, EPOLL_CTL_ADD, flows[i].socket, &event), "epoll_ctl");
    }
    for (const Flow& flow : flows)
        request(flow.socket);
    std::vector<std::uint64_t> answers(addresses.size());
    const double settled = std::min(1.0, seconds / 4); // from then on it counts
    const auto start = Clock::now();
    std::array<epoll_event, 256> events;
    for (double now = 0; now < settled + seconds && !stopped; now = seconds_since(start)) {
        const int count = epoll_wait(epoll, events.data(), events.size(), 100);
        for (int i = 0; i < count; ++i) {
            const Flow& flow = flows[events[static_cast<std::size_t>(i)].data.u64];
            char byte;
            if (recv(flow.socket, &byte, 1, MSG_DONTWAIT) != 1)
                continue;
            answers[flow.guest] += now >= settled;
            request(flow.socket);
        }
    }
    std::printf("{");
    for (std::size_t i = 0; i < answers.size(); ++i)
        std::printf("%s\"%s\": %.1f", i ? ", " : "", addresses[i].c_str(), static_cast<double>(answers[i]) / seconds);
    std::printf("}\n");
    return 0;
}

int ping(double seconds, microseconds interval, const std::string& address)
{
    const Descriptor flow = connected(parse_address(address, echo_port));
    std::vector<float> samples;
    const auto start = Clock::now();
    auto next = start;
    while (seconds_since(start) < seconds && !stopped) {
        std::this_thread::sleep_until(next);
        next = std::max(next + interval, Clock::now());
        const auto asked = Clock::now();
        request(flow);
        char byte;
        if (recv(flow, &byte, 1, 0) != 1)
            checked(-1, "recv");
        samples.push_back(microseconds_since(asked));
    }
    std::printf("%s\n", percentiles(samples).c_str());
    return 0;
}

int lateness(double seconds)
{
    constexpr microseconds pause{1000};
    std::vector<float> samples;
    const auto start = Clock::now();
    while (seconds_since(start) < seconds && !stopped) {
        const auto wake = Clock::now() + pause;
        std::this_thread::sleep_until(wake);
        samples.push_back(microseconds_since(wake));
    }
    std::printf("%s\n", percentiles(samples).c_str());
    return 0;
}

int run(const std::vector<std::string>& words)
{
    const auto from = [&words](std::size_t first) {
        return std::vector<std::string>(words.begin() + static_cast<std::ptrdiff_t>(first), words.end());
    };
    const std::string verb = words.empty() ? "" : words[0];
    if (verb == "serve" && words.size() > 1)
        return serve(from(1));
    if (verb == "flood" && words.size() > 1)
        return flood(from(1));
    if (verb == "ask" && words.size() > 3)
        return ask(std::stod(words[1]), std::stoi(words[2]), from(3));
    if (verb == "ping" && words.size() == 4)
        return ping(std::stod(words[1]), microseconds(std::stol(words[2])), words[3]);
    if (verb == "lateness" && words.size() == 2)
        return lateness(std::stod(words[1]));
    std::fputs("usage: bench-traffic serve | flood | ask | ping | lateness …: see bench_traffic.cc\n", stderr);
    return 2;
}

} // namespace

int main(int argc, char** argv)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    std::signal(SIGTERM, [](int) { stopped = 1; });
    std::signal(SIGPIPE, SIG_IGN);
    try {
        return run({argv + 1, argv + argc});
    } catch (const std::exception& error) {
        std::fprintf(stderr, "bench-traffic: %s\n", error.what());
        return 1;
    }
}
