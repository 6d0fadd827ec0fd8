// SPDX-License-Identifier: LGPL-2.1-or-later
#include "http_server.h"

#include "options.h"
#include "virfloor/error.h"
#include "virfloor/log.h"
#include "virfloor/text.h"
#include "virfloor/xml.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace virfloor::tool {

namespace {

constexpr unsigned most_connections = 64;
constexpr unsigned idle_seconds = 10;

union SocketAddress {
    sockaddr any;
    sockaddr_in ip4;
    sockaddr_in6 ip6;
};

SocketAddress socket_address(const ListenAddress& at)
{
    SocketAddress address{};
    if (at.ipv6) {
        address.ip6 = {};
        address.ip6.sin6_family = AF_INET6;
        address.ip6.sin6_port = htons(at.port);
        inet_pton(AF_INET6, at.host.c_str(), &address.ip6.sin6_addr);
    } else {
        address.ip4 = {};
        address.ip4.sin_family = AF_INET;
        address.ip4.sin_port = htons(at.port);
        inet_pton(AF_INET, at.host.c_str(), &address.ip4.sin_addr);
    }
    return address;
}

Error cannot_listen(const ListenAddress& at, int number)
{
    return {Refusal::system, format(_("Cannot listen on %s: %s"), at.text().c_str(), std::strerror(number)), number};
}

// The address gets the port.
Descriptor listen_at(ListenAddress& at)
{
    SocketAddress address = socket_address(at);
    Descriptor socket(::socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const int on = 1;
    socklen_t size = at.ipv6 ? sizeof address.ip6 : sizeof address.ip4;
    if (socket.get() < 0 || setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(socket.get(), &address.any, size) < 0 || listen(socket.get(), SOMAXCONN) < 0 ||
        getsockname(socket.get(), &address.any, &size) < 0)
        throw cannot_listen(at, errno);
    at.port = ntohs(at.ipv6 ? address.ip6.sin6_port : address.ip4.sin_port);
    return socket;
}

MHD_Result send(MHD_Connection* connection, unsigned status, const HttpServer::Page& page)
{
    const std::unique_ptr<MHD_Response, void (*)(MHD_Response*)> response(
        MHD_create_response_from_buffer(page.body.size(), const_cast<char*>(page.body.data()), MHD_RESPMEM_MUST_COPY),
        MHD_destroy_response);
    if (!response)
        return MHD_NO;
    MHD_add_response_header(response.get(), MHD_HTTP_HEADER_CONTENT_TYPE, page.content_type.c_str());
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(response.get(), MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    return MHD_queue_response(connection, status, response.get());
}

MHD_Result refuse(MHD_Connection* connection, unsigned status, const char* words)
{
    return send(connection, status, {"text/plain; charset=utf-8", std::string(words) + "\n"});
}

bool has_body(MHD_Connection* connection)
{
    const char* length = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
    return (length && std::strcmp(length, "0") != 0) ||
           MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_TRANSFER_ENCODING);
}

MHD_Result send_page(const HttpServer& server, MHD_Connection* connection, const char* path)
{
    try {
        const auto page = server.pages()(path);
        return page ? send(connection, MHD_HTTP_OK, *page) : refuse(connection, MHD_HTTP_NOT_FOUND, "Not found");
    } catch (const std::exception& error) {
        log(Severity::error, std::string("virt-floor: ") + error.what());
        return refuse(connection, MHD_HTTP_INTERNAL_SERVER_ERROR, "Internal error");
    }
}

// Called once when the headers are there, when a refusal spares reading what follows, and again for the answer.
MHD_Result answer(void* server, MHD_Connection* connection, const char* path, const char* method, const char*,
                  const char*, std::size_t*, void** state)
{
    if (*state)
        return send_page(*static_cast<HttpServer*>(server), connection, path);
    *state = server;
    if (std::strcmp(method, MHD_HTTP_METHOD_GET) != 0 && std::strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return refuse(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "Only GET and HEAD");
    if (has_body(connection))
        return refuse(connection, MHD_HTTP_BAD_REQUEST, "No body, please");
    return MHD_YES;
}

} // namespace

ListenAddress ListenAddress::parse(const std::string& text)
{
    ListenAddress result;
    const std::size_t colon = text.rfind(':');
    const std::uint64_t port =
        parse_number(colon == std::string::npos ? "" : text.substr(colon + 1)).value_or(UINT64_MAX);
    result.host = text.substr(0, colon);
    result.ipv6 = result.host.size() > 2 && result.host.front() == '[' && result.host.back() == ']';
    if (result.ipv6)
        result.host = result.host.substr(1, result.host.size() - 2);
    in6_addr address;
    if (port > UINT16_MAX || inet_pton(result.ipv6 ? AF_INET6 : AF_INET, result.host.c_str(), &address) != 1)
        throw UsageError(format(_("--listen needs an address and a port, such as 127.0.0.1:19753 or [::1]:19753, not "
                                  "'%s'"),
                                text.c_str()));
    result.port = static_cast<std::uint16_t>(port);
    return result;
}

std::string ListenAddress::text() const { return (ipv6 ? "[" + host + "]" : host) + ":" + std::to_string(port); }

HttpServer::HttpServer(ListenAddress address, Pages pages)
    : address_(std::move(address)), pages_(std::move(pages)), socket_(listen_at(address_))
{
    const int its_own = fcntl(socket_.get(), F_DUPFD_CLOEXEC, 0); // it closes the one that it gets
    if (its_own < 0)
        throw cannot_listen(address_, errno);
    daemon_ = MHD_start_daemon(MHD_USE_AUTO | MHD_USE_INTERNAL_POLLING_THREAD, 0, nullptr, nullptr, answer, this,
                               MHD_OPTION_LISTEN_SOCKET, its_own, MHD_OPTION_CONNECTION_LIMIT, most_connections,
                               MHD_OPTION_CONNECTION_TIMEOUT, idle_seconds, MHD_OPTION_END);
    if (!daemon_)
        throw cannot_listen(address_, errno);
}

HttpServer::~HttpServer() { MHD_stop_daemon(daemon_); }

} // namespace virfloor::tool
