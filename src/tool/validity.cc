// SPDX-License-Identifier: LGPL-2.1-or-later
#include "validity.h"

#include "virfloor/bandwidth.h"
#include "virfloor/error.h"
#include "virfloor/identity.h"
#include "virfloor/network_xml.h"
#include "virfloor/port_xml.h"
#include "virfloor/status.h"
#include "virfloor/text.h"
#include "virfloor/xml.h"

#include <libxml/parser.h>
#include <libxml/relaxng.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

namespace virfloor::tool {

namespace {

namespace fs = std::filesystem;

// Where a fault is: it makes those of the elements around it needless, which only say that something in them is wrong.
struct Found {
    const xmlNode* node;
    long line;
    std::string text;
};

using FoundList = std::vector<Found>;
using Document = std::unique_ptr<xmlDoc, void (*)(xmlDoc*)>;

void say_nothing(void*, const char*, ...) {}

std::string first_line(const char* message)
{
    std::string text = message ? message : "";
    text.resize(std::min(text.size(), text.find('\n')));
    return text;
}

long line_of(const xmlNode* node) { return xmlGetLineNo(const_cast<xmlNode*>(node)); }

void find(FoundList& found, const xmlNode* node, std::string text)
{
    found.push_back({node, line_of(node), std::move(text)});
}

bool contains(const xmlNode* outer, const xmlNode* inner)
{
    while (inner && inner != outer)
        inner = inner->parent;
    return inner != nullptr;
}

// Where something better is known of an element, or of one in it, what a schema says adds nothing.
void add_news(FoundList& found, const FoundList& from_schema)
{
    FoundList news;
    for (auto at = from_schema.begin(); at != from_schema.end(); ++at) {
        const auto is_better = [&](const Found& other) { return contains(at->node, other.node); };
        const auto is_deeper = [&](const Found& other) { return other.node != at->node && is_better(other); };
        if (std::ranges::none_of(found, is_better) && std::ranges::none_of(from_schema, is_deeper) &&
            std::none_of(from_schema.begin(), at, is_better))
            news.push_back(*at);
    }
    found.insert(found.end(), news.begin(), news.end());
}

Document parse(std::string_view text, std::vector<Fault>& faults)
{
    const std::unique_ptr<xmlParserCtxt, void (*)(xmlParserCtxt*)> context(xmlNewParserCtxt(), xmlFreeParserCtxt);
    if (!context)
        throw std::bad_alloc();
    // The first says most.
    context->_private = &faults;
    context->sax->serror = [](void* parser, auto* error) {
        auto& faults = *static_cast<std::vector<Fault>*>(static_cast<xmlParserCtxt*>(parser)->_private);
        if (faults.empty() && error->level > XML_ERR_WARNING)
            faults.push_back({error->line, first_line(error->message)});
    };
    Document document(
        xmlCtxtReadMemory(context.get(), text.data(), static_cast<int>(text.size()), nullptr, nullptr,
                          XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING | XML_PARSE_BIG_LINES),
        xmlFreeDoc);
    if (!document && faults.empty())
        faults.push_back({0, _("it is not well-formed XML")});
    return document;
}

// The sentence of what the function throws.
template <class Function>
std::optional<std::string> refusal(Function function)
{
    try {
        function();
        return {};
    } catch (const Error& error) {
        return error.what();
    }
}

// One direction alone, for its line.
std::optional<std::string> refusal_of(const xmlNode* direction)
{
    const std::unique_ptr<xmlNode, void (*)(xmlNode*)> alone(
        xmlNewNode(nullptr, reinterpret_cast<const xmlChar*>("bandwidth")), xmlFreeNode);
    xmlNode* copy = xmlCopyNode(const_cast<xmlNode*>(direction), 1);
    if (!alone || !copy)
        throw std::bad_alloc();
    xmlAddChild(alone.get(), copy);
    return refusal([&] { parse_bandwidth(alone.get()); });
}

// may_have_floor: of an interface of a network, or a port. where: what it is that has none.
void check_bandwidth(FoundList& found, const xmlNode* bandwidth, bool may_have_floor, const char* where)
{
    const std::size_t before = found.size();
    for (const xmlNode* direction : children(bandwidth)) {
        const bool inbound = has_name(direction, "inbound");
        if (!inbound && !has_name(direction, "outbound"))
            continue;
        const bool floor = attribute(direction, "floor").has_value();
        if (floor && !may_have_floor)
            find(found, direction, format(_("a floor is for interfaces of networks, not for %s"), where));
        else if (floor && !inbound)
            find(found, direction, _("a floor is for <inbound>, not for <outbound>"));
        else if (auto text = refusal_of(direction))
            find(found, direction, std::move(*text));
    }
    if (found.size() == before)
        if (auto text = refusal([&] { parse_bandwidth(bandwidth); }))
            find(found, bandwidth, std::move(*text));
}

void check_bandwidths(FoundList& found, const xmlNode* parent, bool may_have_floor, const char* where)
{
    for (const xmlNode* at : children(parent))
        if (has_name(at, "bandwidth"))
            check_bandwidth(found, at, may_have_floor, where);
}

void check_network(FoundList& found, const xmlNode* root, std::string_view text)
{
    check_bandwidths(found, root, false, _("networks"));
    for (const xmlNode* at : children(root))
        if (has_name(at, "portgroup"))
            check_bandwidths(found, at, false, _("port groups"));
    if (!found.empty())
        return;
    if (auto refused = refusal([&] { parse_network(text); }))
        find(found, root, std::move(*refused));
}

bool names_itself(const xmlNode* port)
{
    return Uuid::parse(content(child(port, "uuid")).value_or("")) &&
           MacAddress::parse(attribute(child(port, "mac"), "address").value_or(""));
}

void check_port(FoundList& found, const xmlNode* root, std::string_view text)
{
    check_bandwidths(found, root, true, "");
    if (!found.empty())
        return;
    const xmlNode* bandwidth = child(root, "bandwidth");
    if (auto refused = refusal([&] { parse_port(text); }))
        find(found, attribute(bandwidth, "classID") && names_itself(root) ? bandwidth : root, std::move(*refused));
}

void check_interface(FoundList& found, const xmlNode* interface)
{
    const std::string type = attribute(interface, "type").value_or("");
    const std::string where = format(_("those of type '%s'"), type.c_str());
    check_bandwidths(found, interface, type == "network", where.c_str());
}

std::vector<xmlNode*> interfaces_of(const xmlNode* root)
{
    if (has_name(root, "interface"))
        return {const_cast<xmlNode*>(root)};
    std::vector<xmlNode*> interfaces;
    if (has_name(root, "domain"))
        for (xmlNode* device : children(child(root, "devices")))
            if (has_name(device, "interface"))
                interfaces.push_back(device);
    return interfaces;
}

// Ports that contradict each other; the last of them is the one to be looked at.
void check_ports(FoundList& found, const xmlNode* ports)
{
    std::map<std::string, long> uuids;
    std::map<std::string, std::pair<std::string, long>> by_mac, by_class;
    for (const xmlNode* port : children(ports)) {
        const auto uuid = attribute(port, "uuid"), mac = attribute(port, "mac"), id = attribute(port, "class");
        if (!has_name(port, "port") || !uuid || !mac || !id)
            continue;
        const long line = line_of(port);
        const auto [first, is_new] = uuids.emplace(*uuid, line);
        const auto& same_mac = by_mac.emplace(*mac, std::pair(*id, line)).first->second;
        const auto& same_class = by_class.emplace(*id, std::pair(*mac, line)).first->second;
        if (!is_new)
            find(found, port, format(_("port %s stands there twice: in line %ld too"), uuid->c_str(), first->second));
        else if (same_mac.first != *id)
            find(found, port,
                 format(_("%s has class %s here and class %s in line %ld; ports share a class if and only "
                          "if they share an address"),
                        mac->c_str(), id->c_str(), same_mac.first.c_str(), same_mac.second));
        else if (same_class.first != *mac)
            find(found, port,
                 format(_("class %s is of %s here and of %s in line %ld; ports share a class if and only "
                          "if they share an address"),
                        id->c_str(), mac->c_str(), same_class.first.c_str(), same_class.second));
    }
}

void check_status(FoundList& found, const xmlNode* root, std::string_view text)
{
    check_ports(found, child(root, "ports"));
    check_bandwidths(found, root, false, _("networks"));
    if (!found.empty())
        return;
    const std::string name = content(child(root, "name")).value_or("");
    if (auto refused = refusal([&] { parse_status(text, name, "<floornetwork>"); }))
        find(found, root, std::move(*refused));
}

// What schemas cannot say, or not so well.
FoundList check(const xmlNode* root, std::string_view text)
{
    FoundList found;
    if (has_name(root, "floornetwork"))
        check_status(found, root, text);
    else if (has_name(root, "network"))
        check_network(found, root, text);
    else if (has_name(root, "networkport"))
        check_port(found, root, text);
    for (const xmlNode* interface : interfaces_of(root))
        check_interface(found, interface);
    return found;
}

} // namespace

class Validator::Schema {
public:
    explicit Schema(const fs::path& file) : Schema(xmlRelaxNGNewParserCtxt(file.c_str()), file) {}
    Schema(const std::string& grammar, const fs::path& from)
        : Schema(xmlRelaxNGNewMemParserCtxt(grammar.data(), static_cast<int>(grammar.size())), from)
    {
    }

