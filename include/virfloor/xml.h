// SPDX-License-Identifier: LGPL-2.1-or-later
//
// XML that comes from others: parsed by libxml2 with no network, no entities, no document types,
// and a bound on the size.
#pragma once

#include <libxml/tree.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace virfloor {

// As much as one string of libvirt's RPC protocol holds (REMOTE_STRING_MAX).
inline constexpr std::size_t max_xml_size = std::size_t{4} * 1024 * 1024;

class XmlDocument {
public:
    // Throws Error(invalid_xml), naming what the text was to describe, if it is longer than `most`
    // bytes, not well-formed, has a document type, or its root is not called root_name.
    static XmlDocument parse(std::string_view text, const char* root_name, std::size_t most = max_xml_size);

    xmlNode* root() const;
    // The root element, or one in it, as text.
    std::string text() const { return text(root()); }
    std::string text(xmlNode* element) const;

private:
    explicit XmlDocument(xmlDoc* doc) : doc_(doc, xmlFreeDoc) {}
    std::unique_ptr<xmlDoc, void (*)(xmlDoc*)> doc_;
};

// Element children, in document order; the first of a name; its text; an attribute's text. An element
// of a namespace has another name, as in libvirt.
std::vector<xmlNode*> children(const xmlNode* node);
xmlNode* child(const xmlNode* node, const char* name);
bool has_name(const xmlNode* node, const char* name);
std::optional<std::string> content(const xmlNode* node);
std::optional<std::string> attribute(const xmlNode* node, const char* name);
void set_attribute(xmlNode* node, const char* name, const char* value);
void remove_attribute(xmlNode* node, const char* name);
void remove(xmlNode* node);

// A decimal number of at most 64 bits, nothing else around it.
std::optional<std::uint64_t> parse_number(std::string_view text);

// Text with the five characters that XML reserves written as entities.
std::string escape_xml(std::string_view text);

} // namespace virfloor
