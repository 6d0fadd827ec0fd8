# SPDX-License-Identifier: LGPL-2.1-or-later
"""virt-floor check: where promises, status files and the kernel differ."""

from __future__ import annotations

import contextlib
import json
import pathlib
from concurrent.futures import ThreadPoolExecutor
from typing import Iterator

import pytest
from lab import LxcGuest, Network, Workbench, daemon, run, status
from lab.churn import plug_and_unplug
from virt_floor import UNPRIVILEGED, fails, outcome, prints, tells


@contextlib.contextmanager
def unwatched() -> Iterator[None]:
    """The daemon answers nobody, and repairs nothing, so that it has to be gone for a check."""
    daemon.kill9()
    try:
        yield
    finally:
        daemon.start()


@pytest.fixture
def guest(lab: Workbench) -> LxcGuest:
    return lab.lxc(lab.network(average=4000, peak=8000).nic(floor=500))


def named(guest: LxcGuest) -> str:
    return f"{guest.name} ({guest.nic.mac})"


def differences(network: Network) -> list[str]:
    """Each in its line, where there are some."""
    done = outcome("check", network.name)
    assert (done.status, done.error) == (1, ""), done
    head = f"network '{network.name}': "
    lines = done.output.splitlines()
    assert lines and all(line.startswith(head) for line in lines), done
    return [line[len(head) :] for line in lines]


def test_all_is_well(guest: LxcGuest, lab: Workbench) -> None:
    lab.qemu(guest.nic.network.nic(floor=200), guest.nic.network.nic())
    lab.plain_network()

    assert prints("check") == "1 network with floors: all is as it should be\n"
    assert tells("check") == {"networks": [guest.nic.network.name], "differences": [], "unknown": []}


def test_a_network_without_floors_has_nothing_to_differ(lab: Workbench) -> None:
    assert tells("check", lab.plain_network().name)["networks"] == []


def test_all_is_well_without_a_daemon(guest: LxcGuest, libvirtd: object) -> None:
    with unwatched():
        assert tells("check") == {"networks": [guest.nic.network.name], "differences": [], "unknown": []}


@pytest.mark.parametrize(
    "change, sentence",
    [
        (
            "class change dev {bridge} parent 1:1 classid 1:3 htb rate 400kBps ceil 8000kBps",
            "class 1:3 of {guest} has a rate of 400 kB/s; its floor is 500 kB/s",
        ),
        (
            "class change dev {bridge} classid 1:1 htb rate 5000kBps ceil 8000kBps",
            "class 1:1, the root, has a rate of 5000 kB/s; it should be 4000 kB/s",
        ),
        (
            "filter del dev {bridge} parent 1: pref 10",
            "bridge {bridge} lacks the filters that lead addresses to classes",
        ),
        (
            "class add dev {bridge} parent 1:1 classid 1:77 htb rate 300kBps",
            "the kernel has a class 1:77 with a rate of 300 kB/s, which nobody has a promise of",
        ),
        (
            "qdisc del dev {bridge} root",
            "bridge {bridge} has no tree: its root qdisc is not htb 1: with the default class of libvirt-floor",
        ),
    ],
    ids=["rate", "root", "filters", "class", "qdisc"],
)
def test_what_others_changed_in_the_kernel(guest: LxcGuest, libvirtd: object, change: str, sentence: str) -> None:
    network = guest.nic.network
    words = {"bridge": network.bridge, "guest": named(guest)}
    with unwatched():
        run("tc", *change.format(**words).split())

        assert sentence.format(**words) in differences(network)


def test_a_missing_filter_is_named_by_its_address(lab: Workbench, libvirtd: object) -> None:
    network = lab.network()
    nics = [network.nic(floor=500), network.nic(floor=600)]
    guests = [lab.lxc(nic) for nic in nics]
    word = nics[1].mac.replace(":", "")
    with unwatched():
        (handle,) = [
            line.split("fh ")[1].split()[0]
            for line, match in _filters(network.bridge)
            if word[4:] in match.replace("/ffffffff", "")
        ]
        run("tc", "filter", "del", "dev", network.bridge, "parent", "1:", "pref", "10", "handle", handle, "u32")

        assert differences(network) == [f"the kernel has no filter that leads {named(guests[1])} to class 1:4"]


def _filters(bridge: str) -> list[tuple[str, str]]:
    """Filters of ours that lead to classes, with what they match."""
    lines = run("tc", "filter", "show", "dev", bridge, "parent", "1:").splitlines()
    found = []
    for i, line in enumerate(lines):
        if "flowid" in line and "pref 10" in line:
            found.append((line, "".join(each for each in lines[i + 1 : i + 3] if "match" in each)))
    return found


def test_a_filter_of_others_that_comes_first(guest: LxcGuest) -> None:
    network = guest.nic.network
    first, second, *rest = (int(byte, 16) for byte in guest.nic.mac.split(":"))
    last = int.from_bytes(bytes(rest), "big")
    run(
        *f"tc filter add dev {network.bridge} parent 1: protocol all pref 3 u32 "
        f"match u16 {first << 8 | second:#06x} 0xffff at -14 match u32 {last:#010x} 0xffffffff at -12 "
        "flowid 1:2".split()
    )

    (sentence,) = differences(network)
    assert sentence == (
        f"a filter of others on bridge {network.bridge} (preference 3, kind u32) comes before ours and takes "
        f"{named(guest)} to class 1:2 instead of class 1:3"
    )


