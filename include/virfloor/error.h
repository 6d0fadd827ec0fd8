// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The exceptions of every part. The plugin's guard turns them into libvirt errors.
#pragma once

#include <stdexcept>
#include <string>

namespace virfloor {

// What kind of refusal it is; the guard maps each to a virErrorNumber.
enum class Refusal {
    operation_invalid,     // would break a promise already made
    operation_unsupported, // this network cannot give floors
    config_unsupported,    // a number that cannot be converted or represented
    invalid_xml,           // not well-formed, or not what it should describe
    system,                // the kernel or the file system said no; errno is kept
};

class Error : public std::runtime_error {
public:
    Error(Refusal refusal, const std::string& message, int system_errno = 0)
        : std::runtime_error(message), refusal_(refusal), errno_(system_errno)
    {
    }

    Refusal refusal() const { return refusal_; }
    // The errno as the kernel gave it (positive), 0 where there is none.
    int system_errno() const { return errno_; }

private:
    Refusal refusal_;
    int errno_;
};

} // namespace virfloor
