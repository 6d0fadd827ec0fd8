// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virfloor/error.h"
#include "virfloor/log.h"
#include "virfloor/status.h"
#include "virfloor/text.h"
#include "virfloor/xml.h"

#include <glib.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <utility>

namespace virfloor {

namespace {

namespace fs = std::filesystem;

// A record's length. It divides a page, and holds the longest port; pad() sees to that.
constexpr std::size_t record_size = 128;
constexpr std::size_t least_capacity = 8;   // records
constexpr std::ptrdiff_t counts_place = -2; // from the first port's record
constexpr std::size_t max_file_size = std::size_t{16} * 1024 * 1024;
constexpr char root_name[] = "floornetwork";
constexpr char extension[] = ".xml";
constexpr char damaged[] = ".damaged";

// text: a format of the path, and of the reason.
[[noreturn]] void fail(const char* text, const fs::path& path, int error)
{
    throw Error(Refusal::system, format(text, path.c_str(), std::strerror(error)), error);
}

// Spaces up to the end of the line, which is the record's.
std::string pad(std::string text)
{
    if (text.size() >= record_size)
        throw std::logic_error("status record too long: " + text);
    text.resize(record_size - 1, ' ');
    return text + '\n';
}

std::string record_of(const Port& port)
{
    std::string text;
    text.reserve(record_size);
    text += "    <port uuid='";
    text += port.uuid.text();
    text += "' mac='";
    text += port.mac.text();
    text += "' class='";
    text += std::to_string(port.id.minor);
    text += "' floor='";
    text += std::to_string(port.floor.count);
    text += "'/>";
    return pad(std::move(text));
}

std::string record_of(const Counts& counts)
{
    return pad("  <counts refusals='" + std::to_string(counts.refusals) + "' repairs='" +
               std::to_string(counts.repairs) + "'/>");
}

// Where all is well, nothing is said.
constexpr std::pair<Condition, const char*> states[] = {
    {Condition::contested, "contested"}, {Condition::broken, "broken"}, {Condition::absent, "absent"}};

std::string element_of(Condition condition)
{
    for (const auto& [said, state] : states)
        if (said == condition)
            return std::string("  <tree state='") + state + "'/>\n";
    return "";
}

// Up to the first port's record.
std::string format_header(const Network& network, int ifindex, Condition condition, const Counts& counts)
{
    std::string text = std::string("<") + root_name + ">\n  <name>" + escape_xml(network.name()) +
                       "</name>\n  <bridge name='" + escape_xml(network.bridge()) + "' ifindex='" +
                       std::to_string(ifindex) + "' mtu='" + std::to_string(network.mtu().count) + "'/>\n" +
                       format_bandwidth({network.limits(), {}}, {}, 2) + element_of(condition);
    // Records start at a multiple of their size.
    text.pop_back();
    text.resize((text.size() / record_size + 1) * record_size - 1, ' ');
    return text + '\n' + record_of(counts) + pad("  <ports>");
}

[[noreturn]] void refuse(const fs::path& path, const std::string& why)
{
    throw Error(Refusal::invalid_xml, format("%s: %s", path.c_str(), why.c_str()));
}

[[noreturn]] void refuse_attribute(const fs::path& path, const char* name)
{
    refuse(path, format(_("it has no valid attribute %s"), name));
}

template <class Value>
Value require(const std::optional<Value>& value, const fs::path& path, const char* name)
{
    if (!value)
        refuse_attribute(path, name);
    return *value;
}

std::uint64_t number(const xmlNode* element, const char* name, std::uint64_t most, const fs::path& path,
                     std::uint64_t least = 0)
{
    const auto value = parse_number(attribute(element, name).value_or(""));
    if (!value || *value < least || *value > most)
        refuse_attribute(path, name);
    return *value;
}

Port parse_record(const xmlNode* record, const fs::path& path)
{
    return {.uuid = require(Uuid::parse(attribute(record, "uuid").value_or("")), path, "uuid"),
            .mac = require(MacAddress::parse(attribute(record, "mac").value_or("")), path, "mac"),
            .id = ClassId{static_cast<std::uint16_t>(
                number(record, "class", last_class.minor, path, first_port_class.minor))},
            .floor = {number(record, "floor", max_rate.count, path, 1)}};
}

XmlDocument parse_document(std::string_view text, const fs::path& path)
{
    try {
        return XmlDocument::parse(text, root_name, max_file_size);
    } catch (const Error& error) {
        refuse(path, error.what());
    }
}

Condition parse_condition(const xmlNode* tree, const fs::path& path)
{
    if (!tree)
        return Condition::kept;
    const auto state = attribute(tree, "state");
    const auto said = std::ranges::find_if(states, [&](const auto& each) { return state == each.second; });
    if (said == std::end(states))
        refuse_attribute(path, "state");
    return said->first;
}

// A file of before there were counts has none.
Counts parse_counts(const xmlNode* counts, const fs::path& path)
{
    if (!counts)
        return {};
    return {.refusals = number(counts, "refusals", UINT64_MAX, path),
            .repairs = number(counts, "repairs", UINT64_MAX, path)};
}

// As GLib names a file that is to take the place of one of ours.
bool is_temporary(const std::string& name)
{
    constexpr std::size_t random = 6;
    if (name.size() <= random)
        return false;
    const std::string head = name.substr(0, name.size() - random);
    return head.ends_with(std::string(extension) + '.') &&
           std::all_of(name.begin() + static_cast<std::ptrdiff_t>(head.size()), name.end(),
                       [](char c) { return g_ascii_isalnum(c); });
}

// What lies in a directory that others may write to, or that a link leads to, cannot be trusted. One
// that others may only read is closed to them.
void make_ours(const fs::path& directory)
{
    const auto distrust = [&](const char* why) { throw Error(Refusal::system, format(why, directory.c_str())); };
    const Descriptor opened(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
    if (opened.get() < 0 && (errno == ELOOP || errno == ENOTDIR))
        distrust(_("%s is not a directory of its own, so its files cannot be trusted; "
                   "remove it and restart the daemon"));
    if (opened.get() < 0)
        fail(_("cannot open directory %s: %s"), directory, errno);
    struct stat status {};
    if (fstat(opened.get(), &status) < 0)
        fail(_("cannot look at %s: %s"), directory, errno);
    if (status.st_uid != geteuid())
        distrust(_("%s belongs to another user, so its files cannot be trusted; "
                   "remove it and restart the daemon"));
    if (status.st_mode & (S_IWGRP | S_IWOTH))
        distrust(_("%s may be written to by other users, so its files cannot be trusted; "
                   "remove it and restart the daemon"));
    if ((status.st_mode & ALLPERMS) == S_IRWXU)
        return;
    if (fchmod(opened.get(), S_IRWXU) < 0)
        fail(_("cannot change the mode of %s: %s"), directory, errno);
    log(Severity::warning, format(_("closed %s to other users"), directory.c_str()));
}

fs::path file_in(const fs::path& directory, const std::string& network)
{
    if (network.empty() || network.find('/') != std::string::npos)
        throw Error(Refusal::invalid_xml, format(_("network name '%s' is no file name"), network.c_str()));
    return directory / (network + extension);
}

std::vector<std::string> names_in(const fs::path& directory)
{
    std::vector<std::string> names;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(directory, error))
        if (entry.path().extension() == extension)
            names.push_back(entry.path().stem());
    if (error)
        fail(_("cannot list %s: %s"), directory, error.value());
    return names;
}

} // namespace

Descriptor::Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept
{
    std::swap(number_, other.number_);
    return *this;
}

Descriptor::~Descriptor()
{
    if (number_ >= 0)
        close(number_);
}

void StatusFile::replace(const Network& network)
{
    std::size_t capacity = least_capacity;
    while (capacity < network.ports().size())
        capacity *= 2;

    std::string text = format_header(network, ifindex_, condition_, counts_);
    const std::size_t start = text.size();
    std::vector<const Port*> ports;
    for (const auto& [uuid, port] : network.ports())
        ports.push_back(&port);
    std::ranges::sort(ports, {}, [](const Port* port) { return std::pair(port->id, port->uuid); });
    std::unordered_map<Uuid, std::size_t> records;
    for (const Port* port : ports) {
        text += record_of(*port);
        records.emplace(port->uuid, records.size());
    }
    std::vector<std::size_t> free;
    for (std::size_t i = capacity; i-- > records.size();)
        free.push_back(i);
    for (std::size_t i = 0; i < free.size(); ++i)
        text += pad("");
    text += std::string("  </ports>\n</") + root_name + ">\n";

    replace_file(path_, text);
    open_ = false;
    Descriptor file(open(path_.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW));
    if (file.get() < 0)
        fail(_("cannot open %s: %s"), path_, errno);
    file_ = std::move(file);
    open_ = true;
    records_start_ = static_cast<std::ptrdiff_t>(start);
    records_ = std::move(records);
    free_ = std::move(free);
}

void StatusFile::describe(const Network& network, int ifindex, Condition condition, const Counts& counts)
{
    const bool counts_alone = open_ && ifindex == ifindex_ && condition == condition_;
    if (counts_alone && counts == counts_)
        return;
    // What cannot be said now is said by the next call that writes.
    open_ = false;
    ifindex_ = ifindex;
    condition_ = condition;
    counts_ = counts;
    if (!counts_alone) {
        replace(network);
        return;
    }
    write_record(counts_place, record_of(counts));
    open_ = true;
}

void StatusFile::write_record(std::ptrdiff_t place, const std::string& record)
{
    const auto offset = static_cast<off_t>(records_start_ + place * static_cast<std::ptrdiff_t>(record_size));
    const ssize_t written = pwrite(file_.get(), record.data(), record.size(), offset);
    if (written != static_cast<ssize_t>(record.size()))
        fail(_("cannot write a record of %s: %s"), path_, written < 0 ? errno : EIO);
    if (fdatasync(file_.get()) < 0)
        fail(_("cannot synchronise %s: %s"), path_, errno);
}

void StatusFile::update(const Network& network, const Uuid& uuid)
{
    const Port* port = network.find(uuid);
    auto record = records_.find(uuid);
    const bool new_record = port && record == records_.end();
    if (!open_ || (new_record && free_.empty())) {
        replace(network);
        return;
    }
    if (new_record) {
        record = records_.emplace(uuid, free_.back()).first;
        free_.pop_back();
    }
    open_ = false;
    if (port) {
        write_record(static_cast<std::ptrdiff_t>(record->second), record_of(*port));
    } else if (record != records_.end()) {
        write_record(static_cast<std::ptrdiff_t>(record->second), pad(""));
        free_.push_back(record->second);
        records_.erase(record);
    }
    open_ = true;
}

StatusDirectory::StatusDirectory(fs::path directory) : directory_(std::move(directory))
{
    if (g_mkdir_with_parents(directory_.c_str(), S_IRWXU) < 0 && errno != ENOTDIR)
        fail(_("cannot make directory %s: %s"), directory_, errno);
    make_ours(directory_);
    remove_temporaries(directory_);
}

fs::path StatusDirectory::path(const std::string& network) const { return file_in(directory_, network); }

StatusFile StatusDirectory::file(const std::string& network) const { return StatusFile(path(network)); }

StatusFile StatusDirectory::save(const Network& network, int ifindex) const
{
    StatusFile written = file(network.name());
    written.describe(network, ifindex, Condition::kept, {});
    return written;
}

bool StatusDirectory::has(const std::string& network) const
{
    std::error_code error;
    return fs::exists(fs::symlink_status(path(network), error));
}

std::optional<SavedNetwork> StatusDirectory::load(const std::string& network) const
{
    if (!has(network))
        return {};
    const fs::path file = path(network);
    return parse_status(read_file(file, max_file_size), network, file);
}

SavedNetwork parse_status(std::string_view text, const std::string& network, const fs::path& file)
{
    const XmlDocument document = parse_document(text, file);
    const xmlNode* root = document.root();
    const xmlNode* bridge = child(root, "bridge");
    const xmlNode* bandwidth = child(root, "bandwidth");
    SavedNetwork saved;
    saved.name = content(child(root, "name")).value_or("");
    saved.bridge = attribute(bridge, "name").value_or("");
    saved.ifindex = static_cast<int>(number(bridge, "ifindex", INT_MAX, file));
    saved.mtu = {number(bridge, "mtu", UINT32_MAX, file)};
    if (saved.name != network || (saved.bridge.empty() && saved.ifindex != no_ifindex) || !bandwidth)
        refuse(file, format(_("it does not describe network '%s'"), network.c_str()));
    const auto limits = parse_bandwidth(bandwidth).inbound;
    if (!limits || !limits->average)
        refuse(file, _("it has no inbound bandwidth with an average"));
    saved.limits = *limits;
    saved.condition = parse_condition(child(root, "tree"), file);
    saved.counts = parse_counts(child(root, "counts"), file);
    std::set<Uuid> ports;
    std::map<ClassId, MacAddress> addresses;
    std::map<MacAddress, ClassId> ids;
    for (const xmlNode* record : children(child(root, "ports"))) {
        if (!has_name(record, "port"))
            continue;
        const Port port = parse_record(record, file);
        if (!ports.insert(port.uuid).second)
            refuse(file, _("a port stands there twice"));
        if (ids.emplace(port.mac, port.id).first->second != port.id ||
            addresses.emplace(port.id, port.mac).first->second != port.mac)
            refuse(file, _("ports share a class ID or a MAC address, but not both"));
        saved.ports.push_back(port);
    }
    return saved;
}

std::vector<std::string> StatusDirectory::networks() const { return names_in(directory_); }

void StatusDirectory::remove(const std::string& network) const
{
    const fs::path file = path(network);
    if (unlink(file.c_str()) == 0 || errno == ENOENT)
        return;
    if (errno != EISDIR)
        fail(_("cannot remove %s: %s"), file, errno);
    set_aside(network);
}

fs::path StatusDirectory::set_aside(const std::string& network) const
{
    const fs::path from = path(network);
    fs::path to = from.string() + damaged;
    std::error_code ignored;
    if (fs::is_directory(fs::symlink_status(from, ignored)) || fs::is_directory(fs::symlink_status(to, ignored)))
        fs::remove_all(to, ignored); // else they would stand in each other's way
    if (rename(from.c_str(), to.c_str()) < 0)
        fail(_("cannot rename %s: %s"), from, errno);
    return to;
}

void replace_file(const fs::path& path, const std::string& contents)
{
    GError* error = nullptr;
    const auto flags = static_cast<GFileSetContentsFlags>(G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE);
    errno = 0;
    if (g_file_set_contents_full(path.c_str(), contents.data(), static_cast<gssize>(contents.size()), flags,
                                 S_IRUSR | S_IWUSR, &error))
        return;
    const int reason = errno;
    const std::unique_ptr<GError, void (*)(GError*)> owner(error, g_error_free);
    throw Error(Refusal::system, format(_("cannot write status: %s"), error->message), reason);
}

void remove_temporaries(const fs::path& directory)
{
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(directory, error)) {
        if (!is_temporary(entry.path().filename()) || unlink(entry.path().c_str()) == 0)
            continue;
        log(Severity::warning, format(_("cannot remove %s: %s"), entry.path().c_str(), std::strerror(errno)));
    }
}

