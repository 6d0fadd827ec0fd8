// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Networks that ran under the stock driver, seen in its state files before it loads them.
#pragma once

#include "virfloor/status.h"

#include <filesystem>

namespace virfloor {

// Ports that the stock driver gave a floor become ports of ours: they go into our status file, with
// their class IDs, and the stock driver's files lose floor, class ID and its account of them. So it
// never touches their classes again, and nobody's packets notice. Does nothing where there are
// none, and may be interrupted at any point. What cannot be taken over is logged and left.
void take_over_stock_state(const std::filesystem::path& libvirt_state_dir, const StatusDirectory& directory);

} // namespace virfloor
