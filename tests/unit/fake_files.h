// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Stands in, at the link (--wrap), for the calls by which status files are written, and makes them
// fail as a test asks.
#pragma once

#include <map>
#include <string>
#include <utility>

namespace virfloor::test {

class FileFaults {
public:
    FileFaults() { current = this; }
    ~FileFaults() { current = nullptr; }
    FileFaults(const FileFaults&) = delete;
    FileFaults& operator=(const FileFaults&) = delete;

    // The calls of the function from number `first` (0 is the next one) fail with this errno, as
    // many as `times` of them. Error 0: pwrite writes the half and says so.
    void fail(const std::string& function, int error, int first = 0, int times = 1)
    {
        faults_[function] = {error, first, times};
    }
    void heal() { faults_.clear(); }
    int calls(const std::string& function) { return calls_[function]; }
    // All calls since the last time.
    std::map<std::string, int> take_calls() { return std::exchange(calls_, {}); }

    // For the fakes: the errno with which this call fails, -1 if it does not.
    int next(const std::string& function)
    {
        ++calls_[function];
        const auto at = faults_.find(function);
        if (at == faults_.end() || at->second.first-- > 0 || at->second.times-- <= 0)
            return -1;
        return at->second.error;
    }

    static FileFaults* current;

private:
    struct Fault {
        int error, first, times;
    };
    std::map<std::string, Fault> faults_;
    std::map<std::string, int> calls_;
};

} // namespace virfloor::test
