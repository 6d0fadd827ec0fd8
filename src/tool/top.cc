// SPDX-License-Identifier: LGPL-2.1-or-later
#include "commands.h"
#include "follower.h"
#include "frame.h"
#include "options.h"
#include "screen.h"
#include "virfloor/device_tree.h"
#include "virfloor/text.h"

#include <glib.h>
#include <langinfo.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <thread>
#include <utility>

#define NCURSES_NOMACROS 1
#define NCURSES_WIDECHAR 1
#include <ncurses.h>

namespace virfloor::tool {

namespace {

using Clock = std::chrono::steady_clock;

// The first figures come soon, whatever the interval.
constexpr auto first_interval = std::chrono::milliseconds(500);
// A daemon that has not answered for so long is said to be silent.
constexpr auto patience = std::chrono::seconds(3);
constexpr std::size_t default_width = 120; // of plain text

struct Request {
    std::vector<std::string> uris;
    std::optional<std::string> network;
    std::optional<std::uint64_t> frames;
    TopState state;
    bool batch = false;
};

std::string time_of_day()
{
    const std::unique_ptr<GDateTime, void (*)(GDateTime*)> now(g_date_time_new_now_local(), g_date_time_unref);
    const std::unique_ptr<gchar, void (*)(void*)> text(g_date_time_format(now.get(), "%H:%M:%S"), g_free);
    return text.get();
}

// What is shown, and where it comes from.
class Watch {
public:
    explicit Watch(News news) : netlink_(tc::open_netlink()) { take(std::move(news)); }

    const TopModel& model() const { return model_; }
    // Why libvirt could not be asked, with the time since when; empty where it answered.
    const std::string& trouble() const { return trouble_; }

    // Whether that makes a difference.
    bool take(News news)
    {
        const std::string before = trouble_;
        if (news.networks)
            model_.set_inventory(std::move(*news.networks));
        if (news.trouble.empty())
            trouble_.clear();
        else if (trouble_.empty())
            trouble_ = format(_("No word from libvirt since %s; floors and names are those of before. %s"),
                              time_of_day().c_str(), news.trouble.c_str());
        return news.networks || trouble_ != before;
    }

    // What has changed in the kernel, so that the inventory is out of date.
    std::vector<ClassChange> sample() { return model_.add(take_samples(*netlink_, model_.networks())); }

private:
    std::shared_ptr<tc::Netlink> netlink_;
    TopModel model_;
    std::string trouble_;
};

// The signals that concern a terminal, as something to poll, as long as this lives.
class Signals {
public:
    static constexpr std::array all{SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGTSTP};

    Signals()
    {
        sigset_t set = all_of_them();
        pthread_sigmask(SIG_BLOCK, &set, &before_);
        descriptor_ = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        if (descriptor_ < 0)
            throw Error(Refusal::system, _("Cannot watch for signals"), errno);
    }
    ~Signals()
    {
        close(descriptor_);
        pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    }
    Signals(const Signals&) = delete;
    Signals& operator=(const Signals&) = delete;

    int descriptor() const { return descriptor_; }

    // The next that has come; 0 for none.
    int next() const
    {
        signalfd_siginfo info{};
        return read(descriptor_, &info, sizeof info) == sizeof info ? static_cast<int>(info.ssi_signo) : 0;
    }

    // Stops the process as the terminal's driver would have; returns when it is continued.
    static void stop()
    {
        std::signal(SIGTSTP, SIG_DFL);
        std::raise(SIGTSTP);
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGTSTP);
        pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
        pthread_sigmask(SIG_BLOCK, &set, nullptr);
    }

private:
    static sigset_t all_of_them()
    {
        sigset_t set;
        sigemptyset(&set);
        for (const int number : all)
            sigaddset(&set, number);
        return set;
    }

