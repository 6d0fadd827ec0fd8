// SPDX-License-Identifier: LGPL-2.1-or-later
#include "commands.h"
#include "config.h"
#include "follower.h"
#include "http_server.h"
#include "metrics.h"
#include "options.h"
#include "virfloor/device_tree.h"
#include "virfloor/log.h"
#include "virfloor/text.h"

#include <prometheus/text_serializer.h>

#include <poll.h>

#include <cerrno>
#include <csignal>
#include <iostream>
#include <set>
#include <utility>

namespace virfloor::tool {

namespace {

// Not one of 9100 to 9999, which Prometheus' list of default ports gives to exporters, and has nearly used up.
constexpr const char* default_address = "127.0.0.1:19753";

// What libvirt may take to answer. Prometheus gives a scrape 10 s unless it is told otherwise.
constexpr auto patience = std::chrono::seconds(3);

// Says each problem once, until it is over.
class Complaints {
public:
    void begin(const std::string& problem)
    {
        now_.insert(problem);
        if (!before_.contains(problem))
            log(Severity::warning, "virt-floor: " + problem);
    }
    void end_of_scrape() { before_ = std::exchange(now_, {}); }

private:
    std::set<std::string> before_, now_;
};

// Collects when it is asked: figures are those of the scrape.
class Metrics {
public:
    explicit Metrics(std::vector<std::string> uris)
        : may_use_files_(uris.empty()), follower_(Follower(std::move(uris), std::nullopt))
    {
    }

    std::vector<prometheus::MetricFamily> collect()
    {
        Scrape scrape;
        timed(scrape, "libvirt", [&] { return ask_libvirt(scrape); });
        for (const NetworkState& network : networks_)
            if (network.floored)
                scrape.networks.push_back({&network, {}, {}});
        timed(scrape, "kernel", [&] { return read_kernel(scrape); });
        timed(scrape, "status", [&] { return read_status_files(scrape); });
        complaints_.end_of_scrape();
        return families(scrape, drops_);
    }

private:
    template <class Function>
    static void timed(Scrape& scrape, const char* name, Function function)
    {
        const auto start = std::chrono::steady_clock::now();
        const bool succeeded = function();
        scrape.collectors.push_back({name, succeeded, std::chrono::steady_clock::now() - start});
    }

    // The classes that changed since the last scrape tell which ports are to be read again.
    bool ask_libvirt(Scrape& scrape)
    {
        if (const auto late = follower_.take()) // an answer that the last scrape did not wait for
            learn(*late);
        Samples now = take_samples(*netlink_, networks_);
        follower_.ask(class_changes(samples_, now));
        samples_ = std::move(now);
        pollfd readable{follower_.descriptor(), POLLIN, 0};
        poll(&readable, 1, static_cast<int>(std::chrono::milliseconds(patience).count()));
        const News news = follower_.take().value_or(News{{}, _("libvirt does not answer")});
        learn(news);
        if (!news.trouble.empty())
            complaints_.begin(news.trouble);
        scrape.libvirt_answers = news.trouble.empty();
        scrape.inventory_read_at = read_at_;
        return scrape.libvirt_answers;
    }

    void learn(const News& news)
    {
        if (news.networks) {
            networks_ = *news.networks;
            read_at_ = std::chrono::system_clock::now();
        } else if (!news.trouble.empty() && !read_at_ && may_use_files_ && may_read_files()) {
            networks_ = read_files();
        }
    }

    bool read_kernel(Scrape& scrape)
    {
        bool all = true;
        for (NetworkReading& reading : scrape.networks)
            try {
                reading.kernel = tc::read_counters(*netlink_, tc::find_device(reading.network->bridge));
            } catch (const Error& error) {
                if (error.system_errno() == ENODEV) // the network ended, or its bridge is gone
                    continue;
                complaints_.begin(error.what());
                all = false;
            }
        return all;
    }

    bool read_status_files(Scrape& scrape)
    {
        try {
            list_status(STATE_DIR); // whether it may be read, also where no network runs
            for (NetworkReading& reading : scrape.networks)
                reading.status = read_status(STATE_DIR, reading.network->name);
            return true;
        } catch (const Error& error) {
            complaints_.begin(error.system_errno() == EACCES
                                  ? format(_("Refusals, repairs and conditions of networks are left out: only root may "
                                             "read the status files in %s"),
                                           STATE_DIR)
                                  : error.what());
            return false;
        }
    }

    bool may_use_files_; // where no daemon is named
    std::shared_ptr<tc::Netlink> netlink_ = tc::open_netlink();
    std::vector<NetworkState> networks_; // as they were told last
    std::optional<std::chrono::system_clock::time_point> read_at_;
    Samples samples_; // of the last scrape
    BackgroundFollower follower_;
    WideDrops drops_;
    Complaints complaints_;
};

std::optional<HttpServer::Page> page(Metrics& metrics, const std::string& path)
{
    if (path == "/metrics")
        return HttpServer::Page{"text/plain; version=0.0.4; charset=utf-8",
                                prometheus::TextSerializer().Serialize(metrics.collect())};
    if (path == "/")
        return HttpServer::Page{"text/html; charset=utf-8",
                                "<!DOCTYPE html><html lang=\"en\"><title>virt-floor exporter</title>"
                                "<p>virt-floor " VERSION ": <a href=\"/metrics\">metrics</a></html>\n"};
    return {};
}

// Those that end it, held back from all threads that are started afterwards.
sigset_t hold_signals()
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    std::signal(SIGPIPE, SIG_IGN); // a client that goes is no reason to end
    return signals;
}

} // namespace

int exporter(int count, char** arguments)
{
    Common common;
    std::optional<std::string> listen;
    Options options("", _("Serves metrics for Prometheus over HTTP, at /metrics, until it is told to end (SIGTERM "
                          "or SIGINT). Figures are those of the moment of the scrape. Refusals, repairs and "
                          "conditions of networks are root's to read; all others need no right but that of "
                          "libvirt's read-only connection."));
    const std::string help = format(_("Where to listen (default: %s)"), default_address);
    options.text("listen", 'l', help.c_str(), _("ADDRESS:PORT"), &listen);
    common.add_to(options, false);
    options.parse(count, arguments, 0, 0);
    const ListenAddress address = ListenAddress::parse(listen.value_or(default_address));

    const sigset_t signals = hold_signals();
    Metrics metrics(common.uris);
    const HttpServer server(address, [&](const std::string& path) { return page(metrics, path); });
    std::cout << format(_("Metrics are at http://%s/metrics"), server.address().text().c_str()) << std::endl;
    int signal = 0;
    sigwait(&signals, &signal);
    return exit_done;
}

} // namespace virfloor::tool
