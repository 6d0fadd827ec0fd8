// SPDX-License-Identifier: LGPL-2.1-or-later
#include "xml_text.h"

#include "virfloor/error.h"
#include "virfloor/text.h"
#include "virfloor/xml.h"

#include <algorithm>

namespace virfloor {

namespace {

// Offset of the first character of a line; lines count from 1, as libxml2 counts them.
std::size_t start_of_line(const std::string& text, long line)
{
    std::size_t at = 0;
    while (--line > 0 && at != std::string::npos) {
        at = text.find('\n', at);
        at = at == std::string::npos ? at : at + 1;
    }
    return at;
}

// Throws unless the text goes on with what libvirt would have printed there.
std::size_t expect(const std::string& text, std::size_t at, const std::string& start)
{
    if (at >= text.size() || text.compare(at, start.size(), start) != 0)
        throw Error(Refusal::invalid_xml,
                    format(_("XML is not formatted as libvirt formats it: '%s' does not stand on a line of its own"),
                           start.c_str()));
    return at;
}

} // namespace

std::string replace_element(const std::string& xml, const char* root_name, const char* name,
                            std::initializer_list<const char*> before, const std::string& lines)
{
    const auto document = XmlDocument::parse(xml, root_name);
    std::string result = xml;
    if (const xmlNode* old = child(document.root(), name)) {
        const std::size_t start = expect(xml, start_of_line(xml, xmlGetLineNo(old)), "  <" + std::string(name));
        const std::string end_tag = "</" + std::string(name) + ">";
        const std::size_t end_of_tag = expect(xml, xml.find('>', start), ">\n");
        const std::size_t end =
            xml[end_of_tag - 1] == '/'
                ? end_of_tag + 2
                : expect(xml, xml.find(end_tag, start) - 3, "\n  " + end_tag + "\n") + end_tag.size() + 4;
        return result.replace(start, end - start, lines);
    }
    const auto elements = children(document.root());
    const auto next = std::find_if(elements.begin(), elements.end(), [&](const xmlNode* at) {
        return std::any_of(before.begin(), before.end(), [at](const char* other) { return has_name(at, other); });
    });
    const std::string root_end = "\n</" + std::string(root_name) + ">";
    const std::size_t at = next != elements.end()
                               ? expect(xml, start_of_line(xml, xmlGetLineNo(*next)), "  <")
                               : expect(xml, xml.find_last_not_of('\n') - root_end.size() + 1, root_end) + 1;
    return result.insert(at, lines);
}

} // namespace virfloor
