# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt's nftables backend beside our tree. It makes the root qdisc of each network's bridge, and a filter at
preference 2 that gives DHCP's answers their checksum. Whenever it loads its rules anew it deletes that preference
with all that is there, and makes the filter again.
"""

import contextlib
import pathlib
import re
import socket
import sys
import threading
import time
from typing import Iterator

import pytest
from lab import (
    CommandFailed,
    LxcGuest,
    Network,
    Workbench,
    check_static,
    check_tree,
    daemon,
    kernel,
    run,
    status,
    traffic,
    wait_until,
    wait_until_passes,
)
from lab.bus import running, system_bus
from lab.invariants import check_steering_of

from rules import EVENTS, check_checksum_filter, checksum_filters, deleted_and_made_again

DHCP_CLIENT = pathlib.Path(__file__).with_name("dhcp.py")
REPAIRED_WITHIN_S = 1  # a tenth of a second, and as much as the machine needs for its work
GAP_S = 0.01  # at most, in which a guest's packets go into the catchment


def offered(guest: LxcGuest) -> tuple[str, str]:
    """What DHCP offers the guest, and whether the UDP checksum of the offer is right."""
    namespace = f"--net=/proc/{guest.init_pid()}/ns/net"
    address, checksum = run("nsenter", namespace, sys.executable, str(DHCP_CLIENT), "eth0", guest.nic.mac).split()
    return address, checksum


def check_dhcp(guest: LxcGuest) -> None:
    address, checksum = offered(guest)
    assert address.startswith(f"10.{guest.nic.network.index}.0.") and checksum == "right"


def check_whole(network: Network) -> None:
    """Our tree and libvirt's filter, soon."""

    def check() -> None:
        check_static(network)
        check_checksum_filter(network)

    wait_until_passes(check, REPAIRED_WITHIN_S)
    check_tree(network)


@pytest.fixture
def firewalld(libvirtd) -> Iterator[None]:
    """firewalld, and libvirtd started when it was there."""
    options = daemon.options
    daemon.stop()
    with system_bus():
        with running("firewalld", "--nofork", "--nopid"):
            wait_until("firewalld runs", lambda: _succeeds("firewall-cmd", "--state"), seconds=120)
            daemon.start(*options)
            yield
            daemon.stop()
    daemon.start(*options)


def _succeeds(*argv: str) -> bool:
    with contextlib.suppress(CommandFailed):
        run(*argv)
        return True
    return False


def test_start_has_both(lab: Workbench) -> None:
    network = lab.network(forward="nat", services=True)
    check_whole(network)
    guest, other = lab.lxc(network.nic(floor=500)), lab.lxc(network.nic())
    check_whole(network)
    for each in (guest, other):
        check_dhcp(each)
    guest.destroy()
    check_whole(network)
    check_dhcp(other)
    network.destroy()
    assert network.bridge not in kernel.devices()
    network.start()
    check_whole(network)


def test_it_is_the_filter_that_makes_the_checksum_right(lab: Workbench) -> None:
    """So check_dhcp would see it missing."""
    network = lab.network(forward="nat", services=True)
    guest = lab.lxc(network.nic(floor=500))
    check_dhcp(guest)
    run("tc", "filter", "del", "dev", network.bridge, "parent", "1:", "pref", "2")
    assert offered(guest)[1] == "wrong"
    daemon.reload()
    wait_until("libvirt makes its filter", lambda: checksum_filters(network))
    check_whole(network)
    check_dhcp(guest)


@pytest.mark.parametrize("event", EVENTS)
def test_rules_are_loaded_anew(lab: Workbench, libvirtd, event: str) -> None:
    network = lab.network(forward="nat", services=True)
    guests = [lab.lxc(network.nic(floor=floor)) for floor in (500, 300)]
    classes = network.shapes()
    for _ in range(2):
        deleted_and_made_again(network, EVENTS[event])
        check_whole(network)
        assert network.shapes() == classes
        check_dhcp(guests[0])
        if event == "net-update":
            break  # the same once more is refused
    lab.lxc(network.nic(floor=200))
    check_whole(network)
    guests[0].destroy()
    check_whole(network)


def test_firewalld_reloads(lab: Workbench, firewalld) -> None:
    network = lab.network(forward="nat", services=True)
    guest = lab.lxc(network.nic(floor=500))
    assert run("firewall-cmd", f"--get-zone-of-interface={network.bridge}").strip() == "libvirt"
    check_whole(network)
    for _ in range(2):
        deleted_and_made_again(network, lambda _network: run("firewall-cmd", "--reload"))
        check_whole(network)
        check_dhcp(guest)
    guest.destroy()
    check_whole(network)


@pytest.mark.parametrize("forward", ["route", "", "open"])
def test_other_forward_modes(lab: Workbench, libvirtd, forward: str) -> None:
    """libvirt makes no rules for a network of mode open, and so no filter."""
    network = lab.network(forward=forward or None, services=True)
    guest = lab.lxc(network.nic(floor=500))
    for event in ("SIGHUP", "restart"):
        if forward == "open":
            EVENTS[event](network)
            check_tree(network, eventually=True)
            assert not checksum_filters(network)
        else:
            check_whole(network)
            check_dhcp(guest)
            deleted_and_made_again(network, EVENTS[event])
            check_whole(network)


