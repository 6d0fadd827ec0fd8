// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What is written to disk so that a restart can go on; status/format.md documents the format.
//
// One file a network, replaced atomically and durably when the network starts and when it grows.
// Between, a port's record, 128 bytes that no page boundary cuts, is overwritten in place by one
// write: what a plug costs does not grow with the number of ports, and the file is whole XML at any
// time. Directory 0700, files 0600.
//
// Thread safety: different StatusFile objects may be used at once.
#pragma once

#include "virfloor/network.h"

#include <filesystem>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace virfloor {

// An open file descriptor, closed with its owner.
class Descriptor {
public:
    Descriptor() = default;
    explicit Descriptor(int number) : number_(number) {}
    Descriptor(Descriptor&& other) noexcept;
    Descriptor& operator=(Descriptor&& other) noexcept;
    ~Descriptor();

    int get() const { return number_; }

private:
    int number_ = -1;
};

// The interface index that stands for "not started yet".
inline constexpr int no_ifindex = 0;

struct SavedNetwork {
    std::string name, bridge;
    int ifindex = no_ifindex; // of the bridge; a bridge that is made again has another
    Bytes mtu;
    Rate limits;
    std::vector<Port> ports;
};

// All functions throw Error(system) with the file's name and the system's text.
class StatusFile {
public:
    // Replaces the file of the network by one that has all its ports.
    StatusFile(std::filesystem::path path, const Network& network, int ifindex);

    // Brings the record of a port up to what the network has of it, be that nothing. On a failure
    // the file is as it was, as far as the file system allows.
    void update(const Network& network, const Uuid& uuid);

private:
    void replace(const Network& network);
    void write_record(std::size_t index, const std::string& record);

    std::filesystem::path path_;
    int ifindex_;
    Descriptor file_;
    std::size_t records_start_ = 0;
    std::unordered_map<Uuid, std::size_t> records_; // index
    std::vector<std::size_t> free_;                 // indexes, the one to be used next at the end
    bool open_ = false;                             // file_ is the file of that path
};

class StatusDirectory {
public:
    // Makes the directory if it is not there.
    explicit StatusDirectory(std::filesystem::path directory);

    StatusFile save(const Network& network, int ifindex) const;
    bool has(const std::string& network) const;
    // Nothing if there is no file. Throws Error(invalid_xml) if it cannot be trusted.
    std::optional<SavedNetwork> load(const std::string& network) const;
    // Names of networks that have a file.
    std::vector<std::string> networks() const;
    void remove(const std::string& network) const;
    // Renames the file to NAME.xml.damaged, and returns that path.
    std::filesystem::path set_aside(const std::string& network) const;

private:
    std::filesystem::path path(const std::string& network) const;

    std::filesystem::path directory_;
};

// A floor that a running domain's status XML names, of libvirt's own state directory.
struct DomainPort {
    std::string network;
    Uuid uuid;
    MacAddress mac;
    KilobytesPerSecond floor;
    std::optional<ClassId> id;
};

// Reads <libvirt_state_dir>/{qemu,lxc}/*.xml; files that cannot be read or parsed are logged and
// passed over.
std::vector<DomainPort> read_domain_status(const std::filesystem::path& libvirt_state_dir);
// The interfaces with a floor in one domain's status XML. Throws Error(invalid_xml).
std::vector<DomainPort> parse_domain_status(std::string_view xml);

// The file's contents; follows no symbolic link. Throws Error(system), also for files that are not
// regular or larger than `most` bytes.
std::string read_file(const std::filesystem::path& path, std::size_t most);
// The file has these contents or its old ones, whatever happens. Mode 0600. Throws Error(system).
void replace_file(const std::filesystem::path& path, const std::string& contents);

} // namespace virfloor
