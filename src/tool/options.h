// SPDX-License-Identifier: LGPL-2.1-or-later
//
// A command's options and arguments, by GLib's GOption.
#pragma once

#include <glib.h>

#include <cstdint>
#include <functional>
#include <list>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace virfloor::tool {

// One sentence that says what is wrong with the arguments.
class UsageError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

class Options {
public:
    // arguments: what comes after the options, for the usage line, such as "NETWORK"; may be empty.
    // Texts are translated by the caller.
    Options(std::string arguments, std::string summary);

    // letter: 0 for none. The values must live until parse() has returned, and keep theirs where the option is not given.
    void flag(const char* name, char letter, const char* help, bool* value);
    void text(const char* name, char letter, const char* help, const char* placeholder,
              std::optional<std::string>* value);
    // May be given again and again.
    void texts(const char* name, char letter, const char* help, const char* placeholder,
               std::vector<std::string>* values);
    // A decimal number of 64 bits.
    void number(const char* name, char letter, const char* help, const char* placeholder,
                std::optional<std::uint64_t>* value);

    // The arguments that are no options. Prints the help and ends the process where it is asked for. Throws UsageError, also
    // for fewer than `least` or more than `most` arguments.
    std::vector<std::string> parse(int count, char** arguments, std::size_t least, std::size_t most);

private:
    void add(const char* name, char letter, const char* help, const char* placeholder, GOptionArg kind, gpointer data,
             std::function<void()> keep);

    std::string arguments_, summary_;
    std::vector<GOptionEntry> entries_;
    std::list<std::string> names_;
    std::list<gboolean> flags_;
    std::list<gchar*> texts_;
    std::list<gchar**> lists_;
    std::vector<std::function<void()>> keepers_; // carry a value over from GOption's place
};

// --connect, and --json for commands that read.
struct Common {
    std::vector<std::string> uris;
    bool json = false;

    void add_to(Options& options, bool reads = true);
};

// The number, or UsageError with the option's name.
std::uint64_t parse_option_number(const std::string& text, const std::string& option);

} // namespace virfloor::tool