def test_network_without_bandwidth_is_libvirts_alone(lab: Workbench, libvirtd) -> None:
    """What is on its bridge is what stock libvirt puts there."""

    def pictures() -> list[object]:
        network = lab.plain_network(forward="nat", services=True)
        found: list[object] = []
        guest = lab.lxc(network.nic())
        for event in (None, "SIGHUP", "restart"):
            if event:
                deleted_and_made_again(network, EVENTS[event])
            check_checksum_filter(network)
            root = kernel.tc_root(network.bridge)
            assert root and root["options"]["default"] == "0x2"
            found.append((network.classes(), kernel.tc_leaves(network.bridge), checksum_filters(network)))
            found.append(sorted(set(re.findall(r"pref \d+ \w+", kernel.tc_filters_text(network.bridge)))))
        check_dhcp(guest)
        assert not status.network_file(network.name).exists()
        guest.destroy()
        network.destroy()
        network.undefine()
        return found

    ours = pictures()
    daemon.restart("--stock")
    assert pictures() == ours
    assert not any(classes for classes, *_ in ours[::2])


def test_stock_loses_its_floors_and_they_come_back_with_ours(lab: Workbench, libvirtd) -> None:
    """Stock's own filters are at the preference that it deletes."""
    daemon.restart("--stock")
    network = lab.network(forward="nat", services=True)
    guest = lab.lxc(network.nic(floor=500))
    class_id = guest.nic.class_id()

    def filters() -> list[int]:
        return [each.class_id for each in kernel.tc_filters(network.bridge) if each.mac == guest.nic.mac]

    assert filters() == [class_id]
    deleted_and_made_again(network, EVENTS["SIGHUP"])
    assert filters() == []
    daemon.restart()
    check_whole(network)
    assert guest.nic.class_id() == class_id
    check_dhcp(guest)


def test_take_over_leaves_libvirts_filter(lab: Workbench, libvirtd) -> None:
    daemon.restart("--stock")
    network = lab.network(forward="nat", services=True)
    guest = lab.lxc(network.nic(floor=500))
    daemon.restart()
    check_whole(network)
    check_dhcp(guest)
    daemon.restart("--stock")
    assert len(checksum_filters(network)) == 1  # beside our filters, which stock leaves there
    daemon.restart()
    check_whole(network)


def test_qemus_call_for_a_changed_address_works_after_a_reload(lab: Workbench, libvirtd) -> None:
    """The very command of virNetDevBandwidthManipulateFilter: it wants its filter to be in table 800:."""
    network = lab.network(forward="nat", services=True)
    nic = network.nic(floor=500)
    guest = lab.lxc(nic)
    class_id, taken = nic.class_id(), "52:54:00:aa:bb:cc"
    name = ("dev", network.bridge, "prio", "2", "handle", f"800::{800 + class_id}", "u32")
    match = "match u16 0x0800 0xffff at -2 match u32 0x00aabbcc 0xffffffff at -12 match u16 0x5254 0xffff at -14"
    for event in (EVENTS["SIGHUP"], EVENTS["restart"]):
        deleted_and_made_again(network, event)
        check_whole(network)
        run("tc", "filter", "add", "protocol", "ip", *name, *match.split(), "flowid", f"1:{class_id:x}")
        check_tree(network, eventually=True)
        check_steering_of(network, taken, class_id)
        run("tc", "filter", "del", *name)
        check_whole(network)
    check_dhcp(guest)


class Stream:
    """Frames to an address, one after the other, for as long as the block lasts."""

    def __init__(self, network: Network, mac: str) -> None:
        self._network, self._mac = network, mac
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self.sent = 0

    def __enter__(self) -> "Stream":
        self._started = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()
        self.seconds = time.monotonic() - self._started

    def _send(self) -> None:
        kind = traffic.ETHERTYPES["IPv6"]
        frame = bytes.fromhex(self._mac.replace(":", "")) + b"\x02\0\0\0\0\x01" + kind.to_bytes(2, "big") + bytes(46)
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            while not self._stop.wait(0.0005):
                raw.sendto(frame, (self._network.bridge, kind))
                self.sent += 1


@pytest.mark.parametrize("ports", [1, 100])
def test_hardly_a_packet_misses_its_class_meanwhile(lab: Workbench, libvirtd, ports: int) -> None:
    """The floors are there all the time, but for the moment in which libvirt is given table 800: again."""
    network = lab.network(average=400000, peak=None, forward="nat", services=True)
    guest = lab.lxc(network.nic(floor=500))
    for i in range(1, ports):
        network.create_port(network.nic(mac=f"52:54:00:77:{i >> 8:02x}:{i & 255:02x}", floor=100))
    class_id = guest.nic.class_id()
    wait_until("it answers", lambda: traffic.answers_ping(guest.nic.ip4))
    before = network.classes()
    log = daemon.log_size()
    with Stream(network, guest.nic.mac) as stream:
        deleted_and_made_again(network, EVENTS["SIGHUP"])
        made = time.monotonic()
        wait_until_passes(lambda: check_checksum_filter(network), REPAIRED_WITHIN_S)
        repaired = time.monotonic() - made
    wait_until("all are sent", lambda: not any(each.waiting for each in network.classes().values()))
    after = network.classes()
    missed = stream.sent - (after[class_id].packets - before[class_id].packets)
    gap = missed * stream.seconds / stream.sent
    print(
        f"{ports} ports: {missed} of {stream.sent} frames in {stream.seconds:.3f} s missed the class: {gap:.4f} s; "
        f"table 800: was back within {repaired:.3f} s"
    )
    assert gap <= GAP_S
    errors = [line for line in daemon.log_since(log).splitlines() if " error : " in line and network.name in line]
    assert not errors, errors
    check_whole(network)
