// SPDX-License-Identifier: LGPL-2.1-or-later
#include "frame.h"

#include "output.h"
#include "table.h"
#include "virfloor/text.h"

#include <glib.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>

namespace virfloor::tool {

namespace {

enum class Cell { name, network, device, mac, id, floor, ceil, now, use, drops, last };

struct Column {
    Cell cell;
    std::size_t width;
};

struct Rows {
    std::vector<const TopRow*> networks, interfaces;
    bool several_networks;
};

bool is_number(Cell cell)
{
    return cell == Cell::floor || cell == Cell::ceil || cell == Cell::now || cell == Cell::drops || cell == Cell::id;
}

std::string title(Cell cell, bool of_networks)
{
    switch (cell) {
    case Cell::name: return of_networks ? _("NETWORK") : _("DOMAIN");
    case Cell::network: return of_networks ? "" : _("NETWORK");
    case Cell::device: return of_networks ? "" : _("DEVICE");
    case Cell::mac: return of_networks ? "" : "MAC";
    case Cell::id: return of_networks ? "" : _("CLASS");
    case Cell::floor: return of_networks ? _("FLOORS") : _("FLOOR");
    case Cell::ceil: return of_networks ? _("LIMIT") : _("CEIL");
    case Cell::now: return _("NOW");
    case Cell::use: return _("USE");
    case Cell::drops: return _("DROPS/S");
    case Cell::last: return _("LAST");
    }
    return {};
}

std::string rate_text(const std::optional<BytesPerSecond>& rate) { return rate ? kilobytes_text(*rate) : "-"; }

std::string drops_text(double drops) { return format("%.*f", drops > 0 && drops < 9.95 ? 1 : 0, drops); }

std::string or_dash(const std::string& text) { return text.empty() ? "-" : text; }

// Of a cell that is neither bar nor sparkline.
std::string text(const TopRow& row, Cell cell)
{
    const bool whole = row.kind == TopRow::Kind::network;
    switch (cell) {
    case Cell::name: return whole ? row.network : or_dash(row.domain);
    case Cell::network: return whole ? "" : row.network;
    case Cell::device: return whole ? "" : or_dash(row.device);
    case Cell::mac: return whole ? "" : or_dash(row.mac);
    case Cell::id: return whole ? "" : row.id ? class_text(*row.id) : "-";
    case Cell::floor: return rate_text(row.floor);
    case Cell::ceil: return rate_text(row.ceil);
    case Cell::now: return row.now ? (row.starved ? "!" : "") + kilobytes_text(row.now->rate) : "-";
    case Cell::drops: return row.now ? drops_text(row.now->drops) : "-";
    case Cell::use:
    case Cell::last: break;
    }
    return {};
}

// Measuring is not exact.
bool reached(const TopRow& row)
{
    return row.now && row.floor &&
           static_cast<double>(row.now->rate.count) >= 0.98 * static_cast<double>(row.floor->count);
}

std::size_t longest(const Rows& rows, Cell cell, std::size_t least, std::size_t most)
{
    std::size_t width = std::max(least, display_width(title(cell, false)));
    for (const auto* of : {&rows.networks, &rows.interfaces}) {
        if (of == &rows.networks)
            width = std::max(width, display_width(title(cell, true)));
        for (const TopRow* row : *of)
            width = std::max(width, std::min(most, display_width(text(*row, cell))));
    }
    return width;
}

// The columns that find a place, in the order in which they stand.
std::vector<Column> choose_columns(const Rows& rows, std::size_t width)
{
    const auto number = [&](Cell cell) { return longest(rows, cell, 7, 20); };
    // The most important first: a column as wide as this, or, where it is there already, as wide as it can become.
    const Column wishes[] = {{Cell::name, 10},
                             {Cell::now, number(Cell::now)},
                             {Cell::floor, number(Cell::floor)},
                             {Cell::use, 8},
                             {Cell::drops, number(Cell::drops)},
                             {Cell::ceil, number(Cell::ceil)},
                             {Cell::last, 8},
                             {Cell::network, longest(rows, Cell::network, 7, 15)},
                             {Cell::name, longest(rows, Cell::name, 10, 40)},
                             {Cell::use, 14},
                             {Cell::device, longest(rows, Cell::device, 6, 15)},
                             {Cell::id, 6},
                             {Cell::mac, 17},
                             {Cell::use, 22},
                             {Cell::last, 30},
                             {Cell::use, 42},
                             {Cell::last, 60}};
    std::vector<Column> chosen;
    std::size_t left = width + 1; // each has a gap behind it, the last one outside
    for (const Column& wish : wishes) {
        if (wish.cell == Cell::network && !rows.several_networks)
            continue;
        const auto at = std::ranges::find(chosen, wish.cell, &Column::cell);
        if (at != chosen.end()) {
            const std::size_t more = std::min(left, wish.width - std::min(wish.width, at->width));
            at->width += more;
            left -= more;
        } else if (wish.width < left) {
            chosen.push_back(wish);
            left -= wish.width + 1;
        }
    }
    std::ranges::sort(chosen, {}, &Column::cell);
    return chosen;
}

void add(Line& line, std::size_t column, std::string text, Style style)
{
    line.push_back({column, std::move(text), style});
}

// "[###|+++   ]": up to what it can get at most, with a mark where its floor is, which is whole once that is reached.
void add_bar(Line& line, std::size_t column, const TopRow& row, std::size_t width, bool unicode)
{
    if (!row.now || !row.most || !*row.most)
        return;
    const std::size_t cells = width - 2;
    const auto place = [&](BytesPerSecond rate) {
        const double part = static_cast<double>(rate.count) / static_cast<double>(row.most->count);
        return std::min(cells, static_cast<std::size_t>(std::llround(part * static_cast<double>(cells))));
    };
    const std::size_t filled = place(row.now->rate);
    const bool promised = row.floor && *row.floor;
    const std::size_t mark = promised ? std::min(cells - 1, place(*row.floor)) : 0;
    const auto block = [&](std::size_t i) -> Piece {
        if (promised && i == mark)
            return reached(row) ? Piece{0, unicode ? "┃" : "|", Style::floor}
                                : Piece{0, unicode ? "┊" : ":", Style::mark};
        if (i >= filled)
            return {0, " ", Style::plain};
        if (promised && i < mark)
            return {0, unicode ? "█" : "#", row.starved ? Style::starved : Style::floor};
        return {0, unicode ? "▒" : "+", Style::surplus};
    };
    add(line, column, "[", Style::quiet);
    for (std::size_t i = 0; i < cells; ++i) {
        const Piece next = block(i);
        if (line.back().style == next.style)
            line.back().text += next.text;
        else
            add(line, column + 1 + i, next.text, next.style);
    }
    add(line, column + 1 + cells, "]", Style::quiet);
}

Line row_line(const TopRow& row, const std::vector<Column>& columns, bool unicode)
{
    Line line;
    std::size_t at = 0;
    for (const auto& [cell, width] : columns) {
        const Style style = row.kind == TopRow::Kind::network     ? Style::network
                            : row.starved && cell == Cell::now    ? Style::starved
                            : row.kind == TopRow::Kind::catchment ? Style::quiet
                                                                  : Style::plain;
        if (cell == Cell::use)
            add_bar(line, at, row, width, unicode);
        else if (cell == Cell::last)
            add(line, at,
                row.history ? sparkline(*row.history, row.floor.value_or(BytesPerSecond{}), width, unicode) : "",
                Style::surplus);
        else
            add(line, at, padded(fitted(text(row, cell), width, unicode), width, is_number(cell)), style);
        at += width + 1;
    }
    return line;
}

Line title_line(const std::vector<Column>& columns, bool of_networks, const Canvas& canvas)
{
    std::string text;
    if (columns.empty())
        return {};
    for (const auto& [cell, width] : columns)
        text += padded(fitted(title(cell, of_networks), width, canvas.unicode), width, is_number(cell)) + ' ';
    text.pop_back();
    return {{0, padded(fitted(text, canvas.width, canvas.unicode), canvas.width, false), Style::title}};
}

Line one_piece(const std::string& text, Style style, const Canvas& canvas)
{
    return {{0, fitted(text, canvas.width, canvas.unicode), style}};
}

Rows chosen_rows(const TopModel& model, const TopState& state)
{
    return {model.network_rows(state.choice), model.rows(state.choice),
            model.networks().size() > 1 && !state.choice.network};
}

// Lines for networks: no more than a quarter of the screen, which is at least one.
std::size_t network_lines(const Rows& rows, const Canvas& canvas)
{
    return canvas.height ? std::min(rows.networks.size(), std::max<std::size_t>(1, canvas.height / 4))
                         : rows.networks.size();
}

// Title, two lines with the columns' titles, and the status.
constexpr std::size_t other_lines = 4;

std::size_t row_lines(const Rows& rows, const Canvas& canvas)
{
    const std::size_t taken = other_lines + network_lines(rows, canvas);
    return canvas.height > taken ? canvas.height - taken : 0;
}

std::string head(const Rows& rows, const TopState& state)
{
    const auto interfaces =
        std::ranges::count(rows.interfaces, TopRow::Kind::interface, [](const TopRow* row) { return row->kind; });
    const double seconds = std::chrono::duration<double>(state.interval).count();
    const std::string order =
        format(state.choice.reversed ? _("%s, reversed") : "%s", sort_key_text(state.choice.key).c_str());
    return format(_("virt-floor top %s  every %g s  in kB/s  by %s  interfaces: %zu"), state.clock.c_str(), seconds,
                  order.c_str(), static_cast<std::size_t>(interfaces));
}

Line status_line(const Rows& rows, const TopState& state, const Canvas& canvas)
{
    if (state.typing)
        return one_piece(format(_("Filter: %s_"), state.choice.filter.c_str()), Style::prompt, canvas);
    if (!state.trouble.empty())
        return one_piece(state.trouble, Style::trouble, canvas);
    std::string text = _("h: help  q: quit  n: network  /: filter");
    if (rows.interfaces.size() > row_lines(rows, canvas))
        text +=
            format(_("  rows %zu to %zu of %zu"), state.offset + 1,
                   std::min(rows.interfaces.size(), state.offset + row_lines(rows, canvas)), rows.interfaces.size());
    if (state.choice.network)
        text += format(_("  network: %s"), state.choice.network->c_str());
    if (!state.choice.filter.empty())
        text += format(_("  filter: %s"), state.choice.filter.c_str());
    return one_piece(text, Style::quiet, canvas);
}

std::vector<std::string> help_lines()
{
    return {
        _("R F D U N  sort by rate, floor, drops, use of floor, name"),
        _("r          turn the order round"),
        _("n          the next network alone; after the last, all"),
        _("/ or f     only rows with this text in the name of domain,"),
        _("           network or device, or in the MAC address;"),
        _("           Enter keeps it, Esc takes it away"),
        _("+ -        a longer or shorter interval"),
        _("arrows, Page Up, Page Down, Home, End: scroll"),
        _("Ctrl+L     draw all anew"),
        _("q          quit"),
        "",
        _("Rates are in kB/s, a kB being 1000 bytes."),
        _("USE   full: all it can get; the mark is the floor,"),
        _("      whole where it is reached"),
        _("!NOW  packets wait, and it gets less than its floor"),
        _("LAST  one bar an interval; full: the most, or the floor"),
        _("FLOORS, LIMIT: sum of a network's floors, and its bound"),
        _("(without floor): what all interfaces without one share"),
    };
}

void scroll_within(std::size_t& offset, std::size_t all, std::size_t shown)
{
    offset = std::min(offset, all > shown ? all - shown : 0);
}

void draw_help(std::vector<Line>& lines, TopState& state, const Canvas& canvas)
{
    const auto help = help_lines();
    const std::size_t shown = canvas.height - std::min<std::size_t>(canvas.height, 2);
    scroll_within(state.offset, help.size(), shown);
    for (std::size_t i = state.offset; i < std::min(help.size(), state.offset + shown); ++i)
        lines.push_back(one_piece(help[i], Style::plain, canvas));
    lines.resize(canvas.height - 1);
    lines.push_back(one_piece(_("Any other key goes back"), Style::quiet, canvas));
}

void draw_networks(std::vector<Line>& lines, const Rows& rows, const std::vector<Column>& columns, const Canvas& canvas)
{
    lines.push_back(title_line(columns, true, canvas));
    const std::size_t all = rows.networks.size(), fit = network_lines(rows, canvas);
    const std::size_t shown = fit < all ? fit - 1 : all;
    for (std::size_t i = 0; i < shown; ++i)
        lines.push_back(row_line(*rows.networks[i], columns, canvas.unicode));
    if (shown < all)
        lines.push_back(one_piece(format(plural("and %zu more network; n shows one alone",
                                                "and %zu more networks; n shows one alone", all - shown),
                                         all - shown),
                                  Style::quiet, canvas));
}

void draw_interfaces(std::vector<Line>& lines, const Rows& rows, const std::vector<Column>& columns, TopState& state,
                     const Canvas& canvas)
{
    const std::size_t shown = canvas.height ? row_lines(rows, canvas) : rows.interfaces.size();
    scroll_within(state.offset, rows.interfaces.size(), shown);
    lines.push_back(title_line(columns, false, canvas));
    for (std::size_t i = state.offset; i < std::min(rows.interfaces.size(), state.offset + shown); ++i)
        lines.push_back(row_line(*rows.interfaces[i], columns, canvas.unicode));
}

} // namespace

std::vector<Line> draw_frame(const TopModel& model, TopState& state, const Canvas& canvas)
{
    const Rows rows = chosen_rows(model, state);
    std::vector<Line> lines{one_piece(head(rows, state), Style::plain, canvas)};
    if (state.help && canvas.height > 1) {
        draw_help(lines, state, canvas);
        return lines;
    }
    if (!canvas.height && !state.trouble.empty())
        lines.push_back({{0, fitted(state.trouble, std::string::npos, canvas.unicode), Style::trouble}});
    const auto columns = choose_columns(rows, canvas.width);
    draw_networks(lines, rows, columns, canvas);
    draw_interfaces(lines, rows, columns, state, canvas);
    if (canvas.height) {
        lines.resize(canvas.height - 1); // also of a screen that is too small for all that
        lines.push_back(status_line(rows, state, canvas));
    }
    return lines;
}

std::size_t page(const TopModel& model, const TopState& state, const Canvas& canvas)
{
    return std::max<std::size_t>(1, row_lines(chosen_rows(model, state), canvas));
}

std::string plain_text(const Line& line)
{
    std::string text;
    for (const Piece& piece : line)
        text = padded(text, piece.column, false) + piece.text;
    text.erase(text.find_last_not_of(' ') + 1);
    return text;
}

std::string sparkline(const History& history, BytesPerSecond floor, std::size_t width, bool unicode)
{
    static constexpr std::array blocks{"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    static constexpr std::array characters{"_", ".", ":", "-", "=", "+", "*", "#"};
    const std::size_t shown = std::min(width, history.size());
    const auto from = history.end() - static_cast<std::ptrdiff_t>(shown);
    BytesPerSecond tallest = floor;
    for (auto at = from; at != history.end(); ++at)
        tallest = std::max(tallest, *at);
    std::string text(width - shown, ' ');
    for (auto at = from; at != history.end(); ++at) {
        const double part = tallest ? static_cast<double>(at->count) / static_cast<double>(tallest.count) : 0;
        const auto level = std::min<std::size_t>(7, static_cast<std::size_t>(part * 8));
        text += unicode ? blocks[level] : characters[level];
    }
    return text;
}

std::string fitted(const std::string& text, std::size_t width, bool unicode)
{
    const std::unique_ptr<gchar, void (*)(void*)> valid(
        g_utf8_make_valid(text.c_str(), static_cast<gssize>(text.size())), g_free);
    const std::size_t whole = display_width(valid.get());
    std::string result;
    std::size_t used = 0;
    for (const char* at = valid.get(); *at; at = g_utf8_next_char(at)) {
        const gunichar character = g_utf8_get_char(at);
        std::string one(at, static_cast<const char*>(g_utf8_next_char(at)));
        if (g_unichar_iscntrl(character) || (!unicode && character > 0x7f))
            one = "?";
        const std::size_t takes = display_width(one);
        if (whole > width && used + takes + 1 > width) // room for the sign that something is missing
            return width ? result + (unicode ? "…" : "+") : "";
        result += one;
        used += takes;
    }
    return result;
}

std::string sort_key_text(SortKey key)
{
    switch (key) {
    case SortKey::rate: return _("rate");
    case SortKey::floor: return _("floor");
    case SortKey::drops: return _("drops");
    case SortKey::name: return _("name");
    case SortKey::use: return _("use of the floor");
    }
    return {};
}

} // namespace virfloor::tool
