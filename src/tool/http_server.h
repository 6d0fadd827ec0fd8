// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A small HTTP server (libmicrohttpd), for pages that are read. It takes GET and HEAD without a body, and refuses all else.
//
// Thread safety: pages are asked for one by one, in a thread of the server's own, which other clients that send slowly
// or not at all do not hold up.
#pragma once

#include "virfloor/status.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

struct MHD_Daemon;

namespace virfloor::tool {

// "127.0.0.1:19753", "[::1]:19753".
struct ListenAddress {
    std::string host; // a number, not a name; without brackets
    bool ipv6 = false;
    std::uint16_t port = 0; // 0: any that is free

    // Throws UsageError.
    static ListenAddress parse(const std::string& text);
    std::string text() const;
};

class HttpServer {
public:
    struct Page {
        std::string content_type, body;
    };
    // Nothing where there is no such page. What it throws is answered by status 500, and logged.
    using Pages = std::function<std::optional<Page>(const std::string& path)>;

    // Throws Error(system) if it cannot listen there.
    HttpServer(ListenAddress address, Pages pages);
    ~HttpServer();
    HttpServer(const HttpServer&) = delete;
    HttpServer& operator=(const HttpServer&) = delete;

    // With the port that it has.
    const ListenAddress& address() const { return address_; }
    const Pages& pages() const { return pages_; }

private:
    ListenAddress address_;
    Pages pages_;
    Descriptor socket_;
    MHD_Daemon* daemon_ = nullptr;
};

} // namespace virfloor::tool
