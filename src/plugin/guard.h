// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The border between C++ and C: no exception crosses it.
#pragma once

#include "virfloor/log.h"
#include "virfloor/text.h"

#include <libvirt/virterror.h>

#include <exception>
#include <string>
#include <utility>

namespace virfloor::plugin {

// Reports the exception that is being handled as the calling thread's libvirt error.
void report_current_exception() noexcept;

// What the function returns, or `failed` and a libvirt error if it throws.
template <class Result, class Function>
Result guarded(Result failed, Function&& function) noexcept
{
    try {
        return std::forward<Function>(function)();
    } catch (...) {
        report_current_exception();
        return failed;
    }
}

// Where there is no caller to be told: what the function throws is logged, as "what: why".
template <class Function>
void attempt(const char* what, Function&& function) noexcept
{
    try {
        std::forward<Function>(function)();
    } catch (const std::exception& error) {
        log(Severity::error, format("%s: %s", what, error.what()));
    }
}

// The thread's libvirt error stays what it was at the start of the scope, whatever is called in it.
class ErrorKept {
public:
    ErrorKept();
    ~ErrorKept();
    ErrorKept(const ErrorKept&) = delete;
    ErrorKept& operator=(const ErrorKept&) = delete;

private:
    virErrorPtr error_ = nullptr;
};

} // namespace virfloor::plugin