def test_a_port_that_was_given_another_floor_than_its_domain(guest: LxcGuest) -> None:
    guest.nic.tune(floor=400)

    assert differences(guest.nic.network) == [
        f"domain '{guest.name}' asks for 500 kB/s on {guest.nic.mac}; its port has 400 kB/s"
    ]
    (told,) = json.loads(outcome("check", "--json").output)["differences"]
    assert (told["network"], told["where"]) == (guest.nic.network.name, "domain")


def changed_status(network: Network, old: str, new: str) -> None:
    """A text of the same length, since records have one."""
    path = status.STATUS_DIR / f"{network.name}.xml"
    text = path.read_text()
    assert old in text
    with path.open("r+") as file:
        file.write(text.replace(old, new))


def test_a_status_file_that_says_another_floor(guest: LxcGuest) -> None:
    changed_status(guest.nic.network, "floor='500'", "floor='600'")

    assert differences(guest.nic.network) == [
        f"the port of {named(guest)} has a floor of 500 kB/s; the status file says 600 kB/s"
    ]


def test_a_status_file_that_names_another_class(guest: LxcGuest) -> None:
    changed_status(guest.nic.network, "class='3'", "class='4'")

    assert differences(guest.nic.network) == [
        f"the status of domain '{guest.name}' names class 1:3 for {guest.nic.mac}; the status file names class 1:4",
        f"the port of {named(guest)} has class 1:3; the status file says 1:4",
    ]


def test_a_status_file_that_is_damaged(guest: LxcGuest) -> None:
    changed_status(guest.nic.network, "</floornetwork>", "</floornetworc>")

    (sentence,) = differences(guest.nic.network)
    assert sentence.startswith("its status file cannot be trusted: ")


def test_a_status_file_that_is_gone(guest: LxcGuest) -> None:
    path = status.STATUS_DIR / f"{guest.nic.network.name}.xml"
    text = path.read_bytes()
    path.unlink()
    try:
        assert differences(guest.nic.network) == [
            f"it may give floors, but has no status file; the log of libvirtd (process {daemon.pid()}) says why"
        ]
    finally:
        path.write_bytes(text)


def test_a_network_that_ended_without_a_word(guest: LxcGuest) -> None:
    mine = status.STATUS_DIR / f"{guest.nic.network.name}.xml"
    other = status.STATUS_DIR / "ended.xml"
    other.write_text(mine.read_text().replace(guest.nic.network.name, "ended"))
    try:
        done = outcome("check")
    finally:
        other.unlink()
    assert (done.status, done.output) == (1, "network 'ended': it has a status file, but does not run\n")


def test_the_stock_driver_serves(guest: LxcGuest, libvirtd: object) -> None:
    daemon.stop()
    for path in status.STATUS_DIR.glob("*.xml"):
        path.unlink()
    daemon.start("--stock")

    (sentence,) = differences(guest.nic.network)
    assert sentence == f"libvirtd (process {daemon.pid()}) runs without libvirt-floor, and nobody looks after its floors"


def test_the_state_in_the_status_file_is_said(guest: LxcGuest, libvirtd: object) -> None:
    path = status.STATUS_DIR / f"{guest.nic.network.name}.xml"
    with unwatched():
        path.write_text(path.read_text().replace("</bandwidth>", "</bandwidth><tree state='contested'/>"))

        (sentence,) = differences(guest.nic.network)
        assert sentence.startswith("the status file says contested: others change the tree on bridge ")


def test_what_changes_while_it_looks_is_no_difference(lab: Workbench) -> None:
    network = lab.network(average=100_000)
    with ThreadPoolExecutor(2) as pool:
        work = [pool.submit(plug_and_unplug, network, thread, 400) for thread in range(2)]
        checks = 0
        while not all(each.done() for each in work):
            assert outcome("check", network.name).status == 0, outcome("check", network.name)
            checks += 1
        for each in work:
            each.result()
    assert checks > 0


def test_without_privilege_it_says_which_right_is_missing(guest: LxcGuest) -> None:
    done = outcome("check", user=UNPRIVILEGED)

    assert done.status == 3, done
    assert "virt-floor: Cannot read the status files in /run/libvirt/network-floor, which are root's; run it as root" in (
        done.error.splitlines()
    )
    assert "Traceback" not in done.error


def test_without_privilege_it_still_says_what_it_sees(guest: LxcGuest) -> None:
    guest.nic.tune(floor=400)

    done = outcome("check", user=UNPRIVILEGED)

    assert (done.status, done.output) == (
        1,
        f"network '{guest.nic.network.name}': domain '{guest.name}' asks for 500 kB/s on {guest.nic.mac}; "
        "its port has 400 kB/s\n",
    )


def test_bad_input(lab: Workbench) -> None:
    assert "There is no network 'nowhere' that runs" in fails(3, "check", "nowhere")
    assert "Wrong number of arguments" in fails(2, "check", "one", "two")
    assert "--frob" in fails(2, "check", "--frob")
    assert "Cannot connect to nowhere:///system" in fails(3, "check", "--connect", "nowhere:///system")


def test_no_network_without_a_daemon(lab: Workbench, libvirtd: object) -> None:
    with unwatched():
        assert "There is no network 'nowhere' that runs" in fails(3, "check", "nowhere")


def test_a_daemon_that_does_not_answer_is_not_passed_over(lab: Workbench) -> None:
    socket = pathlib.Path("/run/libvirt/libvirt-sock-ro")
    hidden = socket.with_suffix(".hidden")
    socket.rename(hidden)
    try:
        assert "Cannot connect to libvirt" in fails(3, "check")
    finally:
        hidden.rename(socket)
