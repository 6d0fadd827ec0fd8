// SPDX-License-Identifier: LGPL-2.1-or-later
//
// libvirt's public API, with owners for its objects and exceptions for its errors.
#pragma once

#include "virfloor/error.h"

#include <libvirt/libvirt.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

namespace virfloor::tool {

template <auto release>
struct Releaser {
    template <class Object>
    void operator()(Object* object) const
    {
        release(object);
    }
};

using Connection = std::unique_ptr<virConnect, Releaser<virConnectClose>>;
using DomainHandle = std::unique_ptr<virDomain, Releaser<virDomainFree>>;
using NetworkHandle = std::unique_ptr<virNetwork, Releaser<virNetworkFree>>;
using PortHandle = std::unique_ptr<virNetworkPort, Releaser<virNetworkPortFree>>;

// libvirt prints its errors unless it is told not to; here they become exceptions.
void keep_libvirt_quiet();

// The thread's last libvirt error, in a sentence that names what was tried.
Error libvirt_error(const std::string& tried);

// There is no daemon to be asked.
class NoConnection : public Error {
public:
    explicit NoConnection(const Error& error) : Error(error) {}
};

enum class Access { read_only, read_write };

// Those that answer, of the URIs given, or of qemu:///system and lxc:///system where none is given.
// Throws NoConnection where one that was asked for by name does not, or none does.
std::vector<Connection> connect(const std::vector<std::string>& uris, Access access);

// A string that libvirt allocated. Throws the last error, with what was tried, if there is none.
std::string take_string(char* text, const std::string& tried);

// A list as libvirt's virConnectListAll… functions return it. Throws as take_string.
template <class Handle, class Function>
std::vector<Handle> take_list(const std::string& tried, Function fill)
{
    typename Handle::pointer* items = nullptr;
    const int count = fill(&items);
    if (count < 0)
        throw libvirt_error(tried);
    std::vector<Handle> result;
    result.reserve(static_cast<std::size_t>(count));
    for (int i = 0; i < count; ++i)
        result.emplace_back(items[i]);
    std::free(items);
    return result;
}

} // namespace virfloor::tool
