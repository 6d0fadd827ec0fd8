// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Preloaded into a libvirtd: where the kernel's bridges know no VLANs, libvirt's wish to have them
// filtered is granted by /dev/null, so that the rest of macTableManager='libvirt' can be tested.
#include <dlfcn.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstdarg>
#include <string_view>

namespace {

bool is_setting(const char* path) { return std::string_view(path).ends_with("/bridge/vlan_filtering"); }

template <class Function>
Function real(const char* name)
{
    return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

} // namespace

#pragma GCC visibility push(default)

extern "C" int access(const char* path, int mode) noexcept
{
    return real<int (*)(const char*, int)>("access")(is_setting(path) ? "/dev/null" : path, mode);
}

extern "C" int open64(const char* path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    const mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    return real<int (*)(const char*, int, mode_t)>("open64")(is_setting(path) ? "/dev/null" : path, flags, mode);
}