namespace {

std::string read_once(const fs::path& path, std::size_t most)
{
    const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (file.get() < 0)
        fail(_("cannot open %s: %s"), path, errno);
    struct stat status {};
    if (fstat(file.get(), &status) < 0)
        fail(_("cannot look at %s: %s"), path, errno);
    if (!S_ISREG(status.st_mode))
        fail(_("cannot read %s: %s"), path, EINVAL);
    std::string text;
    char buffer[65536];
    ssize_t size = 0;
    while ((size = read(file.get(), buffer, sizeof buffer)) > 0) {
        text.append(buffer, static_cast<std::size_t>(size));
        if (text.size() > most)
            fail(_("cannot read %s: %s"), path, EFBIG);
    }
    if (size < 0)
        fail(_("cannot read %s: %s"), path, errno);
    return text;
}

} // namespace

std::string read_file(const fs::path& path, std::size_t most)
{
    try {
        return read_once(path, most);
    } catch (const Error& error) {
        switch (error.system_errno()) {
        case ENOENT:
        case ELOOP:
        case EINVAL:
        case EFBIG: throw;
        default: log(Severity::warning, format(_("%s; trying once more"), error.what()));
        }
    }
    return read_once(path, most);
}

std::vector<std::string> list_status(const fs::path& directory)
{
    try {
        return names_in(directory);
    } catch (const Error& error) {
        if (error.system_errno() == ENOENT)
            return {};
        throw;
    }
}

std::optional<SavedNetwork> read_status(const fs::path& directory, const std::string& network)
{
    constexpr int most_tries = 5;
    const fs::path file = file_in(directory, network);
    for (int tries = 1;; ++tries) {
        try {
            return parse_status(read_once(file, max_file_size), network, file);
        } catch (const Error& error) {
            if (error.system_errno() == ENOENT)
                return {};
            if (error.refusal() != Refusal::invalid_xml || tries == most_tries)
                throw;
        }
    }
}

} // namespace virfloor
