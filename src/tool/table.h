// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Text in columns, as wide as a terminal shows it.
#pragma once

#include <cstddef>
#include <ostream>
#include <string>
#include <vector>

namespace virfloor::tool {

// Cells of a terminal that a text takes; characters of East Asia take two.
std::size_t display_width(const std::string& text);
// The text, padded to that width on its right or left.
std::string padded(const std::string& text, std::size_t width, bool to_the_right);

class Table {
public:
    struct Column {
        std::string title;
        bool to_the_right = false; // numbers are
    };

    explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

    // One text a column.
    void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
    bool empty() const { return rows_.empty(); }
    void print(std::ostream& out) const;

private:
    std::vector<Column> columns_;
    std::vector<std::vector<std::string>> rows_;
};

} // namespace virfloor::tool
