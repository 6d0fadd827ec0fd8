// SPDX-License-Identifier: LGPL-2.1-or-later
#include "output.h"

#include "virfloor/text.h"

#include <nlohmann/json.hpp>

#include <iostream>

namespace virfloor::tool {

std::string kilobytes_text(BytesPerSecond rate)
{
    const bool small = rate.count < 100'000 && rate.count % 1000 != 0;
    return format("%.*f", small ? 1 : 0, static_cast<double>(rate.count) / 1000);
}

std::string class_text(ClassId id) { return format("1:%x", unsigned{id.minor}); }

void print_json(const nlohmann::ordered_json& json)
{
    std::cout << json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << '\n';
}

} // namespace virfloor::tool
