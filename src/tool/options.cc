// SPDX-License-Identifier: LGPL-2.1-or-later
#include "options.h"

#include "virfloor/text.h"
#include "virfloor/xml.h"

#include <memory>

namespace virfloor::tool {

Options::Options(std::string arguments, std::string summary)
    : arguments_(std::move(arguments)), summary_(std::move(summary))
{
}

void Options::add(const char* name, char letter, const char* help, const char* placeholder, GOptionArg kind,
                  gpointer data, std::function<void()> keep)
{
    entries_.push_back({name, letter, 0, kind, data, help, placeholder});
    keepers_.push_back(std::move(keep));
}

void Options::flag(const char* name, char letter, const char* help, bool* value)
{
    gboolean& place = flags_.emplace_back(FALSE);
    add(name, letter, help, nullptr, G_OPTION_ARG_NONE, &place, [&place, value] { *value |= place != FALSE; });
}

void Options::text(const char* name, char letter, const char* help, const char* placeholder,
                   std::optional<std::string>* value)
{
    gchar*& place = texts_.emplace_back(nullptr);
    add(name, letter, help, placeholder, G_OPTION_ARG_STRING, &place, [&place, value] {
        if (place)
            *value = place;
        g_free(place);
    });
}

void Options::texts(const char* name, char letter, const char* help, const char* placeholder,
                    std::vector<std::string>* values)
{
    gchar**& place = lists_.emplace_back(nullptr);
    add(name, letter, help, placeholder, G_OPTION_ARG_STRING_ARRAY, &place, [&place, values] {
        for (gchar** text = place; text && *text; ++text)
            values->emplace_back(*text);
        g_strfreev(place);
    });
}

void Options::number(const char* name, char letter, const char* help, const char* placeholder,
                     std::optional<std::uint64_t>* value)
{
    gchar*& place = texts_.emplace_back(nullptr);
    const std::string& option = names_.emplace_back(std::string("--") + name);
    add(name, letter, help, placeholder, G_OPTION_ARG_STRING, &place, [&place, &option, value] {
        const std::unique_ptr<gchar, void (*)(void*)> owned(place, g_free);
        if (place)
            *value = parse_option_number(place, option);
    });
}

std::vector<std::string> Options::parse(int count, char** arguments, std::size_t least, std::size_t most)
{
    // The first word is the program's name to GOption, and stands in its usage line.
    const std::string program = std::string("virt-floor ") + arguments[0];
    std::vector<char*> words(arguments, arguments + count);
    words[0] = const_cast<char*>(program.c_str());
    g_set_prgname(program.c_str());

    entries_.push_back({});
    const std::unique_ptr<GOptionContext, void (*)(GOptionContext*)> context(
        g_option_context_new(arguments_.empty() ? nullptr : arguments_.c_str()), g_option_context_free);
    g_option_context_set_summary(context.get(), summary_.c_str());
    g_option_context_add_main_entries(context.get(), entries_.data(), nullptr);
    char** rest = words.data();
    GError* error = nullptr;
    const bool understood = g_option_context_parse(context.get(), &count, &rest, &error);
    for (const auto& keep : keepers_)
        keep();
    if (!understood) {
        const std::unique_ptr<GError, void (*)(GError*)> owned(error, g_error_free);
        throw UsageError(error->message);
    }
    std::vector<std::string> result;
    for (int i = 1; i < count; ++i)
        if (std::string(rest[i]) != "--" || i > 1)
            result.emplace_back(rest[i]);
    if (result.size() < least || result.size() > most)
        throw UsageError(format(_("Wrong number of arguments: %zu; %s --help says what is expected"), result.size(),
                                program.c_str()));
    return result;
}

void Common::add_to(Options& options, bool reads)
{
    options.texts("connect", 'c',
                  _("libvirt connection; may be given again (default: qemu:///system and lxc:///system)"), _("URI"),
                  &uris);
    if (reads)
        options.flag("json", 'j', _("Print JSON"), &json);
}

std::uint64_t parse_option_number(const std::string& text, const std::string& option)
{
    if (const auto number = parse_number(text))
        return *number;
    throw UsageError(format(_("%s needs a whole number, not '%s'"), option.c_str(), text.c_str()));
}

} // namespace virfloor::tool
