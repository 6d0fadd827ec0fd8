// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What most files include, compiled once for each target. Files name all that they need themselves: with -Db_pch=false
// they are compiled without this.
#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>
