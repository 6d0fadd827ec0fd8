// SPDX-License-Identifier: LGPL-2.1-or-later
#include "guard.h"

#include "libvirt_internals.h"
#include "virfloor/error.h"
#include "virfloor/text.h"

#include <exception>

namespace virfloor::plugin {

namespace {

int error_code(Refusal refusal)
{
    switch (refusal) {
    case Refusal::operation_invalid: return VIR_ERR_OPERATION_INVALID;
    case Refusal::operation_unsupported: return VIR_ERR_OPERATION_UNSUPPORTED;
    case Refusal::config_unsupported: return VIR_ERR_CONFIG_UNSUPPORTED;
    case Refusal::invalid_xml: return VIR_ERR_XML_ERROR;
    case Refusal::system: return VIR_ERR_SYSTEM_ERROR;
    }
    return VIR_ERR_INTERNAL_ERROR;
}

void report(int code, const char* message)
{
    internals().report_error(VIR_FROM_NETWORK, code, __FILE__, __func__, __LINE__, "%s", message);
}

} // namespace

void report_current_exception() noexcept
{
    try {
        throw;
    } catch (const Error& error) {
        report(error_code(error.refusal()), error.what());
    } catch (const std::exception& error) {
        report(VIR_ERR_INTERNAL_ERROR, error.what());
    } catch (...) {
        report(VIR_ERR_INTERNAL_ERROR, _("unknown exception"));
    }
}

ErrorKept::ErrorKept() { internals().preserve_error(&error_); }

ErrorKept::~ErrorKept() { internals().restore_error(&error_); }

} // namespace virfloor::plugin
