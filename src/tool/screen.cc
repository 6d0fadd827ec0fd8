// SPDX-License-Identifier: LGPL-2.1-or-later
#include "screen.h"

#include "virfloor/error.h"
#include "virfloor/text.h"

#include <langinfo.h>
#include <sys/ioctl.h>
#include <unistd.h>

// Functions rather than macros of common names.
#define NCURSES_NOMACROS 1
#define NCURSES_WIDECHAR 1
#include <ncurses.h>
#include <term.h>
// They stand in the way of ordinary names.
#undef lines
#undef columns

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace virfloor::tool {

namespace {

enum Pair : short { green = 1, cyan, red, yellow };

} // namespace

void check_terminal()
{
    if (!isatty(STDOUT_FILENO))
        throw Error(Refusal::system, _("Standard output is not a terminal; --batch prints plain text"));
    if (!isatty(STDIN_FILENO))
        throw Error(Refusal::system, _("Standard input is not a terminal; --batch needs none"));
    const char* name = std::getenv("TERM");
    int found = 0;
    if (!name || !*name || setupterm(name, STDOUT_FILENO, &found) != OK)
        throw Error(Refusal::system,
                    format(_("Nothing is known of a terminal of the kind '%s' (TERM); --batch prints plain text"),
                           name ? name : ""));
    const bool can_place = cursor_address != nullptr;
    del_curterm(cur_term);
    if (!can_place)
        throw Error(
            Refusal::system,
            format(_("A terminal of the kind '%s' (TERM) cannot place its cursor; --batch prints plain text"), name));
}

Screen::Screen(bool colours) : unicode_(std::strcmp(nl_langinfo(CODESET), "UTF-8") == 0)
{
    check_terminal();
    SCREEN* screen = newterm(nullptr, stdout, stdin);
    if (!screen)
        throw Error(Refusal::system, _("The terminal cannot be used; --batch prints plain text"));
    terminal_ = reinterpret_cast<Terminal*>(screen);
    cbreak();
    noecho();
    nonl();
    nodelay(stdscr, TRUE);
    keypad(stdscr, TRUE);
    set_escdelay(50); // a lone Esc counts after that many milliseconds
    curs_set(0);
    const auto set = [this](Style style, unsigned attributes) {
        attributes_[static_cast<std::size_t>(style)] = attributes;
    };
    set(Style::title, A_REVERSE);
    set(Style::network, A_BOLD);
    set(Style::mark, A_BOLD);
    set(Style::starved, A_BOLD);
    set(Style::prompt, A_BOLD);
    set(Style::trouble, A_REVERSE);
    if (!colours || !has_colors() || start_color() == ERR)
        return;
    use_default_colors();
    init_pair(green, COLOR_GREEN, -1);
    init_pair(cyan, COLOR_CYAN, -1);
    init_pair(red, COLOR_RED, -1);
    init_pair(yellow, COLOR_YELLOW, -1);
    set(Style::floor, COLOR_PAIR(green));
    set(Style::surplus, COLOR_PAIR(cyan));
    set(Style::starved, COLOR_PAIR(red) | A_BOLD);
    set(Style::mark, COLOR_PAIR(yellow) | A_BOLD);
    set(Style::trouble, COLOR_PAIR(red) | A_REVERSE);
}

Screen::~Screen()
{
    endwin();
    delscreen(reinterpret_cast<SCREEN*>(terminal_));
}

Canvas Screen::canvas() const
{
    return {static_cast<std::size_t>(getmaxx(stdscr)), static_cast<std::size_t>(getmaxy(stdscr)), unicode_};
}

void Screen::draw(const std::vector<Line>& lines)
{
    werase(stdscr);
    for (std::size_t y = 0; y < lines.size(); ++y)
        for (const Piece& piece : lines[y]) {
            wattrset(stdscr, static_cast<int>(attributes_[static_cast<std::size_t>(piece.style)]));
            mvwaddstr(stdscr, static_cast<int>(y), static_cast<int>(piece.column), piece.text.c_str());
        }
    wrefresh(stdscr);
}

void Screen::draw_anew() { clearok(stdscr, TRUE); }

void Screen::resize()
{
    winsize size{};
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row && size.ws_col)
        resize_term(size.ws_row, size.ws_col);
    draw_anew();
}

std::optional<Key> Screen::key()
{
    wint_t code = 0;
    switch (wget_wch(stdscr, &code)) {
    case OK: return Key{false, code};
    case KEY_CODE_YES: return Key{true, code};
    default: return {};
    }
}

Screen::Left::Left(Screen& screen) : screen_(screen) { endwin(); }

Screen::Left::~Left()
{
    wrefresh(stdscr); // curses takes the terminal again
    screen_.resize();
}

} // namespace virfloor::tool
