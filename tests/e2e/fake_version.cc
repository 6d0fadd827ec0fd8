// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Preloaded into a libvirtd, makes its driver modules believe in a version that nobody knows yet.
#include <libvirt/libvirt.h>

extern "C" __attribute__((visibility("default"))) int virGetVersion(unsigned long* version, const char*, unsigned long*)
{
    *version = 99'001'002;
    return 0;
}
