// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Where the tool is built without prometheus-cpp.
#include "commands.h"
#include "virfloor/error.h"
#include "virfloor/text.h"

namespace virfloor::tool {

int exporter(int, char**)
{
    throw Error(
        Refusal::operation_unsupported,
        _("This virt-floor was built without its exporter (meson setup -Dexporter=enabled, with prometheus-cpp)"));
}

} // namespace virfloor::tool
