// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Words for people. Messages are translated by gettext(3), domain "libvirt-floor", where the process has a
// locale; without one, and without a catalog, they are English.
//
// Thread safety: bind_texts() comes before threads are started; the others may be called at any time.
#pragma once

#include <string>

namespace virfloor {

inline constexpr const char* text_domain = "libvirt-floor";

// Where the catalogs are, if the environment's VIRFLOOR_LOCALE_DIR does not say otherwise. The locale stays
// what it is. Texts come out as UTF-8, whatever the locale's encoding.
void bind_texts(const char* locale_dir);

// The text in the user's language, or as it is. Its result may be a format.
[[gnu::format_arg(1)]] const char* _(const char* text);
// The one for this number.
[[gnu::format_arg(1), gnu::format_arg(2)]] const char* plural(const char* one, const char* many, unsigned long count);

// printf(3) into a string. Translators may use %1$s.
[[gnu::format(printf, 1, 2)]] std::string format(const char* format, ...);

} // namespace virfloor
