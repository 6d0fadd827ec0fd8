# SPDX-License-Identifier: LGPL-2.1-or-later
"""The watch over the trees, among programs that mean it and programs that have nothing to do with us:
the daemon backs off, says so, and is never busy; and a bridge that is gone is a clear state."""

from __future__ import annotations

import pathlib
import subprocess
import threading
import time
from typing import Callable

import libvirt
import pytest
from lab import (
    LxcGuest,
    Network,
    Nic,
    Workbench,
    check_tree,
    daemon,
    kernel,
    run,
    status,
    wait_until,
    wait_until_passes,
)
from lab.invariants import check_static

FIGHT_EVERY_S = 0.02
MOST_REPAIRS = 30  # of a network in a fight: ten at once, then ever more rarely
BUSY = 0.1  # of a processor's time: more is no watch, but a fight
IDLE = 0.01
SECOND_S = 1.0  # within which a repair is due


class Fighter:
    """A program that undoes what is put right, as soon as it sees it, for as long as the block lasts."""

    def __init__(self, network: Network, is_right: Callable[[Network], bool], command: str) -> None:
        self.network = network
        self._is_right = is_right
        self._command = command.replace("@", network.bridge).split()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._fight)
        self.undone = 0

    def __enter__(self) -> Fighter:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _fight(self) -> None:
        while not self._stop.wait(FIGHT_EVERY_S):
            if self._is_right(self.network):
                run(*self._command)
                self.undone += 1


def has_root(network: Network) -> bool:
    return kernel.tc_root(network.bridge) is not None


def has_filters(network: Network) -> bool:
    return " pref 10 " in kernel.tc_filters_text(network.bridge)


def has_rate(network: Network) -> bool:
    return network.classes()[3].rate == 300_000


FIGHTS: dict[str, tuple[Callable[[Network], bool], str]] = {
    "root qdisc": (has_root, "tc qdisc del dev @ root"),
    "filters": (has_filters, "tc filter del dev @ parent 1: protocol all pref 10"),
    "rate": (has_rate, "tc class change dev @ parent 1:1 classid 1:3 htb rate 8mbit ceil 9mbit"),
}


def with_ports(network: Network) -> Network:
    for floor in (300, 400):
        network.create_port(network.nic(floor=floor))
    return network


def lines_about(network: Network, log: int) -> list[str]:
    return [line for line in daemon.log_since(log).splitlines() if f"'{network.name}'" in line]


def plug_and_unplug(fighter: Fighter) -> None:
    """A call puts the tree right for itself, and need not wait; which is undone as well."""
    network, undone = fighter.network, fighter.undone
    network.delete_port(network.create_port(network.nic(floor=100)))
    wait_until("it is undone", lambda: fighter.undone > undone)


def test_fights(lab: Workbench, report, long_form: bool) -> None:
    """Three programs undo what is put right on a network each; a fourth network has its peace."""
    seconds = 10.0 if long_form else 3.0
    fighters = [Fighter(with_ports(lab.network()), *fight) for fight in FIGHTS.values()]
    bystander = with_ports(lab.network())
    log, cpu, begin = daemon.log_size(), daemon.cpu_seconds(), time.monotonic()
    with kernel.ChangeMonitor(bystander.bridge) as monitor:
        with fighters[0], fighters[1], fighters[2]:
            time.sleep(seconds)  # for as long as it is to last
            used = (daemon.cpu_seconds() - cpu) / (time.monotonic() - begin)
            for fighter in fighters:
                assert status.read(fighter.network.name).state == "contested"
                plug_and_unplug(fighter)
        assert monitor.count() == 0
    ended = time.monotonic()
    report.highest("share of a processor in a fight of three programs", used)
    report.highest("repairs of a network in a fight", max(fighter.undone for fighter in fighters))
    assert used < BUSY
    for fighter in fighters:
        assert 10 <= fighter.undone <= MOST_REPAIRS, (fighter.network.name, fighter.undone)

    # The wait between two repairs was never longer than the fight, nor is the one that the end cut short.
    for fighter in fighters:
        wait_until_passes(lambda network=fighter.network: check_static(network) and None, seconds)
    report.highest("seconds from the end of a fight to its repair", time.monotonic() - ended, "s")
    for fighter in fighters:
        name = fighter.network.name
        wait_until(f"{name} is kept", lambda name=name: status.read(name).state == "kept", 3 * seconds)
        lines = lines_about(fighter.network, log)
        assert len([line for line in lines if "warning" in line and "again and again" in line]) == 1, lines
        assert len(lines) <= 4, lines
    for network in (*(fighter.network for fighter in fighters), bystander):
        check_static(network)


