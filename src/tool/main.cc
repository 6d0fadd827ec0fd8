// SPDX-License-Identifier: LGPL-2.1-or-later
//
// virt-floor: what was promised to guests, and what they get.
#include "commands.h"
#include "config.h"
#include "libvirt.h"
#include "options.h"
#include "virfloor/text.h"

#include <array>
#include <clocale>
#include <cstring>
#include <iostream>

namespace virfloor::tool {

namespace {

struct Command {
    const char* name;
    const char* summary; // to be translated
    int (*run)(int count, char** arguments);
};

// Marks a text for translation where it cannot be translated yet.
constexpr const char* N_(const char* text) { return text; }

constexpr std::array commands{
    Command{"list", N_("Show the floors of interfaces, and what they get"), list},
    Command{"top", N_("Show live what interfaces get"), top},
    Command{"tree", N_("Show the classes of a network"), tree},
    Command{"capacity", N_("Show what networks can still promise"), capacity},
    Command{"check", N_("Say where promises, status files and the kernel differ"), check},
    Command{"repair", N_("Put the kernel right"), repair},
    Command{"set", N_("Set the floor of an interface"), set},
    Command{"validate", N_("Validate status files, and libvirt's XML as far as floors go"), validate},
    Command{"exporter", N_("Serve metrics for Prometheus"), exporter},
};

void print_help(std::ostream& out)
{
    out << _("Usage:") << "\n  virt-floor " << _("COMMAND [OPTION…]") << "\n\n" << _("Commands:") << '\n';
    for (const Command& command : commands)
        out << format("  %-10s %s\n", command.name, _(command.summary));
    out << '\n'
        << _("Each command explains itself: virt-floor COMMAND --help") << '\n'
        << _("Exit status: 0 done, 1 the answer is no, 2 wrong usage, 3 it failed") << '\n';
}

// A device that takes nothing more must not look like success.
int flushed(int status)
{
    if (std::cout.flush())
        return status;
    throw Error(Refusal::system, _("Cannot write to standard output"));
}

int run(int count, char** arguments)
{
    const std::string name = count > 1 ? arguments[1] : "";
    if (name == "--help" || name == "-h" || name == "help") {
        print_help(std::cout);
        return flushed(exit_done);
    }
    if (name == "--version") {
        std::cout << "virt-floor " VERSION "\n";
        return flushed(exit_done);
    }
    for (const Command& command : commands)
        if (name == command.name)
            return flushed(command.run(count - 1, arguments + 1));
    throw UsageError(name.empty() ? _("A command is needed; virt-floor --help names them")
                                  : format(_("There is no command '%s'; virt-floor --help names them"), name.c_str()));
}

int guarded(int count, char** arguments)
{
    try {
        return run(count, arguments);
    } catch (const UsageError& error) {
        std::cerr << "virt-floor: " << error.what() << '\n';
        return exit_usage;
    } catch (const std::exception& error) {
        std::cerr << "virt-floor: " << error.what() << '\n';
        return exit_failed;
    }
}

} // namespace

} // namespace virfloor::tool

int main(int count, char** arguments)
{
    std::setlocale(LC_ALL, "");
    virfloor::bind_texts(LOCALE_DIR);
    virfloor::tool::keep_libvirt_quiet();
    return virfloor::tool::guarded(count, arguments);
}
