// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virfloor/xml.h"

#include "virfloor/error.h"

#include <libxml/parser.h>

#include <charconv>

namespace virfloor {

namespace {

const char* bytes(const xmlChar* text) { return reinterpret_cast<const char*>(text); }
const xmlChar* xml_chars(const char* text) { return reinterpret_cast<const xmlChar*>(text); }

std::string take(xmlChar* text)
{
    const std::string result = text ? bytes(text) : "";
    xmlFree(text);
    return result;
}

[[noreturn]] void refuse(const char* root_name, const std::string& why)
{
    throw Error(Refusal::invalid_xml, "cannot read <" + std::string(root_name) + "> XML: " + why);
}

} // namespace

XmlDocument XmlDocument::parse(std::string_view text, const char* root_name, std::size_t most)
{
    if (text.size() > most)
        refuse(root_name, std::to_string(text.size()) + " bytes are more than the " +
                              std::to_string(most) + " that are allowed");
    const std::unique_ptr<xmlParserCtxt, void (*)(xmlParserCtxt*)> context(xmlNewParserCtxt(),
                                                                           xmlFreeParserCtxt);
    if (!context)
        throw std::bad_alloc();
    XmlDocument result(xmlCtxtReadMemory(context.get(), text.data(), static_cast<int>(text.size()),
                                         nullptr, nullptr,
                                         XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING));
    if (!result.doc_) {
        const xmlError* error = xmlCtxtGetLastError(context.get());
        std::string why = error && error->message ? error->message : "not well-formed";
        while (!why.empty() && why.back() == '\n')
            why.pop_back();
        refuse(root_name, error ? "line " + std::to_string(error->line) + ": " + why : why);
    }
    if (result.doc_->intSubset)
        refuse(root_name, "a document type declaration is not allowed");
    if (!has_name(result.root(), root_name))
        refuse(root_name, "the root element is <" + std::string(bytes(result.root()->name)) + ">");
    return result;
}

xmlNode* XmlDocument::root() const { return xmlDocGetRootElement(doc_.get()); }

std::string XmlDocument::text(xmlNode* element) const
{
    const std::unique_ptr<xmlBuffer, void (*)(xmlBuffer*)> buffer(xmlBufferCreate(), xmlBufferFree);
    if (!buffer || xmlNodeDump(buffer.get(), doc_.get(), element, 0, 0) < 0)
        throw std::bad_alloc();
    return bytes(xmlBufferContent(buffer.get()));
}

std::vector<xmlNode*> children(const xmlNode* node)
{
    std::vector<xmlNode*> result;
    if (!node)
        return result;
    for (xmlNode* at = xmlFirstElementChild(const_cast<xmlNode*>(node)); at;
         at = xmlNextElementSibling(at))
        result.push_back(at);
    return result;
}

bool has_name(const xmlNode* node, const char* name)
{
    return node && xmlStrEqual(node->name, xml_chars(name));
}

xmlNode* child(const xmlNode* node, const char* name)
{
    for (xmlNode* at : children(node))
        if (has_name(at, name))
            return at;
    return nullptr;
}

std::optional<std::string> content(const xmlNode* node)
{
    if (!node)
        return {};
    return take(xmlNodeGetContent(node));
}

std::optional<std::string> attribute(const xmlNode* node, const char* name)
{
    if (!node || !xmlHasProp(node, xml_chars(name)))
        return {};
    return take(xmlGetProp(node, xml_chars(name)));
}

void set_attribute(xmlNode* node, const char* name, const char* value)
{
    if (!xmlSetProp(node, xml_chars(name), xml_chars(value)))
        throw std::bad_alloc();
}

void remove_attribute(xmlNode* node, const char* name) { xmlUnsetProp(node, xml_chars(name)); }

void remove(xmlNode* node)
{
    xmlUnlinkNode(node);
    xmlFreeNode(node);
}

std::optional<std::uint64_t> parse_number(std::string_view text)
{
    std::uint64_t value = 0;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, value);
    if (error != std::errc{} || stop != end)
        return {};
    return value;
}

std::string escape_xml(std::string_view text)
{
    std::string result;
    for (const char c : text) {
        switch (c) {
        case '&': result += "&amp;"; break;
        case '<': result += "&lt;"; break;
        case '>': result += "&gt;"; break;
        case '\'': result += "&apos;"; break;
        case '"': result += "&quot;"; break;
        default: result += c;
        }
    }
    return result;
}

} // namespace virfloor