    sigset_t before_{};
    int descriptor_ = -1;
};

// The interval above or below the one given.
std::chrono::milliseconds stepped(std::chrono::milliseconds interval, bool up)
{
    using namespace std::chrono_literals;
    static constexpr std::array<std::chrono::milliseconds, 9> steps{100ms, 200ms, 500ms, 1s, 2s, 5s, 10s, 30s, 60s};
    if (up) {
        const auto above = std::ranges::upper_bound(steps, interval);
        return above == steps.end() ? interval : *above;
    }
    const auto below = std::ranges::lower_bound(steps, interval);
    return below == steps.begin() ? interval : *std::prev(below);
}

// What keys do to what is shown.
class Keys {
public:
    Keys(TopState& state, const TopModel& model) : state_(state), model_(model) {}

    // False for the one that ends it all.
    bool press(const Key& key, const Canvas& canvas)
    {
        if (!key.function && key.code == ('L' & 0x1f))
            return true; // all is drawn anew by the caller
        if (state_.typing)
            type(key);
        else if (!scroll(key, canvas) && state_.help)
            close_help();
        else if (!key.function)
            return command(key.code);
        return true;
    }

private:
    void type(const Key& key)
    {
        std::string& filter = state_.choice.filter;
        const bool enter = key.code == '\n' || key.code == '\r' || (key.function && key.code == KEY_ENTER);
        const bool erase = key.code == 0x7f || key.code == '\b' || (key.function && key.code == KEY_BACKSPACE);
        if (enter)
            state_.typing = false;
        else if (erase && !filter.empty())
            filter.resize(static_cast<std::size_t>(
                g_utf8_find_prev_char(filter.c_str(), filter.c_str() + filter.size()) - filter.c_str()));
        else if (!key.function && key.code == 0x1b) {
            filter.clear();
            state_.typing = false;
        } else if (!key.function && key.code == ('U' & 0x1f))
            filter.clear();
        else if (!key.function && g_unichar_validate(key.code) && !g_unichar_iscntrl(key.code)) {
            std::array<char, 6> bytes;
            filter.append(bytes.data(), static_cast<std::size_t>(g_unichar_to_utf8(key.code, bytes.data())));
        }
        state_.offset = 0;
    }

    bool scroll(const Key& key, const Canvas& canvas)
    {
        if (!key.function)
            return false;
        const std::size_t rows = page(model_, state_, canvas);
        switch (key.code) {
        case KEY_DOWN: ++state_.offset; return true;
        case KEY_UP: state_.offset -= std::min<std::size_t>(state_.offset, 1); return true;
        case KEY_NPAGE: state_.offset += rows; return true;
        case KEY_PPAGE: state_.offset -= std::min(state_.offset, rows); return true;
        case KEY_HOME: state_.offset = 0; return true;
        case KEY_END:
            state_.offset = std::string::npos / 2; // as far as it goes
            return true;
        default: return false;
        }
    }

    bool command(unsigned code)
    {
        switch (code) {
        case 'q': return false;
        case 'R': return sort(SortKey::rate);
        case 'F': return sort(SortKey::floor);
        case 'D': return sort(SortKey::drops);
        case 'U': return sort(SortKey::use);
        case 'N': return sort(SortKey::name);
        case 'r': state_.choice.reversed = !state_.choice.reversed; break;
        case 'n': next_network(); break;
        case '/':
        case 'f': state_.typing = true; break;
        case '+':
        case '-': state_.interval = stepped(state_.interval, code == '+'); break;
        case 'h':
        case '?':
            rows_offset_ = std::exchange(state_.offset, 0);
            state_.help = true;
            break;
        default: break;
        }
        return true;
    }

    bool sort(SortKey key)
    {
        state_.choice.key = key;
        state_.choice.reversed = false;
        state_.offset = 0;
        return true;
    }

    void close_help()
    {
        state_.help = false;
        state_.offset = rows_offset_;
    }

    // All, then one after the other, then all.
    void next_network()
    {
        auto& chosen = state_.choice.network;
        const auto& networks = model_.networks();
        const auto next =
            chosen ? std::ranges::upper_bound(networks, *chosen, {}, &NetworkState::name) : networks.begin();
        if (next == networks.end())
            chosen.reset();
        else
            chosen = next->name;
        state_.offset = 0;
    }

