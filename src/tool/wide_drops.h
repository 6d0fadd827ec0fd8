// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The kernel counts the packets that a queue drops in 32 bits; here the count goes on in 64, from one look to the next.
#pragma once

#include "virfloor/counters.h"

#include <cstdint>
#include <map>
#include <string>

namespace virfloor::tool {

class WideDrops {
public:
    // The drops of a class. A count that goes back has wrapped, or begins anew where the class itself does: all its
    // counts go back then, which Prometheus takes for the restart that it is.
    std::uint64_t count(const std::string& of, const tc::Counters& now);

    // The end of a look, at which each class was counted once at most: those that were not are forgotten.
    void end_of_look();

private:
    struct Seen {
        tc::Counters last;
        std::uint64_t drops = 0;
    };

    std::map<std::string, Seen> before_, seen_;
};

} // namespace virfloor::tool
