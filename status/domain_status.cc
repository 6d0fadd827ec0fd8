// SPDX-License-Identifier: LGPL-2.1-or-later
//
// libvirt's own domain status files: what the domain drivers remember of ports. Their format is not
// documented; this reads what virDomainNetDefFormat and virDomainActualNetDefFormat write.
#include "virfloor/error.h"
#include "virfloor/log.h"
#include "virfloor/status.h"
#include "virfloor/text.h"
#include "virfloor/xml.h"

#include <algorithm>
#include <iterator>

namespace virfloor {

namespace {

namespace fs = std::filesystem;

constexpr std::size_t max_file_size = std::size_t{16} * 1024 * 1024;

std::optional<DomainPort> parse_interface(const xmlNode* interface)
{
    const xmlNode* source = child(interface, "source");
    const xmlNode* actual = child(interface, "actual");
    const auto network = attribute(source, "network");
    const auto uuid = Uuid::parse(attribute(source, "portid").value_or(""));
    const auto mac = MacAddress::parse(attribute(child(interface, "mac"), "address").value_or(""));
    const xmlNode* bandwidth = actual ? child(actual, "bandwidth") : nullptr;
    if (!network || !uuid || !mac || !bandwidth)
        return {};
    const auto inbound = parse_bandwidth(bandwidth).inbound;
    if (!inbound || !inbound->floor)
        return {};
    DomainPort port{*network, *uuid, *mac, inbound->floor, {}};
    const auto id = parse_number(attribute(child(actual, "class"), "id").value_or(""));
    if (id && *id >= first_port_class.minor && *id <= last_class.minor)
        port.id = ClassId{static_cast<std::uint16_t>(*id)};
    port.device = attribute(child(interface, "target"), "dev").value_or("");
    return port;
}

} // namespace

std::vector<DomainPort> parse_domain_status(std::string_view xml)
{
    const auto document = XmlDocument::parse(xml, "domstatus", max_file_size);
    const xmlNode* domain = child(document.root(), "domain");
    std::vector<DomainPort> ports;
    if (!domain)
        return ports;
    const std::string name = content(child(domain, "name")).value_or("");
    for (const xmlNode* device : children(child(domain, "devices")))
        if (has_name(device, "interface"))
            if (const auto port = parse_interface(device))
                ports.emplace_back(*port).domain = name;
    return ports;
}

std::vector<DomainPort> read_domain_status(const fs::path& libvirt_state_dir)
{
    std::vector<DomainPort> ports;
    for (const char* driver : {"qemu", "lxc"}) {
        std::error_code missing;
        for (const auto& entry : fs::directory_iterator(libvirt_state_dir / driver, missing)) {
            if (entry.path().extension() != ".xml")
                continue;
            try {
                const std::string xml = read_file(entry.path(), max_file_size);
                // Most domains of a host may have none, and parsing takes its time.
                if (xml.find(" floor='") != std::string::npos)
                    std::ranges::move(parse_domain_status(xml), std::back_inserter(ports));
            } catch (const Error& error) {
                log(Severity::warning,
                    format(_("cannot take floors from domain status %s: %s"), entry.path().c_str(), error.what()));
            }
        }
    }
    return ports;
}

} // namespace virfloor