def test_no_drift_costs_nothing(lab: Workbench, report) -> None:
    networks = [with_ports(lab.network()) for _ in range(4)]
    cpu, begin = daemon.cpu_seconds(), time.monotonic()
    time.sleep(2)  # an interval to measure over
    used = (daemon.cpu_seconds() - cpu) / (time.monotonic() - begin)
    report.highest("share of a processor without drift", used)
    assert used <= IDLE
    for network in networks:
        check_static(network)


def test_own_changes_are_no_drift(lab: Workbench) -> None:
    """A plug and an unplug are as many changes as they are without a watch: class, filter, catchment."""
    network = with_ports(lab.network())
    log = daemon.log_size()

    def changes_of(plugs: int) -> int:
        with kernel.ChangeMonitor(network.bridge) as monitor:
            for _ in range(plugs):
                network.delete_port(network.create_port(nic))
            return monitor.count()

    nic = network.nic(floor=100)
    assert changes_of(200) == 200 * changes_of(1)
    assert not lines_about(network, log)
    check_static(network)


def test_a_storm_of_others_changes(lab: Workbench, report) -> None:
    """A program adds and deletes 500 filters of its own a second: nothing of ours is changed for it."""
    network = with_ports(lab.network())
    shapes = network.shapes()
    device = f"dev {network.bridge} parent 1: protocol ip pref"
    batch = "".join(f"filter add {device} {n} u32 match ip dst 10.9.9.9 flowid 1:2\n" for n in range(100, 125))
    batch += "".join(f"filter del {device} {n}\n" for n in range(100, 125))
    cpu, begin = daemon.cpu_seconds(), time.monotonic()
    with kernel.ChangeMonitor(network.bridge, by_pid=daemon.pid()) as monitor:
        for turn in range(20):  # of 100 ms each
            subprocess.run(["tc", "-batch", "-"], input=batch, text=True, check=True)
            time.sleep(max(0.0, begin + (turn + 1) / 10 - time.monotonic()))
        used = (daemon.cpu_seconds() - cpu) / (time.monotonic() - begin)
        assert monitor.count() == 0
    report.highest("share of a processor in a storm of others' changes", used)
    assert used < BUSY
    assert network.shapes() == shapes and status.read(network.name).state == "kept"
    check_static(network)


# --- a bridge that is gone ----------------------------------------------------------------------------


@pytest.fixture
def vanished(lab: Workbench) -> tuple[Network, LxcGuest]:
    """A network whose bridge was deleted, and a guest with a floor on it."""
    network = lab.network()
    guest = lab.lxc(network.nic(floor=300))
    network.create_port(network.nic(floor=400))
    run("ip", "link", "del", network.bridge)
    wait_until("it is said", lambda: status.read(network.name).state == "absent", SECOND_S)
    return network, guest


def refusal_of(network: Network, nic: Nic) -> str:
    with pytest.raises(libvirt.libvirtError) as refusal:
        network.create_port(nic)
    return str(refusal.value)


def test_bridge_that_is_gone_is_said_once(vanished: tuple[Network, LxcGuest]) -> None:
    network, _ = vanished
    log, cpu, begin = daemon.log_size(), daemon.cpu_seconds(), time.monotonic()
    before = network.ports()
    for _ in range(3):
        error = refusal_of(network, network.nic(floor=100))
        assert network.name in error and network.bridge in error, error
    assert network.ports() == before
    plain = network.create_port(network.nic())  # the stock driver needs no bridge for it
    network.delete_port(plain)
    time.sleep(max(0.0, begin + 2 - time.monotonic()))  # an interval to measure over
    assert (daemon.cpu_seconds() - cpu) / (time.monotonic() - begin) < BUSY
    repeated = [line for line in lines_about(network, log) if " is gone" in line]
    assert not repeated, repeated
    assert status.read(network.name).state == "absent"


def test_network_of_a_bridge_that_is_gone_can_be_started_again(vanished: tuple[Network, LxcGuest]) -> None:
    network, guest = vanished
    guest.destroy()
    network.destroy()
    assert not status.network_file(network.name).exists()
    network.start()
    network.create_port(network.nic(floor=200))
    check_static(network)
    assert status.read(network.name).state == "kept"


