// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The functions that stand in the network driver's table in place of the stock ones, and what they
// share with recovery.
//
// Each calls the stock function that it replaces, which also checks what the caller may do; what
// the stock driver must not see is taken out of the XML on the way in and put back on the way out.
#pragma once

#include "floored_network.h"
#include "libvirt_abi.h"
#include "virfloor/network_xml.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <string>

namespace virfloor::plugin {

// The stock driver's functions.
class StockDriver {
public:
    StockDriver() = default;
    StockDriver(void* const* slots, std::size_t count) { std::copy_n(slots, count, slots_.begin()); }

    template <class Function>
    Function get(Slot slot) const
    {
        return reinterpret_cast<Function>(slots_[static_cast<std::size_t>(slot)]);
    }

private:
    std::array<void*, slots_9_7_0> slots_{};
};

struct NetworkDeleter {
    void operator()(virNetworkPtr network) const { virNetworkFree(network); }
};
struct PortDeleter {
    void operator()(virNetworkPortPtr port) const { virNetworkPortFree(port); }
};
struct TextDeleter {
    void operator()(char* text) const { std::free(text); }
};
using NetworkHandle = std::unique_ptr<virNetwork, NetworkDeleter>;
using PortHandle = std::unique_ptr<virNetworkPort, PortDeleter>;
using Text = std::unique_ptr<char, TextDeleter>;

// Everything the module keeps while the daemon runs.
struct Module {
    StockDriver stock;
    FlooredNetworks networks;
    std::shared_ptr<tc::Netlink> netlink;
    std::unique_ptr<StatusDirectory> status;
    bool stock_autostarts = false; // the stock driver starts networks at this start of the daemon
};
Module& module();

// Puts our functions into the stock driver's table.
void replace_functions(void** slots);

// Starts a network as the stock driver would, with a tree if its XML asks for one. -1 and the
// thread's libvirt error on failure.
int start_network(virNetworkPtr network);

// The promises, as yet empty, of a network that runs.
Network promises_of(const NetworkDescription& network, const Rate& limits);

// The XML that the stock driver has of a network; nothing, and the thread's libvirt error, if that
// fails.
Text stock_xml(virNetworkPtr network, unsigned flags);
Uuid uuid_of(virNetworkPortPtr port);

} // namespace virfloor::plugin