    FoundList validate(xmlDoc* document) const
    {
        const std::unique_ptr<xmlRelaxNGValidCtxt, void (*)(xmlRelaxNGValidCtxt*)> context(
            xmlRelaxNGNewValidCtxt(schema_.get()), xmlRelaxNGFreeValidCtxt);
        if (!context)
            throw std::bad_alloc();
        Errors errors;
        xmlRelaxNGSetValidStructuredErrors(
            context.get(), [](void* to, auto* error) { static_cast<Errors*>(to)->add(*error); }, &errors);
        const int result = xmlRelaxNGValidateDoc(context.get(), document);
        if (result < 0)
            throw Error(Refusal::system, _("The RELAX NG validator failed"));
        if (result > 0 && errors.found.empty())
            find(errors.found, xmlDocGetRootElement(document), errors.of_nowhere);
        return std::move(errors.found);
    }

private:
    // Some have no place; the next one, of the element around it, has.
    struct Errors {
        FoundList found;
        std::string of_nowhere;

        void add(const xmlError& error)
        {
            const auto* node = static_cast<const xmlNode*>(error.node);
            if (node)
                find(found, node, of_nowhere.empty() ? first_line(error.message) : std::exchange(of_nowhere, ""));
            else if (of_nowhere.empty())
                of_nowhere = first_line(error.message);
        }
    };

