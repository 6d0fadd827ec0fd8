// SPDX-License-Identifier: LGPL-2.1-or-later
#include "watch.h"

#include "guard.h"
#include "network_driver.h"
#include "virfloor/monitor.h"
#include "virfloor/text.h"

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <vector>

namespace virfloor::plugin {

namespace {

constexpr int never = -1;
constexpr int none = -1;

std::unique_ptr<tc::Monitor> monitor;
int timer = none;
int handle = none;
std::atomic<bool> asked; // while the event loop's thread was at work

void tend(const std::vector<tc::Notice>& notices)
{
    using Clock = FlooredNetwork::Clock;
    asked = false;
    const auto next = module().networks.tend(notices, Clock::now());
    int wait = never;
    if (next)
        wait = static_cast<int>(
            std::chrono::ceil<std::chrono::milliseconds>(std::max(*next - Clock::now(), Clock::duration(0))).count());
    virEventUpdateTimeout(timer, wait);
    if (asked)
        virEventUpdateTimeout(timer, 0);
}

// What goes wrong with a network it logs itself; the rest is the host's memory.
template <class Function>
void attempt_to_tend(Function&& function)
{
    attempt(_("cannot look after the trees"), std::forward<Function>(function));
}

void on_time(int, void*)
{
    attempt_to_tend([] { tend({}); });
}

void on_notices(int, int, int, void*)
{
    attempt_to_tend([] {
        std::vector<tc::Notice> notices;
        monitor->take([&notices](const tc::Notice& notice) {
            if (notices.empty() || notice != notices.back())
                notices.push_back(notice);
        });
        tend(notices);
    });
}

void tend_soon()
{
    asked = true;
    virEventUpdateTimeout(timer, 0);
}

} // namespace

void start_watch()
{
    monitor = std::make_unique<tc::Monitor>(*module().netlink);
    timer = virEventAddTimeout(never, on_time, nullptr, nullptr);
    if (timer < 0)
        throw std::runtime_error(_("libvirt's event loop takes no timer"));
    handle = virEventAddHandle(monitor->descriptor(), VIR_EVENT_HANDLE_READABLE, on_notices, nullptr, nullptr);
    if (handle < 0)
        throw std::runtime_error(_("libvirt's event loop takes no file descriptor"));
    module().networks.on_work(tend_soon);
}

void stop_watch()
{
    if (handle >= 0)
        virEventRemoveHandle(handle);
    if (timer >= 0)
        virEventRemoveTimeout(timer);
    handle = timer = none;
    module().networks.on_work([] {});
    monitor.reset();
}

} // namespace virfloor::plugin
