// SPDX-License-Identifier: LGPL-2.1-or-later
#include "table.h"

#include <glib.h>

#include <algorithm>

namespace virfloor::tool {

std::size_t display_width(const std::string& text)
{
    std::size_t width = 0;
    for (const char* at = text.c_str(); *at; at = g_utf8_next_char(at)) {
        const gunichar character = g_utf8_get_char_validated(at, -1);
        if (character > G_MAXINT32) // not UTF-8
            return text.size();
        if (!g_unichar_iszerowidth(character))
            width += g_unichar_iswide(character) ? 2 : 1;
    }
    return width;
}

std::string padded(const std::string& text, std::size_t width, bool to_the_right)
{
    const std::size_t own = display_width(text);
    const std::string blanks(width > own ? width - own : 0, ' ');
    return to_the_right ? blanks + text : text + blanks;
}

void Table::print(std::ostream& out) const
{
    std::vector<std::size_t> widths;
    for (std::size_t i = 0; i < columns_.size(); ++i) {
        widths.push_back(display_width(columns_[i].title));
        for (const auto& row : rows_)
            widths[i] = std::max(widths[i], display_width(row[i]));
    }
    const auto print_row = [&](const auto& cell) {
        std::string line;
        for (std::size_t i = 0; i < columns_.size(); ++i)
            line += (i ? "  " : "") + padded(cell(i), widths[i], columns_[i].to_the_right);
        line.erase(line.find_last_not_of(' ') + 1);
        out << line << '\n';
    };
    print_row([&](std::size_t i) -> const std::string& { return columns_[i].title; });
    for (const auto& row : rows_)
        print_row([&](std::size_t i) -> const std::string& { return row[i]; });
}

} // namespace virfloor::tool
