// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Looking after trees that others change, from the daemon's event loop: the kernel's notices come
// in, and what needs it is put right, at the pace that each network allows.
#pragma once

namespace virfloor::plugin {

// Once the event loop is there. Throws std::runtime_error.
void start_watch();
void stop_watch();

} // namespace virfloor::plugin
