// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virfloor/text.h"

#include <libintl.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

namespace virfloor {

void bind_texts(const char* locale_dir)
{
    const char* chosen = secure_getenv("VIRFLOOR_LOCALE_DIR");
    bindtextdomain(text_domain, chosen ? chosen : locale_dir);
    bind_textdomain_codeset(text_domain, "UTF-8");
}

const char* _(const char* text) { return dgettext(text_domain, text); }

const char* plural(const char* one, const char* many, unsigned long count)
{
    return dngettext(text_domain, one, many, count);
}

std::string format(const char* format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    const int size = std::vsnprintf(nullptr, 0, format, arguments);
    va_end(arguments);
    std::string result(size > 0 ? static_cast<std::size_t>(size) : 0, '\0');
    std::vsnprintf(result.data(), result.size() + 1, format, again);
    va_end(again);
    return result;
}

} // namespace virfloor
