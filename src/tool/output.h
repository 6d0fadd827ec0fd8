// SPDX-License-Identifier: LGPL-2.1-or-later
//
// How figures are written.
#pragma once

#include "virfloor/identity.h"
#include "virfloor/units.h"

#include <nlohmann/json_fwd.hpp>

#include <string>

namespace virfloor::tool {

// Kilobytes (1000 bytes) a second, as in XML; with one decimal below 100 where it is no whole number.
std::string kilobytes_text(BytesPerSecond rate);
// As tc(8) writes it: "1:a".
std::string class_text(ClassId id);

// On standard output. What is not UTF-8 is replaced.
void print_json(const nlohmann::ordered_json& json);

} // namespace virfloor::tool