def make_bridge(network: Network) -> None:
    run("ip", "link", "add", network.bridge, "type", "bridge")
    run("ip", "link", "set", network.bridge, "up")


def test_bridge_that_is_made_again_gets_the_tree(vanished: tuple[Network, LxcGuest], report) -> None:
    network, guest = vanished
    before = network.ports()
    make_bridge(network)
    start = time.monotonic()
    wait_until_passes(lambda: check_static(network) and None, SECOND_S)
    report.highest("worst repair time", time.monotonic() - start, "s")
    wait_until("it is kept", lambda: status.read(network.name).state == "kept", SECOND_S)
    assert network.ports() == before and len(before) == 2
    network.create_port(network.nic(floor=200))
    run("ip", "link", "set", guest.device(guest.nic), "master", network.bridge)
    check_tree(network)


def test_bridge_that_is_replaced_at_once(lab: Workbench, report) -> None:
    """Deleted, and made again before the daemon has looked."""
    network = with_ports(lab.network())
    before = network.ports()
    run("ip", "link", "del", network.bridge)
    make_bridge(network)
    start = time.monotonic()
    wait_until_passes(lambda: check_static(network) and None, SECOND_S)
    report.highest("worst repair time", time.monotonic() - start, "s")
    assert network.ports() == before
    wait_until("it is kept", lambda: status.read(network.name).state == "kept", SECOND_S)


@pytest.mark.parametrize("end", ["stop", "kill9"])
def test_restart_without_the_bridge(vanished: tuple[Network, LxcGuest], lab: Workbench, libvirtd, end: str) -> None:
    """The stock driver says then that the network does not run. So does our status, and it can be started."""
    network, guest = vanished
    other = with_ports(lab.network())
    getattr(libvirtd, end)()
    log = daemon.log_size()
    libvirtd.start()
    check_static(other)
    assert not network.is_active()
    assert not status.network_file(network.name).exists()
    assert not [line for line in lines_about(network, log) if ": error :" in line]
    network.start()
    assert network.ports() == []
    network.create_port(network.nic(floor=200))
    check_static(network)
    libvirtd.restart()
    wait_until("the guest's port is back", lambda: guest.nic.mac in {port.mac for port in network.ports()})
    wait_until_passes(lambda: check_static(network) and None)
    assert guest.nic.port().floor == 300


def test_bridge_that_is_called_otherwise_keeps_its_tree(lab: Workbench) -> None:
    network, other_name = with_ports(lab.network()), "elsewhere"
    shapes, log = network.shapes(), daemon.log_size()
    rename(network.bridge, other_name)
    run("tc", "qdisc", "del", "dev", other_name, "root")

    def is_there() -> None:
        assert {key: each.shape() for key, each in kernel.tc_classes(other_name).items()} == shapes
        assert len(kernel.tc_filters(other_name)) == len(network.ports())

    wait_until_passes(is_there, SECOND_S)
    assert len([line for line in lines_about(network, log) if other_name in line]) == 1
    rename(other_name, network.bridge)
    check_static(network)


def rename(bridge: str, name: str) -> None:
    run("ip", "link", "set", bridge, "down")
    run("ip", "link", "set", bridge, "name", name)
    run("ip", "link", "set", name, "up")


def test_notices_that_are_lost(lab: Workbench) -> None:
    """More changes than the kernel keeps for a daemon that does not listen; the last one is harm."""
    network, other = with_ports(lab.network()), with_ports(lab.network())
    storm = f"filter add dev {other.bridge} parent 1: protocol ip pref 100 u32 match ip dst 10.9.9.9 flowid 1:2\n"
    storm += f"filter del dev {other.bridge} parent 1: protocol ip pref 100\n"
    with daemon.frozen():
        subprocess.run(["tc", "-batch", "-"], input=storm * 5000, text=True, check=True)
        run("tc", "qdisc", "del", "dev", network.bridge, "root")
        assert lost_notices(), "the kernel kept them all"
    wait_until_passes(lambda: check_static(network) and None, SECOND_S)
    check_static(other)


def lost_notices() -> bool:
    """Whether a netlink socket of the daemon had more to hear than it holds (the column Drops)."""
    rows = [line.split() for line in pathlib.Path("/proc/net/netlink").read_text().splitlines()[1:]]
    return any(int(row[2]) & 0x3FFFFF == daemon.pid() and int(row[8]) > 0 for row in rows)
