// SPDX-License-Identifier: LGPL-2.1-or-later
#include "housekeeping.h"

#include "network_driver.h"
#include "virfloor/log.h"

#include <stdexcept>

namespace virfloor::plugin {

namespace {

// The kernel needs a grace period of RCU and a turn of its work queue.
constexpr int interval_ms = 50;
constexpr int never = -1;

int timer = -1;

void tidy_up(int, void*)
{
    try {
        if (module().networks.reclaim_tables())
            virEventUpdateTimeout(timer, never);
    } catch (const std::exception& error) {
        virEventUpdateTimeout(timer, never);
        log(Severity::warning, std::string("cannot delete unused filter tables: ") + error.what());
    }
}

} // namespace

void start_housekeeping()
{
    timer = virEventAddTimeout(never, tidy_up, nullptr, nullptr);
    if (timer < 0)
        throw std::runtime_error("libvirt's event loop takes no timer");
}

void stop_housekeeping()
{
    if (timer >= 0)
        virEventRemoveTimeout(timer);
    timer = -1;
}

void tidy_up_soon() { virEventUpdateTimeout(timer, interval_ms); }

} // namespace virfloor::plugin