    Schema(xmlRelaxNGParserCtxtPtr context, const fs::path& file) : schema_(nullptr, xmlRelaxNGFree)
    {
        const std::unique_ptr<xmlRelaxNGParserCtxt, void (*)(xmlRelaxNGParserCtxt*)> owned(context,
                                                                                           xmlRelaxNGFreeParserCtxt);
        std::string why;
        if (owned) {
            xmlRelaxNGSetParserStructuredErrors(
                owned.get(),
                [](void* to, auto* error) { static_cast<std::string*>(to)->assign(first_line(error->message)); }, &why);
            schema_.reset(xmlRelaxNGParse(owned.get()));
        }
        if (!schema_)
            throw Error(Refusal::system, format(_("Cannot read the schema %s: %s"), file.c_str(),
                                                why.empty() ? _("it is no RELAX NG") : why.c_str()));
    }

    std::unique_ptr<xmlRelaxNG, void (*)(xmlRelaxNG*)> schema_;
};

Validator::Validator(fs::path ours, fs::path libvirts) : ours_(std::move(ours)), libvirts_(std::move(libvirts))
{
    // A schema that cannot be read is said once, by us.
    xmlSetGenericErrorFunc(nullptr, say_nothing);
}
Validator::~Validator() = default;

const Validator::Schema& Validator::schema(const fs::path& file)
{
    auto& schema = schemas_[file];
    if (!schema)
        schema = std::make_unique<Schema>(file);
    return *schema;
}

// libvirt has no file for a device alone.
const Validator::Schema& Validator::interface_schema()
{
    const fs::path common = fs::absolute(libvirts_ / "domaincommon.rng");
    auto& schema = schemas_["interface"];
    if (!schema)
        schema = std::make_unique<Schema>("<grammar xmlns='http://relaxng.org/ns/structure/1.0'><include href='" +
                                              escape_xml(common.string()) +
                                              "'/><start><ref name='interface'/></start></grammar>",
                                          common);
    return *schema;
}

Verdict Validator::validate(std::string_view text)
{
    // Kind of document, our schema for it, and libvirt's; none of libvirt's for what is ours.
    struct Kind {
        const char *name, *ours, *libvirts;
    };
    constexpr std::array kinds{
        Kind{"floornetwork", "floornetwork.rng", nullptr}, Kind{"network", "floors.rng", "network.rng"},
        Kind{"networkport", "floors.rng", "networkport.rng"}, Kind{"domain", "floors.rng", "domain.rng"},
        Kind{"interface", "floors.rng", "domaincommon.rng"}};
    Verdict verdict;
    const Document document = parse(text, verdict.faults);
    if (!verdict.faults.empty())
        return verdict;
    xmlNode* root = xmlDocGetRootElement(document.get());
    verdict.kind = reinterpret_cast<const char*>(root->name);
    const auto kind = std::ranges::find_if(kinds, [&](const Kind& each) { return has_name(root, each.name); });
    if (kind == kinds.end()) {
        verdict.faults = {
            {line_of(root), format(_("<%s> is not what can be validated here: a status file, or the XML of "
                                     "a network, a network port, a domain or an interface of one"),
                                   verdict.kind.c_str())}};
        return verdict;
    }
    if (xmlGetIntSubset(document.get())) {
        verdict.faults = {{1, _("a document type declaration is not allowed")}};
        return verdict;
    }

    FoundList found = check(root, text);
    add_news(found, schema(ours_ / kind->ours).validate(document.get()));
    if (kind->libvirts && !fs::exists(libvirts_ / kind->libvirts)) {
        verdict.lacking_schema = libvirts_ / kind->libvirts;
    } else if (kind->libvirts) {
        // In a domain, libxml2 names no better place than the domain; so interfaces are looked at one by one first.
        for (xmlNode* interface : interfaces_of(root)) {
            const Document alone(xmlNewDoc(nullptr), xmlFreeDoc);
            xmlDocSetRootElement(alone.get(), xmlDocCopyNode(interface, alone.get(), 1));
            FoundList of_interface = interface_schema().validate(alone.get());
            for (Found& each : of_interface)
                each.node = interface;
            add_news(found, of_interface);
        }
        if (!has_name(root, "interface"))
            add_news(found, schema(libvirts_ / kind->libvirts).validate(document.get()));
    }
    std::ranges::stable_sort(found, {}, &Found::line);
    for (Found& each : found)
        verdict.faults.push_back({each.line, std::move(each.text)});
    return verdict;
}

} // namespace virfloor::tool
