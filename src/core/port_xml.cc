// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virfloor/port_xml.h"

#include "virfloor/error.h"
#include "virfloor/text.h"
#include "virfloor/xml.h"
#include "xml_text.h"

namespace virfloor {

KilobytesPerSecond PortDescription::floor() const
{
    return bandwidth.inbound ? bandwidth.inbound->floor : KilobytesPerSecond{};
}

namespace {

constexpr char root_name[] = "networkport";

PortDescription describe(const xmlNode* root)
{
    PortDescription port;
    const auto uuid = Uuid::parse(content(child(root, "uuid")).value_or(""));
    const auto mac = MacAddress::parse(attribute(child(root, "mac"), "address").value_or(""));
    if (!uuid || !mac)
        throw Error(Refusal::invalid_xml, _("network port needs a valid uuid and mac address"));
    port.uuid = *uuid;
    port.mac = *mac;
    port.owner = content(child(child(root, "owner"), "name")).value_or("");
    if (const xmlNode* bandwidth = child(root, "bandwidth")) {
        port.bandwidth = parse_bandwidth(bandwidth);
        if (port.bandwidth.outbound && port.bandwidth.outbound->floor)
            throw Error(Refusal::config_unsupported, _("the attribute floor can be set on <inbound> alone"));
        if (const auto id = attribute(bandwidth, "classID")) {
            const auto number = parse_number(*id);
            if (!number || *number > last_class.minor)
                throw Error(Refusal::invalid_xml,
                            format(_("class ID '%s' is not a number up to %d"), id->c_str(), last_class.minor));
            if (*number)
                port.class_id = ClassId{static_cast<std::uint16_t>(*number)};
        }
    }
    return port;
}

void strip(const xmlNode* root, bool valid)
{
    xmlNode* bandwidth = child(root, "bandwidth");
    if (!bandwidth)
        return;
    remove_attribute(bandwidth, "classID");
    if (xmlNode* inbound = child(bandwidth, "inbound")) {
        remove_attribute(inbound, "floor");
        if (!attribute(inbound, "average")) {
            if (valid)
                remove(inbound);
            else
                set_attribute(inbound, "average", "0");
        }
    }
}

} // namespace

PortDescription parse_port(std::string_view xml) { return describe(XmlDocument::parse(xml, root_name).root()); }

SplitPort split_port(std::string_view xml, bool valid)
{
    const auto document = XmlDocument::parse(xml, root_name);
    SplitPort split{describe(document.root()), {}};
    strip(document.root(), valid);
    split.without_floor = document.text();
    return split;
}

std::string with_floor(const std::string& port_xml, KilobytesPerSecond floor, ClassId id)
{
    auto bandwidth = parse_port(port_xml).bandwidth;
    if (!bandwidth.inbound)
        bandwidth.inbound.emplace();
    bandwidth.inbound->floor = floor;
    return replace_element(port_xml, root_name, "bandwidth", {"vlan", "port", "rxfilters", "plug"},
                           format_bandwidth(bandwidth, id, 2));
}

} // namespace virfloor
