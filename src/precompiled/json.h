// SPDX-License-Identifier: LGPL-2.1-or-later
#include "common.h"

#include <nlohmann/json.hpp>

#include <iostream>
