// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Whether XML that people or the module write is as it has to be: by RELAX NG, ours and libvirt's, and by the rules that
// it cannot say.
//
// Not thread-safe.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace virfloor::tool {

struct Fault {
    long line = 0; // 0: of the file as a whole
    std::string text;

    bool operator==(const Fault&) const = default;
};

struct Verdict {
    std::string kind;           // the root element; empty where there is none
    std::vector<Fault> faults;  // by line; none where it is valid
    std::string lacking_schema; // libvirt's, where it would be needed and is not there
};

class Validator {
public:
    // Folders of schemas. Ours must be there, libvirt's need not.
    Validator(std::filesystem::path ours, std::filesystem::path libvirts);
    ~Validator();

    // A status file, or libvirt's XML of a network, a network port, a domain, or a domain's interface.
    // Throws Error(system) if a schema that is there cannot be read.
    Verdict validate(std::string_view text);

private:
    class Schema;

    const Schema& schema(const std::filesystem::path& file);
    const Schema& interface_schema();

    std::filesystem::path ours_, libvirts_;
    std::map<std::string, std::unique_ptr<Schema>> schemas_; // by file
};

} // namespace virfloor::tool
