// SPDX-License-Identifier: LGPL-2.1-or-later
#include "libvirt.h"

#include "virfloor/text.h"

#include <libvirt/virterror.h>

namespace virfloor::tool {

void keep_libvirt_quiet()
{
    virSetErrorFunc(nullptr, [](void*, virErrorPtr) {});
}

Error libvirt_error(const std::string& tried)
{
    const virError* error = virGetLastError();
    return {Refusal::system,
            format("%s: %s", tried.c_str(), error && error->message ? error->message : _("unknown error"))};
}

std::vector<Connection> connect(const std::vector<std::string>& uris, Access access)
{
    const auto open = [access](const std::string& uri) {
        return Connection(access == Access::read_only ? virConnectOpenReadOnly(uri.c_str())
                                                      : virConnectOpen(uri.c_str()));
    };
    std::vector<Connection> connections;
    for (const std::string& uri : uris) {
        connections.push_back(open(uri));
        if (!connections.back())
            throw NoConnection(libvirt_error(format(_("Cannot connect to %s"), uri.c_str())));
    }
    if (!uris.empty())
        return connections;
    for (const char* uri : {"lxc:///system", "qemu:///system"})
        if (Connection connection = open(uri))
            connections.push_back(std::move(connection));
    if (connections.empty())
        throw NoConnection(libvirt_error(_("Cannot connect to libvirt")));
    return connections;
}

std::string take_string(char* text, const std::string& tried)
{
    if (!text)
        throw libvirt_error(tried);
    const std::unique_ptr<char, Releaser<std::free>> owned(text);
    return text;
}

} // namespace virfloor::tool
