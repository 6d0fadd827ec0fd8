// SPDX-License-Identifier: LGPL-2.1-or-later
//
// What is written to disk so that a restart can go on; status/format.md documents the format.
//
// One file a network, replaced atomically and durably when the network starts and when it grows.
// Between, a record, 128 bytes that no page boundary cuts, is overwritten in place by one write, be it
// a port's or the counts': what a plug costs does not grow with the number of ports, and the file is
// whole XML at any time. Directory 0700, files 0600.
//
// Thread safety: different StatusFile objects may be used at once.
#pragma once

#include "virfloor/network.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
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

// How the tree in the kernel stands to what is promised.
enum class Condition {
    kept,      // as it should be, or about to be put right
    contested, // others change it again and again; it is put right ever more rarely
    broken,    // the kernel refused to put it right; it is tried again
    absent,    // there is no device for it
};

// Since the network started, also before a restart of the daemon.
struct Counts {
    std::uint64_t refusals = 0; // floors for which there was no room, or no class ID
    std::uint64_t repairs = 0;  // of the tree, after somebody else had changed it

    bool operator==(const Counts&) const = default;
};

struct SavedNetwork {
    std::string name, bridge;
    int ifindex = no_ifindex; // of the bridge; a bridge that is made again has another
    Bytes mtu;
    Rate limits;
    Condition condition = Condition::kept;
    Counts counts;
    std::vector<Port> ports;
};

// All functions throw Error(system) with the file's name and the system's text.
class StatusFile {
public:
    // Nothing is written yet.
    explicit StatusFile(std::filesystem::path path) : path_(std::move(path)) {}

    // Whether the file is as the calls here left it: not before the first one, nor after one that
    // failed. The next call replaces the whole file then.
    bool is_written() const { return open_; }
    // Replaces the file, by one that has all ports, if it does not say this yet; where the counts
    // alone differ, their record. After a failure, the next call says it. ifindex: of the bridge,
    // no_ifindex for a network that is not started yet.
    void describe(const Network& network, int ifindex, Condition condition, const Counts& counts);

    // Brings the record of a port up to what the network has of it, be that nothing. On a failure
    // the file is as it was, as far as the file system allows.
    void update(const Network& network, const Uuid& uuid);

private:
    void replace(const Network& network);
    // At a record's place from the first port's, which the counts' stands before.
    void write_record(std::ptrdiff_t place, const std::string& record);

    std::filesystem::path path_;
    int ifindex_ = no_ifindex;
    Condition condition_ = Condition::kept;
    Counts counts_;
    Descriptor file_;
    std::ptrdiff_t records_start_ = 0;
    std::unordered_map<Uuid, std::size_t> records_; // index
    std::vector<std::size_t> free_;                 // indexes, the one to be used next at the end
    bool open_ = false;                             // file_ is the file of that path, and in order
};

// What a status file of this network says; `file` is what errors name. Throws Error(invalid_xml) if it
// cannot be trusted.
SavedNetwork parse_status(std::string_view text, const std::string& network, const std::filesystem::path& file);

// For tools, which read what a daemon writes meanwhile: nothing is made, changed or logged. Both throw
// Error(system), with the errno; EACCES where the caller is not root.
//
// The networks that have a file; none where there is no such directory.
std::vector<std::string> list_status(const std::filesystem::path& directory);
// Nothing if the network has no file. What is being written is read again. Throws Error(invalid_xml) if
// the file cannot be trusted.
std::optional<SavedNetwork> read_status(const std::filesystem::path& directory, const std::string& network);

class StatusDirectory {
public:
    // Makes the directory if it is not there. Throws if one that is there could hold files of others:
    // a symbolic link, another owner, or more than the owner may write.
    explicit StatusDirectory(std::filesystem::path directory);

    // The file of a network, not touched yet; and written.
    StatusFile file(const std::string& network) const;
    StatusFile save(const Network& network, int ifindex) const;
    bool has(const std::string& network) const;
    // Nothing if there is no file. Throws Error(invalid_xml) if it cannot be trusted.
    std::optional<SavedNetwork> load(const std::string& network) const;
    // Names of networks that have a file.
    std::vector<std::string> networks() const;
    // What is no file is set aside instead.
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
    std::string domain{}, device{}; // the host's end of the interface
};

// Reads <libvirt_state_dir>/{qemu,lxc}/*.xml; files that cannot be read or parsed are logged and
// passed over.
std::vector<DomainPort> read_domain_status(const std::filesystem::path& libvirt_state_dir);
// The interfaces with a floor in one domain's status XML. Throws Error(invalid_xml).
std::vector<DomainPort> parse_domain_status(std::string_view xml);

// The file's contents; follows no symbolic link. Throws Error(system), also for files that are not
// regular or larger than `most` bytes. What fails once is tried again: floors hang on it.
std::string read_file(const std::filesystem::path& path, std::size_t most);
// The file has these contents or its old ones, whatever happens. Mode 0600. Throws Error(system).
void replace_file(const std::filesystem::path& path, const std::string& contents);
// Removes what a replace_file() that was cut off left behind in a directory.
void remove_temporaries(const std::filesystem::path& directory);

} // namespace virfloor
