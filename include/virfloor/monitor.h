// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What the kernel tells of network devices and their traffic control when somebody else changes
// them (rtnetlink's groups RTNLGRP_TC and RTNLGRP_LINK).
//
// Not thread-safe.
#pragma once

#include <functional>
#include <memory>
#include <string>

namespace virfloor::tc {

class Netlink;

struct Notice {
    enum class About {
        traffic_control, // something on the device: qdisc, class or filter
        device,          // the device is there, and has this name
        device_gone,
        anything, // notices were lost
    };
    About about = About::anything;
    int ifindex = 0;
    std::string name; // of a device that is there, or was

    bool operator==(const Notice&) const = default;
};

class Monitor {
public:
    // Changes that were asked for over `own` are not told of. Throws Error(system).
    explicit Monitor(const Netlink& own);
    ~Monitor();
    Monitor(const Monitor&) = delete;
    Monitor& operator=(const Monitor&) = delete;

    // Readable when there are notices.
    int descriptor() const;
    // Takes those that are there, and does not wait for more.
    void take(const std::function<void(const Notice&)>& handler);

private:
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace virfloor::tc