    TopState& state_;
    const TopModel& model_;
    std::size_t rows_offset_ = 0; // while the help is shown
};

// The live display.
class Live {
public:
    Live(Request& request, Follower follower, News news)
        : frames_(request.frames), state_(request.state), watch_(std::move(news)), keys_(state_, watch_.model()),
          follower_(std::move(follower)), screen_(std::getenv("NO_COLOR") == nullptr)
    {
    }

    // The signal that has ended it; 0 for none.
    int run()
    {
        next_ = Clock::now() + std::min<std::chrono::milliseconds>(first_interval, state_.interval);
        watch_.sample();
        while (!ended_) {
            if (std::exchange(outdated_, false))
                draw();
            wait();
            if (auto news = follower_.take())
                outdated_ |= watch_.take(std::move(*news));
            handle_signals();
            handle_keys();
            if (!ended_ && Clock::now() >= next_)
                measure();
        }
        return signal_;
    }

private:
    void draw()
    {
        state_.trouble = watch_.trouble();
        if (const auto waiting = follower_.waiting(); waiting > patience)
            state_.trouble =
                format(_("libvirt has not answered for %lld s; floors and names are those of before"),
                       static_cast<long long>(std::chrono::duration_cast<std::chrono::seconds>(*waiting).count()));
        screen_.draw(draw_frame(watch_.model(), state_, screen_.canvas()));
    }

    // For something to do, or the next sample.
    void wait()
    {
        std::array<pollfd, 3> on{
            {{STDIN_FILENO, POLLIN, 0}, {signals_.descriptor(), POLLIN, 0}, {follower_.descriptor(), POLLIN, 0}}};
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(next_ - Clock::now());
        poll(on.data(), on.size(), static_cast<int>(std::max<std::int64_t>(0, left.count())));
        // Its other end is gone, and there is nobody to look.
        ended_ |= (on[0].revents & (POLLHUP | POLLERR)) && !(on[0].revents & POLLIN);
    }

    void handle_signals()
    {
        while (const int number = signals_.next()) {
            outdated_ = true;
            if (number == SIGWINCH)
                screen_.resize();
            else if (number == SIGTSTP) {
                const Screen::Left left(screen_);
                Signals::stop();
            } else {
                signal_ = number;
                ended_ = true;
            }
        }
    }

    void handle_keys()
    {
        const auto interval = state_.interval;
        while (const auto key = ended_ ? std::nullopt : screen_.key()) {
            if (!key->function && key->code == ('L' & 0x1f))
                screen_.draw_anew();
            ended_ = !keys_.press(*key, screen_.canvas());
            outdated_ = true;
        }
        if (state_.interval != interval)
            next_ = Clock::now() + state_.interval;
    }

    void measure()
    {
        follower_.ask(watch_.sample());
        outdated_ = true;
        state_.clock = time_of_day();
        next_ += state_.interval;
        if (next_ < Clock::now()) // it was stopped, or the host is busy
            next_ = Clock::now() + state_.interval;
        ended_ = frames_ && --*frames_ == 0;
        if (ended_)
            draw();
    }

