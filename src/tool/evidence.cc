// SPDX-License-Identifier: LGPL-2.1-or-later
#include "evidence.h"

#include "config.h"
#include "daemon.h"
#include "virfloor/device_tree.h"
#include "virfloor/text.h"
#include "virfloor/xml.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <memory>

namespace virfloor::tool {

namespace {

namespace fs = std::filesystem;

constexpr std::size_t max_file_size = 16 * 1024 * 1024;

void add_wishes(std::vector<Wish>& wishes, const std::string& xml)
{
    const auto document = XmlDocument::parse(xml, "domain");
    const std::string domain = content(child(document.root(), "name")).value_or("");
    for (const xmlNode* device : children(child(document.root(), "devices"))) {
        if (!has_name(device, "interface"))
            continue;
        const xmlNode* source = child(device, "source");
        const auto port = Uuid::parse(attribute(source, "portid").value_or(""));
        const auto mac = MacAddress::parse(attribute(child(device, "mac"), "address").value_or(""));
        const auto network = attribute(source, "network");
        if (!port || !mac || !network)
            continue;
        const xmlNode* bandwidth = child(device, "bandwidth");
        const auto inbound = bandwidth ? parse_bandwidth(bandwidth).inbound : std::nullopt;
        wishes.push_back({domain, *network, *port, *mac, inbound ? inbound->floor : KilobytesPerSecond{}});
    }
}

class Gathering {
public:
    Gathering(const std::vector<Connection>& connections, const std::optional<std::string>& only)
        : connections_(connections), only_(only)
    {
    }

    Evidence gather()
    {
        read_domain_files();
        if (!connections_.empty())
            ask_libvirt();
        read_status_files();
        if (only_ && !evidence_.networks.contains(*only_) && !runs_without_floors_)
            throw Error(Refusal::system, format(_("There is no network '%s' that runs"), only_->c_str()));
        const auto daemon = find_daemon();
        for (auto& [name, network] : evidence_.networks) {
            network.daemon = daemon;
            network.asked = !connections_.empty();
            read_kernel(network);
        }
        return std::move(evidence_);
    }

private:
    bool concerns(const std::string& name) const { return !only_ || *only_ == name; }

    NetworkEvidence& network(const std::string& name)
    {
        NetworkEvidence& network = evidence_.networks[name];
        network.name = name;
        return network;
    }

    void ask_libvirt()
    {
        for (NetworkState& state : read_inventory(connections_)) {
            if (!concerns(state.name))
                continue;
            if (state.floored)
                network(state.name).live = std::move(state);
            else
                runs_without_floors_ = true;
        }
        std::vector<Wish> wishes;
        for (const Connection& connection : connections_)
            for (const auto& domain : take_list<DomainHandle>(_("Cannot list domains"), [&](virDomainPtr** items) {
                     return virConnectListAllDomains(connection.get(), items, VIR_CONNECT_LIST_DOMAINS_ACTIVE);
                 }))
                if (char* xml = virDomainGetXMLDesc(domain.get(), 0)) // else it has ended
                    add_wishes(wishes, take_string(xml, ""));
        for (Wish& wish : wishes)
            if (const auto at = evidence_.networks.find(wish.network); at != evidence_.networks.end())
                at->second.wishes.push_back(std::move(wish));
    }

    void read_status_files()
    {
        std::vector<std::string> names;
        try {
            names = list_status(STATE_DIR);
        } catch (const Error& error) {
            cannot_read(STATE_DIR, error);
            return;
        }
        for (const std::string& name : names)
            if (concerns(name))
                network(name);
        for (auto& [name, network] : evidence_.networks) {
            network.knows_status = true;
            try {
                network.saved = read_status(STATE_DIR, name);
            } catch (const Error& error) {
                if (error.refusal() == Refusal::system && error.system_errno() == EACCES) {
                    network.knows_status = false;
                    cannot_read(STATE_DIR, error);
                } else {
                    network.damage = error.what();
                }
            }
        }
    }

    void read_domain_files()
    {
        for (const char* driver : {"qemu", "lxc"}) {
            const fs::path folder = fs::path(LIBVIRT_STATE_DIR) / driver;
            try {
                for (const auto& entry : fs::directory_iterator(folder))
                    if (entry.path().extension() == ".xml")
                        read_domain_file(entry.path());
            } catch (const fs::filesystem_error& error) {
                if (error.code() != std::errc::no_such_file_or_directory)
                    cannot_read(folder, Error(Refusal::system, "", error.code().value()));
            }
        }
    }

    void read_domain_file(const fs::path& path)
    {
        try {
            for (const DomainPort& port : parse_domain_status(read_file(path, max_file_size)))
                if (concerns(port.network))
                    network(port.network).remembered.push_back(port);
        } catch (const Error& error) {
            if (error.system_errno() == ENOENT) // the domain has ended
                return;
            cannot_read(error.system_errno() == EACCES ? path.parent_path() : path, error);
        }
    }

    // One sentence for a folder.
    void cannot_read(const fs::path& path, const Error& error)
    {
        std::string sentence =
            error.system_errno() == EACCES
                ? format(_("Cannot read the status files in %s, which are root's; run it as root"), path.c_str())
            : error.system_errno() ? format(_("Cannot read %s: %s"), path.c_str(), std::strerror(error.system_errno()))
                                   : format(_("Cannot read %s: %s"), path.c_str(), error.what());
        if (std::ranges::find(evidence_.unknown, sentence) == evidence_.unknown.end())
            evidence_.unknown.push_back(std::move(sentence));
    }

    void read_kernel(NetworkEvidence& network)
    {
        const auto promises = promised(network);
        if (!promises)
            return;
        tc::DeviceTree tree(netlink_, promises->bridge(), promises->direction());
        network.ifindex = tree.locate();
        if (network.ifindex != no_ifindex)
            network.tree = tree.read();
    }

    const std::vector<Connection>& connections_;
    const std::optional<std::string>& only_;
    std::shared_ptr<tc::Netlink> netlink_ = tc::open_netlink();
    Evidence evidence_;
    bool runs_without_floors_ = false; // the one asked for
};

} // namespace

Evidence gather(const std::vector<Connection>& connections, const std::optional<std::string>& only)
{
    return Gathering(connections, only).gather();
}

std::vector<Connection> connect_if_served(const std::vector<std::string>& uris)
{
    try {
        return connect(uris, Access::read_only);
    } catch (const NoConnection&) {
        if (!uris.empty() || find_daemon())
            throw;
        return {};
    }
}

std::vector<Difference> differences(const Evidence& evidence)
{
    std::vector<Difference> all;
    for (const auto& [name, network] : evidence.networks)
        std::ranges::move(differences(network), std::back_inserter(all));
    return all;
}

} // namespace virfloor::tool
