// SPDX-License-Identifier: LGPL-2.1-or-later
//
// The terminal, by ncurses. From construction to destruction it is curses'; then it is as it was before.
// One at a time; not thread-safe.
#pragma once

#include "frame.h"

#include <array>
#include <cstddef>
#include <optional>
#include <vector>

namespace virfloor::tool {

// A character, or one of curses' KEY_… where `function` is set.
struct Key {
    bool function = false;
    unsigned code = 0;
};

// Throws Error(system): standard input or output is no terminal, or it cannot place its cursor.
void check_terminal();

class Screen {
public:
    // Throws as check_terminal().
    explicit Screen(bool colours);
    ~Screen();
    Screen(const Screen&) = delete;
    Screen& operator=(const Screen&) = delete;

    Canvas canvas() const;
    void draw(const std::vector<Line>& lines);
    void draw_anew(); // the next time, all of it
    // The size of the terminal may be another.
    void resize();
    // What was typed; nothing if there is no more. Does not wait.
    std::optional<Key> key();

    // The terminal as it was before, as long as this lives.
    class Left {
    public:
        explicit Left(Screen& screen);
        ~Left();
        Left(const Left&) = delete;
        Left& operator=(const Left&) = delete;

    private:
        Screen& screen_;
    };

private:
    struct Terminal;

    Terminal* terminal_; // curses' SCREEN
    bool unicode_;
    std::array<unsigned, 10> attributes_{}; // by Style
};

} // namespace virfloor::tool
