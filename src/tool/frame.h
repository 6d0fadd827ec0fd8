// SPDX-License-Identifier: LGPL-2.1-or-later
//
// One frame of `virt-floor top`, as lines of text with styles: what stands where, whatever it is drawn on. No I/O.
//
//     virt-floor top 18:03:22  every 1 s  in kB/s  by rate  interfaces: 2
//     NETWORK        FLOORS   LIMIT     NOW  USE             DROPS/S  LAST
//     lab              1500    8000    3990  [#####|####  ]      213  ___=====      a line for each network
//     DOMAIN          FLOOR    CEIL     NOW  USE             DROPS/S  LAST
//     web              1000    8000    2660  [#|+++       ]      213  ___=====      a line for each interface
//     …
//     h: help  q: quit  …                                                           status
#pragma once

#include "top_model.h"

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

namespace virfloor::tool {

enum class Style { plain, title, network, surplus, floor, starved, mark, quiet, prompt, trouble };

struct Piece {
    std::size_t column = 0;
    std::string text;
    Style style = Style::plain;
};
using Line = std::vector<Piece>;

struct Canvas {
    std::size_t width = 0, height = 0; // height 0: as many lines as there are, and no status
    bool unicode = true;               // blocks beyond ASCII can be shown
};

struct TopState {
    Choice choice{};
    std::chrono::milliseconds interval{};
    std::string clock{};
    std::string trouble{};
    bool typing = false; // the filter is being typed
    bool help = false;
    std::size_t offset = 0; // of the first row shown, or the first line of the help; drawing keeps it in its bounds
};

std::vector<Line> draw_frame(const TopModel& model, TopState& state, const Canvas& canvas);

// Rows that fit below each other on that canvas: what a page is.
std::size_t page(const TopModel& model, const TopState& state, const Canvas& canvas);

// Blocks of it as long as the line is; the line's text without styles, and without blanks at its end.
std::string plain_text(const Line& line);

// As tall as the rate's part of the tallest, or of the floor where that is more; the newest are to the right.
std::string sparkline(const History& history, BytesPerSecond floor, std::size_t width, bool unicode);

// The text for a terminal: cut to the width, without what would move the cursor.
std::string fitted(const std::string& text, std::size_t width, bool unicode);

std::string sort_key_text(SortKey key);

} // namespace virfloor::tool
