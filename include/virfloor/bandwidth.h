// SPDX-License-Identifier: LGPL-2.1-or-later
//
// libvirt's <bandwidth> element (network XML format, "Quality of service").
#pragma once

#include "virfloor/identity.h"
#include "virfloor/units.h"

#include <libxml/tree.h>

#include <optional>
#include <string>

namespace virfloor {

// 0 stands for "not given", as in libvirt.
struct Rate {
    KilobytesPerSecond average, peak, floor;
    Kibibytes burst;

    bool operator==(const Rate&) const = default;
};

struct Bandwidth {
    std::optional<Rate> inbound, outbound;

    bool operator==(const Bandwidth&) const = default;
};

// Reads a <bandwidth> element; unknown elements and attributes are passed over, as libvirt does.
// Throws Error: config_unsupported for a number that is none, or beyond max_rate or max_burst, and
// for peak or burst without average; invalid_xml for a direction given twice or without rate.
Bandwidth parse_bandwidth(const xmlNode* element);

// The element as libvirt prints it, each line behind indent spaces, with classID if one is given.
std::string format_bandwidth(const Bandwidth& bandwidth, std::optional<ClassId> id, int indent);

} // namespace virfloor
