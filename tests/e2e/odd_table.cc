// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Preloaded into a libvirtd, shows the network module a copy of the stock driver's table that ODD_TABLE says
// what is wrong with: another driver's name, an entry that is missing at its end, or one of another
// library in its middle.
#include "libvirt_abi.h"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string_view>

using virfloor::plugin::ConnectDriver;

namespace {

using Register = int (*)(ConnectDriver*, bool);
using LookUp = void* (*)(void*, const char*);

std::array<void*, 64> odd_table;
char other_name[] = "other";

void* look_up(void* library, const char* name)
{
    static const auto next = reinterpret_cast<LookUp>(dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5"));
    return next(library, name);
}

int register_connect_driver(ConnectDriver* driver, bool set_shared_drivers)
{
    const auto real = reinterpret_cast<Register>(look_up(RTLD_DEFAULT, "virRegisterConnectDriver"));
    const int result = real(driver, set_shared_drivers);
    unsigned long version = 0;
    virGetVersion(&version, nullptr, nullptr);
    const std::size_t slots = virfloor::plugin::slots_of_version(version);
    if (result < 0 || !driver->network)
        return result;
    std::copy_n(driver->network, slots, odd_table.begin());
    const char* wish = getenv("ODD_TABLE");
    const std::string_view wrong = wish ? wish : "";
    if (wrong == "name")
        odd_table[0] = other_name;
    else if (wrong == "short")
        odd_table[slots - 1] = nullptr;
    else if (wrong == "shifted") {
        std::rotate(&odd_table[10], &odd_table[slots - 1], &odd_table[slots]);
        odd_table[10] = reinterpret_cast<void*>(&free);
    }
    driver->network = odd_table.data();
    return result;
}

} // namespace

extern "C" __attribute__((visibility("default"))) void* dlsym(void* library, const char* name) noexcept
{
    return std::string_view(name) == "virRegisterConnectDriver" ? reinterpret_cast<void*>(&register_connect_driver)
                                                                : look_up(library, name);
}
