// SPDX-License-Identifier: LGPL-2.1-or-later
#include "commands.h"
#include "daemon.h"
#include "evidence.h"
#include "options.h"
#include "virfloor/device_tree.h"
#include "virfloor/log.h"
#include "virfloor/text.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <iostream>
#include <memory>
#include <thread>

namespace virfloor::tool {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint64_t usual_patience = 30, most_patience = 3600; // seconds
constexpr auto between_looks = std::chrono::milliseconds(50);

struct Findings {
    Evidence evidence;
    std::vector<Difference> wrong; // in the kernel
};

Findings look(const std::vector<Connection>& connections, const std::optional<std::string>& only)
{
    Findings findings{gather(connections, only), {}};
    if (!findings.evidence.unknown.empty())
        throw Error(Refusal::system, findings.evidence.unknown.front());
    findings.wrong = differences(findings.evidence);
    std::erase_if(findings.wrong, [](const Difference& at) { return at.place != Place::kernel; });
    return findings;
}

// What nobody here can put right.
void refuse_hopeless(const Evidence& evidence)
{
    for (const auto& [name, network] : evidence.networks) {
        if (network.damage && !network.daemon)
            throw Error(Refusal::system, format(_("Network '%s' cannot be repaired without a daemon: %s"), name.c_str(),
                                                network.damage->c_str()));
        if (network.knows_status && !network.saved && !network.damage && network.daemon &&
            network.daemon->module == Daemon::Module::missing)
            throw Error(Refusal::system, format(_("Network '%s' cannot be repaired: %s (process %d) runs without "
                                                  "libvirt-floor"),
                                                name.c_str(), network.daemon->name.c_str(), network.daemon->pid));
    }
}

// As the module does at the daemon's start, from the status file alone.
void repair_directly(const NetworkEvidence& network)
{
    constexpr int most_passes = 4; // what a change leaves behind is read again
    if (!network.saved || network.ifindex == no_ifindex)
        return;
    const SavedNetwork& saved = *network.saved;
    if (saved.ifindex != network.ifindex)
        throw Error(Refusal::system,
                    format(_("Network '%s' was started anew since its status file was written: its bridge %s has the "
                             "interface index %d, not %d; start the daemon to repair it"),
                           saved.name.c_str(), saved.bridge.c_str(), network.ifindex, saved.ifindex));
    const Network wanted = promises(saved);
    tc::DeviceTree tree(tc::open_netlink(), saved.bridge, wanted.direction());
    for (int pass = 0; pass < most_passes; ++pass) {
        const Tree have = tree.read();
        Tree want = wanted.tree();
        want.leaf = have.leaf;
        const Change change = difference(have, want);
        if (change.empty())
            return;
        tree.apply(change);
    }
}

void repair_directly(const Evidence& evidence)
{
    try {
        for (const auto& [name, network] : evidence.networks)
            repair_directly(network);
    } catch (const Error& error) {
        if (error.system_errno() != EPERM && error.system_errno() != EACCES)
            throw;
        throw Error(
            error.refusal(),
            format(_("Cannot change the kernel's tree, which needs the capability CAP_NET_ADMIN: %s"), error.what()),
            error.system_errno());
    }
}

// Looks until nothing is wrong any more, or the time is over.
std::vector<Difference> left_wrong(const std::vector<Connection>& connections, const std::optional<std::string>& only,
                                   Clock::time_point end)
{
    while (true) {
        std::vector<Difference> wrong = look(connections, only).wrong;
        if (wrong.empty() || Clock::now() >= end)
            return wrong;
        std::this_thread::sleep_for(between_looks);
    }
}

int tell(const std::vector<Difference>& before, const std::vector<Difference>& after)
{
    for (const Difference& difference : before)
        if (std::ranges::find(after, difference) == after.end())
            std::cout << format(_("put right: %s"), sentence(difference).c_str()) << '\n';
    for (const Difference& difference : after)
        std::cerr << "virt-floor: " << format(_("still not right: %s"), sentence(difference).c_str()) << '\n';
    return after.empty() ? exit_done : exit_failed;
}

} // namespace

int repair(int count, char** arguments)
{
    Common common;
    std::optional<std::uint64_t> patience;
    Options options(_("[NETWORK]"),
                    _("Puts the kernel's tree right where it is not as promised, and says what was wrong. Where the "
                      "daemon runs, it does that, told by SIGHUP: it reloads as at systemctl reload, which also starts "
                      "networks that are marked for autostart. Where none runs, the status files say what is promised. "
                      "It needs root's rights."));
    options.number("timeout", 't', _("How long the daemon may take (default: 30)"), _("SECONDS"), &patience);
    common.add_to(options, false);
    const auto names = options.parse(count, arguments, 0, 1);
    if (patience.value_or(usual_patience) > most_patience)
        throw UsageError(
            format(_("--timeout takes at most %llu seconds"), static_cast<unsigned long long>(most_patience)));

    set_log_sink([](Severity, const std::string&) {}); // what cannot be read is an error here
    const auto only = names.empty() ? std::nullopt : std::optional(names.front());
    const auto connections = connect_if_served(common.uris);
    const Findings before = look(connections, only);
    refuse_hopeless(before.evidence);
    if (before.wrong.empty()) {
        std::cout << _("The kernel is as it should be: nothing is to be repaired") << '\n';
        return exit_done;
    }
    const auto daemon = find_daemon();
    if (daemon)
        reload(*daemon);
    else
        repair_directly(before.evidence);
    const std::chrono::seconds wait(daemon ? patience.value_or(usual_patience) : 0);
    return tell(before.wrong, left_wrong(connections, only, Clock::now() + wait));
}

} // namespace virfloor::tool
