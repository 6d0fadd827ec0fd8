// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The floor in libvirt's typed parameters of a network port: taken out on the way in, put back on
// the way out.
#pragma once

#include "virfloor/units.h"

#include <libvirt/libvirt.h>

#include <vector>

namespace virfloor::plugin {

// Typed parameters that libvirt allocated.
class Parameters {
public:
    Parameters() = default;
    ~Parameters() { virTypedParamsFree(list_, count_); }
    Parameters(const Parameters&) = delete;
    Parameters& operator=(const Parameters&) = delete;

    virTypedParameterPtr* list() { return &list_; }
    int* count() { return &count_; }

private:
    virTypedParameterPtr list_ = nullptr;
    int count_ = 0;
};

// The parameters without the floor, and the floor; as in libvirt, one that is not given is 0. They
// borrow their texts from the list.
struct SplitParameters {
    std::vector<virTypedParameter> others;
    KilobytesPerSecond floor;
};
// Throws Error(config_unsupported) if the floor is not an unsigned number, or is given twice.
SplitParameters split_floor(const virTypedParameter* list, int count);

// The list, which libvirt allocated and counts, with this floor. One that 32 bits do not hold is
// given as the largest number that they do.
void add_floor(virTypedParameterPtr* list, int* count, KilobytesPerSecond floor);

} // namespace virfloor::plugin
