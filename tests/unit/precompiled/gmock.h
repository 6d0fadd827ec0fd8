// SPDX-License-Identifier: LGPL-2.1-or-later
#include "../../../src/precompiled/common.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>
