// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Layouts of libvirt's driver structures, which no header of it ships: src/driver.h,
// src/driver-network.h and src/driver-state.h of its source. docs/libvirt-versions.md says how to
// check them against a new version.
#pragma once

#include <libvirt/libvirt.h>

#include <cstddef>

namespace virfloor::plugin {

// Entries of struct _virNetworkDriver by position; 0 is the driver's name. The same in all versions
// from 7.8.0; 9.7.0 appended two.
enum class Slot : std::size_t {
    name = 0,
    connect_list_all_networks = 5,
    network_lookup_by_name = 9,
    network_create_xml = 10,
    network_create_xml_flags = 11,
    network_define_xml = 12,
    network_create = 16,
    network_destroy = 17,
    network_get_xml_desc = 18,
    network_get_autostart = 20,
    network_set_autostart = 21,
    network_is_active = 22,
    network_is_persistent = 23,
    network_port_create_xml = 26,
    network_port_get_xml_desc = 27,
    network_port_set_parameters = 28,
    network_port_get_parameters = 29,
    network_port_delete = 30,
    network_list_all_ports = 31,
};

inline constexpr std::size_t slots_7_8_0 = 32;
inline constexpr std::size_t slots_9_7_0 = 34;

// How many entries the driver of a libvirt version has (virGetVersion: major × 1000000 + minor ×
// 1000 + release); 0 for versions whose layout is not known.
constexpr std::size_t slots_of_version(unsigned long version)
{
    constexpr unsigned long first = 7'008'000, appended = 9'007'000, end = 12'009'000;
    return version < first || version >= end ? 0 : version < appended ? slots_7_8_0 : slots_9_7_0;
}

// The functions' types, as the public API functions of the same names have them.
using ListAllNetworks = int (*)(virConnectPtr, virNetworkPtr**, unsigned);
using LookupByName = virNetworkPtr (*)(virConnectPtr, const char*);
using CreateXml = virNetworkPtr (*)(virConnectPtr, const char*);
using CreateXmlFlags = virNetworkPtr (*)(virConnectPtr, const char*, unsigned);
using DefineXml = virNetworkPtr (*)(virConnectPtr, const char*);
using Create = int (*)(virNetworkPtr);
using Destroy = int (*)(virNetworkPtr);
using GetXmlDesc = char* (*)(virNetworkPtr, unsigned);
using GetAutostart = int (*)(virNetworkPtr, int*);
using SetAutostart = int (*)(virNetworkPtr, int);
using IsActive = int (*)(virNetworkPtr);
using IsPersistent = int (*)(virNetworkPtr);
using PortCreateXml = virNetworkPortPtr (*)(virNetworkPtr, const char*, unsigned);
using PortGetXmlDesc = char* (*)(virNetworkPortPtr, unsigned);
using PortSetParameters = int (*)(virNetworkPortPtr, virTypedParameterPtr, int, unsigned);
using PortGetParameters = int (*)(virNetworkPortPtr, virTypedParameterPtr*, int*, unsigned);
using PortDelete = int (*)(virNetworkPortPtr, unsigned);
using ListAllPorts = int (*)(virNetworkPtr, virNetworkPortPtr**, unsigned);

// struct _virHypervisorDriver. A registered one that claims no scheme of URIs is asked for its name, and, when a client
// connects without a URI, for one to propose. The rest is never read.
struct HypervisorDriver {
    const char* name;
    int (*propose_uri)(char** uri);
};

// struct _virConnectDriver.
struct ConnectDriver {
    bool local_only, remote_only, embeddable;
    const char** uri_schemes;
    HypervisorDriver* hypervisor;
    void* interface;
    void** network;
    void* nodedev;
    void* nwfilter;
    void* secret;
    void* storage;
};
static_assert(offsetof(ConnectDriver, uri_schemes) == 8 && offsetof(ConnectDriver, network) == 0x20);

enum StateInitResult { state_init_error = -1, state_init_skipped = 0, state_init_complete = 1 };

// struct _virStateDriver. initialize has more arguments behind the two that are used here; their
// number depends on the version.
struct StateDriver {
    const char* name;
    bool initialized;
    int (*initialize)(bool privileged, const char* root);
    int (*cleanup)();
    int (*reload)();
    int (*stop)();
    int (*shutdown_prepare)();
    int (*shutdown_wait)();
};
static_assert(offsetof(StateDriver, initialize) == 0x10 && offsetof(StateDriver, reload) == 0x20);

// struct _virNetworkDef: what access control reads of a network comes first. The rest is there so that
// nobody reads behind it.
struct NetworkKey {
    unsigned char uuid[VIR_UUID_BUFLEN];
    bool uuid_specified;
    char* name;
    void* rest[500];
};
static_assert(offsetof(NetworkKey, name) == 0x18);

// struct _virNetworkPortDef, likewise.
struct PortKey {
    unsigned char uuid[VIR_UUID_BUFLEN];
    void* rest[500];
};

// struct _virIdentity, a GObject: who a call is made for.
struct Identity;

// struct _virLogSource.
struct LogSource {
    const char* name;
    unsigned priority;
    unsigned serial;
};

} // namespace virfloor::plugin
