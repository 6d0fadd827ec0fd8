// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Elements put into XML that libvirt has formatted, without touching its other bytes.
#pragma once

#include <initializer_list>
#include <string>

namespace virfloor {

// libvirt prints each child of the root on lines of its own, two spaces in. Lines of the child
// called `name`, if there is one, give way to `lines`, which else go before the first child that
// `before` names, or before the end of the root. Throws Error(invalid_xml) if the text is not
// formatted like that.
std::string replace_element(const std::string& xml, const char* root_name, const char* name,
                            std::initializer_list<const char*> before, const std::string& lines);

} // namespace virfloor