    std::optional<std::uint64_t> frames_;
    TopState& state_;
    Watch watch_;
    Keys keys_;
    Signals signals_; // before any thread, which takes their mask over
    BackgroundFollower follower_;
    Screen screen_;
    Clock::time_point next_;
    int signal_ = 0;
    bool outdated_ = true; // what is on the screen
    bool ended_ = false;
};

void raise_by_default(int number)
{
    std::signal(number, SIG_DFL);
    std::raise(number);
}

// COLUMNS, or the terminal's, or one that all columns fit in.
std::size_t plain_width()
{
    const char* columns = std::getenv("COLUMNS");
    std::uint64_t width = columns ? g_ascii_strtoull(columns, nullptr, 10) : 0;
    winsize size{};
    if (!width && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0)
        width = size.ws_col;
    return width ? std::clamp<std::uint64_t>(width, 20, 1000) : default_width;
}

void print_frame(const TopModel& model, TopState& state)
{
    const bool unicode = std::string(nl_langinfo(CODESET)) == "UTF-8";
    for (const Line& line : draw_frame(model, state, {plain_width(), 0, unicode}))
        std::cout << plain_text(line) << '\n';
    std::cout << std::endl;
    if (std::cout)
        return;
    if (errno == EPIPE) // whoever read them has enough: an end like any other program's
        raise_by_default(SIGPIPE);
    throw Error(Refusal::system, _("Cannot write to standard output"));
}

// A frame an interval, as text.
int run_batch(Request& request, Follower follower, News news)
{
    Watch watch(std::move(news));
    watch.sample();
    for (std::uint64_t i = 0; !request.frames || i < *request.frames; ++i) {
        std::this_thread::sleep_for(request.state.interval);
        watch.take(follower.look(watch.sample()));
        request.state.clock = time_of_day();
        request.state.trouble = watch.trouble();
        print_frame(watch.model(), request.state);
    }
    return exit_done;
}

int run_live(Request& request, Follower follower, News news)
{
    const int number = Live(request, std::move(follower), std::move(news)).run();
    if (number)
        raise_by_default(number); // the terminal is as it was; now what the signal is for
    return exit_done;
}

SortKey parse_sort_key(const std::string& text)
{
    static const std::map<std::string, SortKey> keys{{"rate", SortKey::rate},
                                                     {"floor", SortKey::floor},
                                                     {"drops", SortKey::drops},
                                                     {"use", SortKey::use},
                                                     {"name", SortKey::name}};
    const auto found = keys.find(text);
    if (found == keys.end())
        throw UsageError(format(_("--sort needs rate, floor, drops, use or name, not '%s'"), text.c_str()));
    return found->second;
}

} // namespace

int top(int count, char** arguments)
{
    Common common;
    Request request;
    Choice& choice = request.state.choice;
    std::optional<std::string> interval, sort, filter;
    Options options("", _("Shows live what interfaces get, and what was promised to them: rates and packets dropped a "
                          "second, a bar of what they use of the most they can get, with a mark at the floor, and the "
                          "last rates. Above them, a line for each network. Rates are in kB/s (1000 bytes a second). "
                          "The key h explains the others; q quits."));
    options.text("network", 'n', _("Only this network"), _("NAME"), &request.network);
    options.text("domain", 'd', _("Only this domain"), _("NAME"), &choice.domain);
    options.text("interval", 'i', _("Measure that often (default: 1)"), _("SECONDS"), &interval);
    options.text("sort", 's', _("Sort by rate (default), floor, drops, use (of the floor) or name"), _("KEY"), &sort);
    options.flag("reverse", 'r', _("Turn the order round"), &choice.reversed);
    options.text("filter", 'f', _("Only rows with this text in domain, network, device or MAC address"), _("TEXT"),
                 &filter);
    options.flag("batch", 'b',
                 _("Print frames as plain text, as wide as COLUMNS in the environment says, or the terminal, or 120"),
                 &request.batch);
    options.number("count", 'C', _("End after that many frames"), _("NUMBER"), &request.frames);
    common.add_to(options, false);
    options.parse(count, arguments, 0, 0);

    if (request.frames == 0)
        throw UsageError(_("--count needs a number above 0"));
    request.state.interval = parse_interval(interval.value_or("1"));
    choice.key = parse_sort_key(sort.value_or("rate"));
    choice.filter = filter.value_or("");
    if (!request.batch)
        check_terminal();
    request.state.clock = time_of_day();
    std::signal(SIGPIPE, SIG_IGN); // libvirt writes to a daemon that may have gone
    Follower follower(common.uris, request.network);
    News news = follower.first();
    return (request.batch ? run_batch : run_live)(request, std::move(follower), std::move(news));
}

} // namespace virfloor::tool
