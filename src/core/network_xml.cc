// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virfloor/network_xml.h"

#include "virfloor/error.h"
#include "virfloor/text.h"
#include "virfloor/xml.h"
#include "xml_text.h"

namespace virfloor {

bool NetworkDescription::wants_tree() const
{
    return supports_floor() && bandwidth.inbound && bandwidth.inbound->average;
}

bool NetworkDescription::supports_floor() const
{
    return forward.empty() || forward == "none" || forward == "nat" || forward == "route" || forward == "open";
}

NetworkDescription parse_network(std::string_view xml)
{
    const auto document = XmlDocument::parse(xml, "network");
    const xmlNode* root = document.root();
    NetworkDescription network;
    network.name = content(child(root, "name")).value_or("");
    if (network.name.empty() || network.name.find_first_of("/\n") != std::string::npos)
        throw Error(Refusal::invalid_xml, format(_("network name '%s' is no file name"), network.name.c_str()));
    network.bridge = attribute(child(root, "bridge"), "name").value_or("");
    if (const xmlNode* forward = child(root, "forward"))
        network.forward = attribute(forward, "mode").value_or("nat");
    if (const auto mtu = attribute(child(root, "mtu"), "size"))
        network.mtu = Bytes{parse_number(*mtu).value_or(network.mtu.count)};
    if (const xmlNode* bandwidth = child(root, "bandwidth"))
        network.bandwidth = parse_bandwidth(bandwidth);
    for (const auto& rate : {network.bandwidth.inbound, network.bandwidth.outbound})
        if (rate && rate->floor)
            throw Error(Refusal::config_unsupported,
                        format(_("the attribute floor can be set on interfaces alone, not on network '%s'"),
                               network.name.c_str()));
    return network;
}

std::string without_inbound(std::string_view xml)
{
    const auto document = XmlDocument::parse(xml, "network");
    xmlNode* bandwidth = child(document.root(), "bandwidth");
    // The first counts, in libvirt too, which must not find a second one in its place.
    for (xmlNode* at : children(document.root()))
        if (has_name(at, "bandwidth") && at != bandwidth)
            remove(at);
    if (xmlNode* inbound = bandwidth ? child(bandwidth, "inbound") : nullptr)
        remove(child(bandwidth, "outbound") ? inbound : bandwidth);
    return document.text();
}

std::string with_bandwidth(const std::string& network_xml, const Bandwidth& bandwidth)
{
    return replace_element(network_xml, "network", "bandwidth", {"port", "ip", "route", "virtualport", "portgroup"},
                           format_bandwidth(bandwidth, {}, 2));
}

} // namespace virfloor
