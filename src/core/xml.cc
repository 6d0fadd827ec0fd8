// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virfloor/xml.h"
#include "virfloor/text.h"

#include "virfloor/error.h"

#include <libxml/parser.h>

#include <algorithm>
#include <charconv>
#include <iterator>
#include <utility>

namespace virfloor {

namespace {

const char* bytes(const xmlChar* text) { return reinterpret_cast<const char*>(text); }
const xmlChar* xml_chars(const char* text) { return reinterpret_cast<const xmlChar*>(text); }

std::string take(xmlChar* text)
{
    std::string result = text ? bytes(text) : "";
    xmlFree(text);
    return result;
}

// libxml2 compares each attribute of an element with all before it: 40000 of them take it 11 s, and
// max_xml_size has room for many more. libvirt's elements have a dozen.
constexpr std::size_t most_attributes = 256;

// Goes by the rules of well-formed text, since libxml2 stops where it is not.
bool has_too_many_attributes(std::string_view text)
{
    constexpr std::pair<std::string_view, std::string_view> without_attributes[] = {
        {"<!--", "-->"}, {"<![CDATA[", "]]>"}, {"<?", "?>"}};
    for (std::size_t at = 0; (at = text.find('<', at)) != std::string_view::npos;) {
        const auto other = std::ranges::find_if(
            without_attributes, [&](const auto& kind) { return text.substr(at).starts_with(kind.first); });
        if (other != std::end(without_attributes)) {
            at = text.find(other->second, at + other->first.size());
            continue;
        }
        std::size_t count = 0;
        char quote = '\0';
        for (; at < text.size() && (quote || text[at] != '>'); ++at) {
            const char c = text[at];
            if (quote) {
                quote = c == quote ? '\0' : quote;
            } else if (c == '\'' || c == '"') {
                quote = c;
                if (++count > most_attributes)
                    return true;
            }
        }
    }
    return false;
}

// Called before the declarations of a document type are read, which may define what expands or is
// to be loaded.
void stop_at_document_type(void* context, const xmlChar*, const xmlChar*, const xmlChar*)
{
    xmlStopParser(static_cast<xmlParserCtxt*>(context));
}

[[noreturn]] void refuse(const char* root_name, const std::string& why)
{
    throw Error(Refusal::invalid_xml, format(_("cannot read <%s> XML: %s"), root_name, why.c_str()));
}

} // namespace

XmlDocument XmlDocument::parse(std::string_view text, const char* root_name, std::size_t most)
{
    if (text.size() > most)
        refuse(root_name, format(_("%zu bytes are more than the %zu that are allowed"), text.size(), most));
    if (has_too_many_attributes(text))
        refuse(root_name, format(_("an element has more than %zu attributes"), most_attributes));
    const std::unique_ptr<xmlParserCtxt, void (*)(xmlParserCtxt*)> context(xmlNewParserCtxt(), xmlFreeParserCtxt);
    if (!context)
        throw std::bad_alloc();
    context->sax->internalSubset = stop_at_document_type;
    // Whatever encoding it names, it is read as what was looked at above.
    XmlDocument result(
        xmlCtxtReadMemory(context.get(), text.data(), static_cast<int>(text.size()), nullptr, "UTF-8",
                          XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING | XML_PARSE_IGNORE_ENC));
    if (context->errNo == XML_ERR_USER_STOP)
        refuse(root_name, _("a document type declaration is not allowed"));
    if (!result.doc_) {
        const xmlError* error = xmlCtxtGetLastError(context.get());
        std::string why = error && error->message ? error->message : _("not well-formed");
        while (!why.empty() && why.back() == '\n')
            why.pop_back();
        refuse(root_name, error ? format(_("line %d: %s"), error->line, why.c_str()) : why);
    }
    if (!has_name(result.root(), root_name))
        refuse(root_name, format(_("the root element is <%s>"), bytes(result.root()->name)));
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
    for (xmlNode* at = xmlFirstElementChild(const_cast<xmlNode*>(node)); at; at = xmlNextElementSibling(at))
        result.push_back(at);
    return result;
}

bool has_name(const xmlNode* node, const char* name)
{
    return node && !node->ns && xmlStrEqual(node->name, xml_chars(name));
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
