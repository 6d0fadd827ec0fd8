// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The module's one door: libvirtd loads libvirt_driver_network.so and calls networkRegister().
//
// The stock module is loaded and registers itself as always. Between two state drivers of ours,
// one before the stock driver's and one after, it starts; then our functions take the place of some
// of its own. Whatever is not as expected, the stock driver is what remains: a host never loses its
// networks because of us.
#include "config.h"
#include "guard.h"
#include "libvirt_internals.h"
#include "network_driver.h"
#include "recovery.h"
#include "stock_state.h"
#include "virfloor/log.h"
#include "virfloor/text.h"
#include "watch.h"

#include <dlfcn.h>
#include <libvirt/virterror.h>

#include <cstdlib>
#include <cstring>
#include <stdexcept>

namespace virfloor::plugin {

namespace {

using Register = int (*)();

constexpr char stock_driver_name[] = "bridge";

void** network_functions = nullptr; // null until all is as expected, and nothing of ours does anything

Register load_stock_module()
{
    const char* chosen = secure_getenv("VIRFLOOR_STOCK_MODULE");
    const char* path = chosen ? chosen : STOCK_MODULE;
    void* handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    void* address = handle ? dlsym(handle, "networkRegister") : nullptr;
    if (!address)
        throw std::runtime_error(format(_("no networks: cannot load libvirt's own network driver: %s"), dlerror()));
    return reinterpret_cast<Register>(address);
}

std::size_t known_slots()
{
    unsigned long version = 0;
    virGetVersion(&version, nullptr, nullptr);
    const std::size_t slots = slots_of_version(version);
    if (slots == 0)
        throw std::runtime_error(
            format(_("libvirt %lu.%lu.%lu is none of those that libvirt-floor %s knows (7.8 to 12.8); "
                     "networks run without floors until it is replaced by one that does"),
                   version / 1'000'000, version / 1000 % 1000, version % 1000, VERSION));
    return slots;
}

// A connect driver that never matches, registered so that libvirt fills in the network driver.
void** find_network_functions()
{
    static HypervisorDriver hypervisor{.name = "network-floor", .propose_uri = nullptr};
    static const char* no_schemes[] = {nullptr};
    static ConnectDriver probe{.local_only = true,
                               .remote_only = false,
                               .embeddable = false,
                               .uri_schemes = no_schemes,
                               .hypervisor = &hypervisor,
                               .interface = nullptr,
                               .network = nullptr,
                               .nodedev = nullptr,
                               .nwfilter = nullptr,
                               .secret = nullptr,
                               .storage = nullptr};
    if (internals().register_connect_driver(&probe, true) < 0 || !probe.network)
        throw std::runtime_error(_("libvirt does not show its network driver"));
    return probe.network;
}

// That the table has the form which the version has: the stock driver's name and its functions.
void check_functions(void** functions, std::size_t count, Register stock)
{
    const auto file_of = [](void* address) {
        Dl_info info{};
        return dladdr(address, &info) ? info.dli_fbase : nullptr;
    };
    void* stock_module = file_of(reinterpret_cast<void*>(stock));
    if (std::strcmp(static_cast<const char*>(functions[0]), stock_driver_name) != 0)
        throw std::runtime_error(_("libvirt's network driver is not the one expected"));
    for (std::size_t i = 1; i < count; ++i)
        if (!functions[i] || file_of(functions[i]) != stock_module)
            throw std::runtime_error(format(_("libvirt's network driver has another layout than expected (%zu)"), i));
}

// State drivers of ours never report an error: the daemon would not start.
int prepare(bool privileged, const char* root)
{
    attempt(_("networks run without floors until the daemon is restarted"), [&] {
        if (!network_functions || !privileged || root)
            return;
        const std::filesystem::path state = LIBVIRT_STATE_DIR;
        module().stock_autostarts = !std::filesystem::exists(state / "network" / "autostarted");
        module().netlink = tc::open_netlink();
        auto status = std::make_unique<StatusDirectory>(STATE_DIR);
        take_over_stock_state(state, *status);
        module().status = std::move(status);
    });
    return state_init_complete;
}

int initialize(bool, const char*)
{
    if (!module().status)
        return state_init_complete;
    attempt(_("cannot watch for what others change"), start_watch);
    attempt(_("cannot go on with networks that run"), [] {
        replace_functions(network_functions);
        recover_networks();
    });
    return state_init_complete;
}

int reload()
{
    attempt(_("cannot go on with networks after a reload"), [] {
        if (module().status)
            reload_networks();
    });
    return 0;
}

int cleanup()
{
    attempt(_("cannot clean up"), [] {
        stop_watch();
        module().networks.clear();
    });
    return 0;
}

StateDriver before_stock{.name = "network-floor-prepare",
                         .initialized = false,
                         .initialize = prepare,
                         .cleanup = nullptr,
                         .reload = nullptr,
                         .stop = nullptr,
                         .shutdown_prepare = nullptr,
                         .shutdown_wait = nullptr};

StateDriver after_stock{.name = "network-floor",
                        .initialized = false,
                        .initialize = initialize,
                        .cleanup = cleanup,
                        .reload = reload,
                        .stop = nullptr,
                        .shutdown_prepare = nullptr,
                        .shutdown_wait = nullptr};

void register_state_driver(StateDriver& driver)
{
    if (internals().register_state_driver(&driver) < 0)
        throw std::runtime_error(_("libvirt takes no more state drivers"));
}

// -1, which ends the daemon, is the stock driver's word alone. Where that cannot be had, the daemon
// runs as it does without any network driver.
int register_network_driver()
{
    bind_texts(LOCALE_DIR);
    log_to_libvirt();
    Register stock = nullptr;
    try {
        stock = load_stock_module();
    } catch (const std::exception& error) {
        log(Severity::error, format("libvirt-floor: %s", error.what()));
        return 0;
    }
    bool registered = false;
    try {
        internals();
        const std::size_t slots = known_slots();
        register_state_driver(before_stock);
        registered = true;
        if (stock() < 0)
            return -1;
        void** functions = find_network_functions();
        check_functions(functions, slots, stock);
        module().stock = StockDriver(functions, slots);
        register_state_driver(after_stock);
        network_functions = functions;
        return 0;
    } catch (const std::exception& error) {
        log(Severity::error, format(_("libvirt-floor shapes nothing: %s"), error.what()));
    }
    return registered ? 0 : stock();
}

} // namespace

} // namespace virfloor::plugin

extern "C" __attribute__((visibility("default"))) int networkRegister()
{
    return virfloor::plugin::register_network_driver();
}
