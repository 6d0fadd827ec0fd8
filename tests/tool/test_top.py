# SPDX-License-Identifier: LGPL-2.1-or-later
"""virt-floor top, in a terminal as a person sees it."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import subprocess
from typing import Iterator, Optional

import pytest
from lab import Workbench, daemon
from lab.commands import run, wait_until
from lab.traffic import Flood
from terminal import Terminal, terminal
from virt_floor import UNPRIVILEGED, fails, prints

SPARKS = "▁▂▃▄▅▆▇█"
NOW, DROPS = 4, -2  # columns of a terminal that is 80 wide


@pytest.fixture
def screen() -> Iterator[Terminal]:
    with terminal() as shown:
        yield shown


def start(screen: Terminal, *args: str) -> None:
    screen.shell(" ".join(["virt-floor top --interval 0.2", *args]))
    screen.shows("q: quit")


def row(screen: Terminal, name: str) -> list[str]:
    """The words of the line that begins with this name; none if there is no such line."""
    for line in screen.lines():
        if line.startswith(f"{name} "):
            return line.split()
    return []


def figure(screen: Terminal, name: str, column: int) -> float:
    """A word of that line, as a number; 0 where there is none."""
    words = row(screen, name)
    return float(words[column]) if words and words[column] != "-" else 0


def order(screen: Terminal) -> list[str]:
    """The first words of the lines of guests."""
    return [line.split()[0] for line in screen.lines() if line.startswith("test-qemu") or line.startswith("test-lxc")]


def pid_of_top() -> Optional[int]:
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"virt-floor\0top\0"):
                return int(path.parent.name)
        except OSError:
            pass  # it ended meanwhile
    return None


def expect_left(screen: Terminal, settings: str) -> None:
    """The shell has its terminal again as it was."""
    wait_until("it has ended", lambda: pid_of_top() is None)
    screen.type_text("echo again-$((1+1))")
    screen.type("Enter")
    screen.shows("again-2")
    assert not screen.in_alternate_screen
    assert screen.has_cursor
    assert screen.settings() == settings


# What is seen.


def test_guests_and_floors_are_seen_at_80_by_24(lab: Workbench, screen: Terminal) -> None:
    network = lab.network(average=4000, peak=8000)
    floored, plain = network.nic(floor=500), network.nic()
    guest, other = lab.qemu(floored), lab.qemu(plain)

    start(screen)

    screen.shows("[")
    lines = screen.lines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
    assert screen.in_alternate_screen and not screen.has_cursor
    assert row(screen, network.name)[1:3] == ["500", "8000"]
    assert row(screen, guest.name)[1:4] == [guest.device(floored), "500", "8000"]
    assert float(row(screen, guest.name)[4]) < 50  # a guest that starts may hear a word
    assert row(screen, other.name)[2:5] == ["-", "-", "-"]
    assert row(screen, "(without floor)")[3:5] == ["-", "8000"]


def test_rate_drops_and_history_follow_the_traffic(lab: Workbench, screen: Terminal) -> None:
    network = lab.network(average=1000, peak=None)
    nic = network.nic(floor=500)
    guest = lab.lxc(nic)
    start(screen)

    with Flood([nic.ip4] * 16, bytes_per_second=300_000):
        wait_until("it gets all", lambda: 900 <= figure(screen, guest.name, NOW) <= 1100)
        wait_until("packets are dropped", lambda: figure(screen, guest.name, DROPS) > 0)
        found = " ".join(row(screen, guest.name))
        assert re.search(r"\[█+┃▒+ ?\]", found), found
    wait_until("its history is seen", lambda: {"▁", "█"} <= set(row(screen, guest.name)[-1]))
    assert set(row(screen, guest.name)[-1]) <= set(SPARKS)


def test_an_interface_that_gets_less_than_its_floor_stands_out(lab: Workbench, screen: Terminal) -> None:
    network = lab.network(average=4000, peak=None)
    nic = network.nic(floor=3000)
    guest = lab.lxc(nic)
    start(screen)
    # Somebody else's hand: where a class is changed again and again, it is put right ever more rarely.
    slow = f"tc class change dev {network.bridge} parent 1:1 classid 1:{nic.class_id():x} htb rate 1mbit ceil 1mbit"
    with Flood([nic.ip4] * 16, bytes_per_second=400_000):
        wait_until(
            "it is marked",
            lambda: run(*slow.split()) == "" and any(word.startswith("!") for word in row(screen, guest.name)),
            seconds=20,
        )


# Keys.


def test_keys_choose_the_order(lab: Workbench, screen: Terminal) -> None:
    network = lab.network(average=4000)
    small, large, middle = (lab.lxc(network.nic(floor=floor)) for floor in (100, 900, 500))
    start(screen)

    screen.type("F")
    screen.shows("by floor")
    assert order(screen) == [large.name, middle.name, small.name]
    screen.type("r")
    screen.shows("by floor, reversed")
    assert order(screen) == [small.name, middle.name, large.name]
    screen.type("N")
    screen.shows("by name")
    assert order(screen) == sorted(guest.name for guest in (small, large, middle))
    with Flood([middle.nic.ip4], bytes_per_second=400_000):
        screen.type("R")
        screen.shows("by rate")
        wait_until("the one with traffic comes first", lambda: order(screen)[:1] == [middle.name])
        screen.type("N", "U")
        screen.shows("by use of the floor")
        wait_until("the one with traffic comes first", lambda: order(screen)[:1] == [middle.name])


def test_filter_is_typed(lab: Workbench, screen: Terminal) -> None:
    network, other = lab.network(name="Büro 研究"), lab.network()
    mine, others = lab.qemu(network.nic(floor=100)), lab.qemu(other.nic(floor=100))
    start(screen)
    screen.shows(others.name)

    screen.type("/")
    screen.type_text("bÜRO 研x")
    screen.type("BSpace")
    screen.shows("Filter: bÜRO 研_")
    screen.hides(others.name)
    screen.type("Enter")
    screen.shows("filter: bÜRO 研")
    assert order(screen) == [mine.name]
    screen.type("f", "Escape")
    screen.shows(others.name)


def test_networks_come_one_after_the_other(lab: Workbench, screen: Terminal) -> None:
    first, second = lab.network(), lab.network()
    guests = [lab.qemu(network.nic(floor=100)) for network in (first, second)]
    start(screen, "--sort name")
    wait_until("both are there", lambda: order(screen) == [guest.name for guest in guests])

    by_network = sorted(guests, key=lambda guest: guest.nic.network.name)
    for expected in (by_network[:1], by_network[1:], guests):
        screen.type("n")
        wait_until("the network is chosen", lambda: order(screen) == [guest.name for guest in expected])


def test_help_names_the_keys_and_interval_changes(lab: Workbench, screen: Terminal) -> None:
    lab.network()
    start(screen)
    screen.type("?")
    screen.shows("sort by rate")
    screen.type("Escape")
    screen.hides("sort by rate")
    screen.type("+")
    screen.shows("every 0.5 s")
    screen.type("-", "-")
    screen.shows("every 0.1 s")


def test_rows_beyond_the_screen_are_scrolled_to(lab: Workbench) -> None:
    network = lab.network()
    nics = [network.nic(floor=10) for _ in range(12)]
    guest = lab.qemu(*nics)
    with terminal(80, 10) as screen:
        start(screen, "--sort name")
        screen.shows("rows 1 to 5 of 13")
        screen.type("Down")
        screen.shows("rows 2 to 6 of 13")
        screen.type("NPage")
        screen.shows("rows 7 to 11 of 13")
        screen.type("End")
        screen.shows("rows 9 to 13 of 13")
        assert guest.device(nics[-1]) in screen.text()
        screen.type("Home")
        screen.shows("rows 1 to 5 of 13")


# What changes while it runs.


def test_plugs_unplugs_and_other_floors_are_followed(lab: Workbench, screen: Terminal) -> None:
    network = lab.network()
    guest = lab.lxc(network.nic(floor=100))
    start(screen, "--sort name")
    screen.shows(guest.name)

    added = network.nic(floor=700)
    guest.attach(added)
    wait_until("it is there, with its device", lambda: guest.device(added) in screen.text())
    wait_until("the sum follows", lambda: row(screen, network.name)[1] == "800")
    added.tune(floor=600)
    wait_until("the sum follows", lambda: row(screen, network.name)[1] == "700")
    device = guest.device(added)
    guest.detach(added)
    screen.hides(device)
    guest.destroy()
    screen.hides(guest.name)


def test_floors_that_come_and_go_with_domiftune_are_followed(lab: Workbench, screen: Terminal) -> None:
    network = lab.network()
    nic = network.nic()
    guest = lab.qemu(nic)
    start(screen)
    for values, floor in (("0,0,0,250", "250"), ("0,0,0,300", "300"), ("0,0,0,0", "-")):
        guest.domiftune(nic, values)
        wait_until(f"its floor is {floor}", lambda: row(screen, guest.name)[2] == floor)


def test_networks_come_and_go(lab: Workbench, screen: Terminal) -> None:
    first = lab.network()
    start(screen)
    second = lab.network(average=3000, peak=None)
    wait_until("it is there", lambda: row(screen, second.name)[1:3] == ["0", "3000"])
    first.destroy()
    wait_until("it is gone", lambda: not row(screen, first.name))


def test_terminal_may_change_its_size(lab: Workbench, screen: Terminal) -> None:
    network = lab.network()
    nic = network.nic(floor=500)
    guest = lab.qemu(nic)
    start(screen)
    for width, height in ((120, 40), (60, 15), (80, 24), (20, 3), (80, 24)):
        screen.resize(width, height)
        if width == 20:
            screen.shows("virt-floor top")
            continue
        # The status is on the last line, and the floor in its place.
        wait_until("it fills the terminal", lambda: len(screen.lines()) == height)
        wait_until("its status is on the last line", lambda: screen.lines()[-1].startswith("h: help"))
        wait_until("the guest is seen", lambda: re.search(rf"^{guest.name[:9]}.* 500 ", screen.text(), re.MULTILINE))
        assert (nic.mac in screen.text()) == (width == 120)


def test_restart_of_the_daemon_does_not_end_it(lab: Workbench, libvirtd: object, screen: Terminal) -> None:
    network = lab.network(average=4000)
    guest = lab.lxc(network.nic(floor=500))
    start(screen)
    screen.shows(guest.name)

    daemon.stop()
    screen.shows("No word from libvirt since")
    with Flood([guest.nic.ip4], bytes_per_second=400_000):
        wait_until("its rate is seen all the same", lambda: figure(screen, guest.name, NOW) > 100)
    daemon.start()
    screen.shows("q: quit")
    other = lab.qemu(network.nic(floor=300))
    screen.shows(other.name)


def test_a_daemon_that_hangs_does_not_hang_it(lab: Workbench, screen: Terminal) -> None:
    network = lab.network()
    guest = lab.qemu(network.nic(floor=500))
    start(screen)
    screen.shows(guest.name)
    with daemon.frozen():
        screen.shows("libvirt has not answered for")
        screen.type("N")
        screen.shows("by name")
        screen.type("q")
        wait_until("it has ended", lambda: pid_of_top() is None)


# The terminal, before and after.


@pytest.mark.parametrize("end", ["q", "C-c", signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_terminal_is_left_as_it_was(lab: Workbench, screen: Terminal, end: object) -> None:
    lab.network()
    settings = screen.settings()
    start(screen)
    assert screen.in_alternate_screen and screen.settings() != settings
    if isinstance(end, signal.Signals):
        os.kill(pid_of_top() or 0, end)
    else:
        screen.type(str(end))
    expect_left(screen, settings)
    assert "q: quit" not in screen.text()


def test_a_signal_is_what_it_ends_by(lab: Workbench, screen: Terminal) -> None:
    lab.network()
    start(screen)
    os.kill(pid_of_top() or 0, signal.SIGTERM)
    screen.shows("Terminated")
    screen.shell("echo status $?")
    screen.shows("status 143")
    screen.shell("virt-floor top --interval 0.1 --count 3; echo status $?")
    screen.shows("status 0")


def test_it_can_be_stopped_and_continued(lab: Workbench, screen: Terminal) -> None:
    network = lab.network()
    settings = screen.settings()
    start(screen)
    for _ in range(2):
        screen.type("C-z")
        screen.shows("Stopped")
        wait_until("the terminal is the shell's", lambda: not screen.in_alternate_screen)
        assert screen.has_cursor
        screen.resize(100, 30)
        screen.shell("clear; fg")
        screen.shows("q: quit")
        wait_until("it fills the terminal", lambda: len(screen.lines()) == 30)
        assert screen.in_alternate_screen and row(screen, network.name)
        screen.resize(80, 24)
    screen.type("q")
    wait_until("it has ended", lambda: pid_of_top() is None)
    wait_until("the terminal is as it was", lambda: screen.settings() == settings)


def test_colours_are_left_out_where_they_are_not_wanted(lab: Workbench) -> None:
    network = lab.network()
    lab.qemu(network.nic(floor=500))
    for environment, coloured in ({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "vt100"}, False):
        with terminal(**environment) as screen:
            start(screen)
            screen.shows("[")
            found = re.findall(r"\x1b\[[0-9;]*3[1-7][;m]", screen.text("-e"))
            assert bool(found) == coloured, environment


def test_names_are_shown_in_a_locale_without_them(lab: Workbench) -> None:
    network = lab.network(name="Büro 研究")
    lab.qemu(network.nic(floor=500))
    with terminal(LC_ALL="C") as screen:
        start(screen)
        wait_until("it is there", lambda: row(screen, "B?ro ??"))
        wait_until("bars need no more than ASCII", lambda: re.search(r"\[ *: *\]", screen.text()))


@pytest.mark.parametrize("kind, said", [("dumb", "cannot place its cursor"), ("no-such-kind", "'no-such-kind'"), ("", "''")])
def test_a_terminal_that_can_do_nothing_is_told(screen: Terminal, kind: str, said: str) -> None:
    screen.shell(f"TERM={kind} virt-floor top; echo status $?")
    screen.shows("status 3")
    # The sentence may go over two lines.
    assert said in screen.text().replace("\n", "")


def test_no_terminal_is_told() -> None:
    assert "--batch" in fails(3, "top")


# Plain text.


def frames(*args: str, **options: object) -> list[list[str]]:
    printed = prints("top", "--batch", "--interval", "0.2", *args, **options)
    return [frame.splitlines() for frame in printed.split("\n\n") if frame]


def test_frames_are_printed_without_a_terminal(lab: Workbench) -> None:
    network = lab.network(average=4000)
    nic = network.nic(floor=500)
    guest = lab.lxc(nic)
    with Flood([nic.ip4], bytes_per_second=1_000_000):
        found = frames("--count", "3")

    assert len(found) == 3
    for frame in found:
        (line,) = [line for line in frame if line.startswith(guest.name)]
        words = line.split()
        assert words[1:6] == [guest.device(nic), nic.mac, "1:3", "500", "8000"]
        assert float(words[6]) > 200
    assert frames("--count", "1", user=UNPRIVILEGED)[0][3:] != []


def test_width_of_plain_text_is_asked_for(lab: Workbench) -> None:
    network = lab.network()
    lab.qemu(network.nic(floor=500))
    assert max(map(len, frames("--count", "1", COLUMNS="80")[0])) <= 80
    assert "MAC" in frames("--count", "1", COLUMNS="200")[0][3]


def test_frames_go_on_without_the_daemon(lab: Workbench, libvirtd: object) -> None:
    network = lab.network()
    guest = lab.qemu(network.nic(floor=500))
    running = subprocess.Popen(["virt-floor", "top", "-b", "-i", "0.1"], stdout=subprocess.PIPE, text=True)
    try:
        assert running.stdout

        def comes(text: str) -> bool:
            return any(text in line for line in running.stdout)  # type: ignore[union-attr]

        assert comes(guest.name)
        daemon.stop()
        assert comes("No word from libvirt")
        assert comes(guest.name)
    finally:
        running.kill()
        running.wait()


def test_choice_is_given_by_options(lab: Workbench) -> None:
    first, second = lab.network(), lab.network()
    mine, other = lab.qemu(first.nic(floor=100), first.nic(floor=200)), lab.qemu(second.nic(floor=100))

    (frame,) = frames("--count", "1", "--network", first.name)
    assert first.name in str(frame) and second.name not in str(frame)
    (frame,) = frames("--count", "1", "--domain", other.name)
    assert other.name in str(frame) and mine.name not in str(frame) and "(without" not in str(frame)
    (frame,) = frames("--count", "1", "--sort", "floor", "--filter", mine.name.upper())
    assert re.findall(r" 1:\d +(\d+)", str(frame)) == ["200", "100"]
    (frame,) = frames("--count", "1", "--sort", "floor", "--reverse", "--filter", mine.name)
    assert re.findall(r" 1:\d +(\d+)", str(frame)) == ["100", "200"]


@pytest.mark.parametrize(
    "status, args, said",
    [
        (2, ["--count", "0"], "--count"),
        (2, ["--count", "x"], "--count"),
        (2, ["--interval", "0"], "--interval"),
        (2, ["--sort", "colour"], "'colour'"),
        (3, ["--batch", "--network", "nowhere"], "'nowhere'"),
        (3, ["--batch", "--connect", "lxc+unix:///system?socket=/no/such/socket"], "/no/such/socket"),
    ],
)
def test_bad_arguments_are_one_sentence(status: int, args: list[str], said: str) -> None:
    assert said in fails(status, "top", *args)


def test_a_full_device_is_no_success(lab: Workbench) -> None:
    lab.network()
    with open("/dev/full", "w") as full:
        command = ["virt-floor", "top", "-b", "-i", "0.1"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=20)
    assert done.returncode == 3 and "standard output" in done.stderr
