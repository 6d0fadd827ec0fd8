// SPDX-License-Identifier: LGPL-2.1-or-later
#include "commands.h"
#include "config.h"
#include "options.h"
#include "output.h"
#include "validity.h"
#include "virfloor/error.h"
#include "virfloor/status.h"
#include "virfloor/text.h"

#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <iterator>

namespace virfloor::tool {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t most_bytes = 16 * 1024 * 1024; // as the module reads

std::string read_whole(const std::string& name)
{
    const auto fail = [&name](int error) {
        throw Error(Refusal::system, format(_("Cannot read %s: %s"), name.c_str(), std::strerror(error)), error);
    };
    const Descriptor opened(name == "-" ? dup(STDIN_FILENO) : open(name.c_str(), O_RDONLY | O_CLOEXEC));
    if (opened.get() < 0)
        fail(errno);
    std::string text;
    char buffer[65536];
    ssize_t size = 0;
    while ((size = read(opened.get(), buffer, sizeof buffer)) > 0) {
        text.append(buffer, static_cast<std::size_t>(size));
        if (text.size() > most_bytes)
            fail(EFBIG);
    }
    if (size < 0)
        fail(errno);
    return text;
}

Json as_json(const std::string& file, const Verdict& verdict)
{
    Json faults = Json::array();
    for (const Fault& fault : verdict.faults)
        faults.push_back({{"line", fault.line}, {"text", fault.text}});
    return {{"file", file}, {"kind", verdict.kind}, {"valid", verdict.faults.empty()}, {"faults", faults}};
}

void tell(const std::string& file, const Verdict& verdict)
{
    for (const Fault& fault : verdict.faults)
        if (fault.line > 0)
            std::cout << format("%s:%ld: %s\n", file.c_str(), fault.line, fault.text.c_str());
        else
            std::cout << format("%s: %s\n", file.c_str(), fault.text.c_str());
    if (verdict.faults.empty())
        std::cout << format(_("%s: valid\n"), file.c_str());
}

std::string folder(const std::optional<std::string>& option)
{
    if (option)
        return *option;
    const char* given = std::getenv("VIRT_FLOOR_SCHEMA_DIR");
    return given && *given ? given : SCHEMA_DIR;
}

} // namespace

int validate(int count, char** arguments)
{
    bool json = false;
    std::optional<std::string> ours, libvirts;
    Options options(_("FILE…"),
                    _("Validates status files, and libvirt's XML of networks, network ports, domains and "
                      "their interfaces: by the schemas of libvirt-floor and of libvirt. A file called - is "
                      "standard input. Exit status 1: one is not valid."));
    options.flag("json", 'j', _("Print JSON"), &json);
    options.text("schemas", 0,
                 _("Schemas of libvirt-floor (default: $VIRT_FLOOR_SCHEMA_DIR, or where it was installed)"),
                 _("FOLDER"), &ours);
    options.text("libvirt-schemas", 0, _("Schemas of libvirt"), _("FOLDER"), &libvirts);
    const auto files = options.parse(count, arguments, 1, SIZE_MAX);

    Validator validator(folder(ours), libvirts.value_or(LIBVIRT_SCHEMA_DIR));
    bool unread = false, invalid = false;
    std::vector<std::string> lacking;
    Json all = Json::array();
    for (const std::string& file : files) {
        std::string text;
        try {
            text = read_whole(file);
        } catch (const Error& error) {
            std::cerr << "virt-floor: " << error.what() << '\n';
            unread = true;
            continue;
        }
        const Verdict verdict = validator.validate(text);
        invalid |= !verdict.faults.empty();
        if (!verdict.lacking_schema.empty() && std::ranges::find(lacking, verdict.lacking_schema) == lacking.end())
            lacking.push_back(verdict.lacking_schema);
        if (json)
            all.push_back(as_json(file, verdict));
        else
            tell(file, verdict);
    }
    if (json)
        print_json(Json{{"files", all}});
    for (const std::string& schema : lacking)
        std::cerr << "virt-floor: "
                  << format(_("There is no %s: only what libvirt-floor reads was validated"), schema.c_str()) << '\n';
    return invalid ? exit_no : unread ? exit_failed : exit_done;
}

} // namespace virfloor::tool
