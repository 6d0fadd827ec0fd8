# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a guest can do to another guest's floor with the other's MAC address, and what stops it (see
docs/security.md)."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import subprocess
import sys
from typing import Callable, Iterator
from xml.etree import ElementTree

import pytest
from lab import CommandFailed, LxcGuest, Network, Workbench, check_tree, file_of, run, traffic, virsh, wait_until
from lab.commands import LXC

NO_VLAN_FILTERING = pathlib.Path(os.environ.get("BUILD_DIR", "build")).absolute() / "tests/e2e/no_vlan_filtering.so"

# Runs in the attacker's network namespace: a broadcast that names another sender.
SPOOF = """
import socket, sys
sender = bytes.fromhex(sys.argv[1].replace(":", ""))
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
    raw.sendto(bytes([255] * 6) + sender + b"\\x88\\xb5" + bytes(46), ("eth0", 0x88B5))
"""
NO_MAC_SPOOFING = """<filter name='test-no-mac-spoofing' chain='mac' priority='-800'>
<rule action='return' direction='out' priority='350'><mac srcmacaddr='$MAC'/></rule>
<rule action='drop' direction='out' priority='500'><mac/></rule></filter>"""


def device_of(guest: LxcGuest) -> str:
    return guest.status_interface(guest.nic).find("target").get("dev")


def speak_as(guest: LxcGuest, mac: str) -> None:
    """The guest sends a frame whose source address is this one."""
    init = ElementTree.parse(guest.status_file).find("init").get("pid")
    command = ["nsenter", f"--net=/proc/{init}/ns/net", sys.executable, "-c", SPOOF, mac]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def learned_port(network: Network, mac: str) -> str:
    """The port that the bridge takes an address to be behind."""
    entries = json.loads(run("bridge", "-j", "fdb", "show", "br", network.bridge))
    return next((each["ifname"] for each in entries if each["mac"] == mac and "master" in each), "")


def packets_received(guest: LxcGuest) -> int:
    return int(pathlib.Path(f"/sys/class/net/{device_of(guest)}/statistics/tx_packets").read_text())


class Scene:
    COUNT = 200

    def __init__(self, lab: Workbench) -> None:
        self.network = lab.network()
        self.victim, self.attacker = lab.lxc(self.network.nic(floor=500)), lab.lxc(self.network.nic(floor=100))
        for guest in (self.victim, self.attacker):
            wait_until("the guest answers", lambda: traffic.answers_ping(guest.nic.ip4))

    def attack(self) -> tuple[float, float, float]:
        """The attacker speaks in the victim's name. What becomes of packets to the victim then: the parts
        that the victim gets, that the attacker gets, and that the victim's class carries."""
        mac = self.victim.nic.mac
        speak_as(self.attacker, mac)

        def counts() -> tuple[int, ...]:
            return packets_received(self.victim), packets_received(self.attacker), self.victim.nic.kernel_class().packets

        before = counts()
        traffic.send_frames(self.network.bridge, mac, self.COUNT, [traffic.ETHERTYPES["IPv4"]])
        wait_until("they are sent", lambda: counts()[2] - before[2] >= self.COUNT)
        return tuple(round((after - start) / self.COUNT, 1) for after, start in zip(counts(), before))


def test_spoofed_source_draws_the_victims_packets_and_uses_its_class(lab: Workbench) -> None:
    scene = Scene(lab)
    # A victim that says something meanwhile is heard: not every attempt succeeds.
    wait_until("all packets go to the attacker", lambda: scene.attack() == (0, 1, 1))
    speak_as(scene.victim, scene.victim.nic.mac)
    assert learned_port(scene.network, scene.victim.nic.mac) == device_of(scene.victim)
    check_tree(scene.network)


@contextlib.contextmanager
def static_table(scene: Scene) -> Iterator[None]:
    """What macTableManager='libvirt' does with the bridge's port of a QEMU guest. (libvirt's LXC driver does
    not do it.)"""
    for guest in (scene.victim, scene.attacker):
        run("bridge", "link", "set", "dev", device_of(guest), "learning", "off")
        run("bridge", "fdb", "replace", guest.nic.mac, "dev", device_of(guest), "master", "static")
    yield


@contextlib.contextmanager
def network_filter(scene: Scene) -> Iterator[None]:
    """<filterref> as a binding by itself, since libvirt 9.0's LXC driver starts no guest that has one."""
    device = device_of(scene.attacker)
    name = scene.attacker.name
    uuid = virsh("domuuid", name, uri=LXC).strip()
    binding = (
        f"<filterbinding><owner><name>{name}</name><uuid>{uuid}</uuid></owner>"
        f"<portdev name='{device}'/><mac address='{scene.attacker.nic.mac}'/><filterref filter='test-no-mac-spoofing'/></filterbinding>"
    )
    with file_of(NO_MAC_SPOOFING) as path:
        virsh("nwfilter-define", path)
    with file_of(binding) as path:
        virsh("nwfilter-binding-create", path)
    yield
    virsh("nwfilter-binding-delete", device)
    virsh("nwfilter-undefine", "test-no-mac-spoofing")


@pytest.mark.parametrize("protection", [static_table, network_filter])
def test_spoofed_source_does_nothing_where_it_is_stopped(
    lab: Workbench, protection: Callable[[Scene], contextlib.AbstractContextManager[None]]
) -> None:
    scene = Scene(lab)
    with protection(scene):
        assert [scene.attack() for _ in range(3)] == [(1, 0, 1)] * 3
        assert traffic.answers_ping(scene.attacker.nic.ip4)  # who does not spoof is not hindered
        check_tree(scene.network)


def test_floors_hold_where_libvirt_keeps_the_mac_table(lab: Workbench, libvirtd) -> None:
    libvirtd.restart("--preload", str(NO_VLAN_FILTERING))
    network = lab.network(bridge_options="macTableManager='libvirt'")
    guests = [lab.qemu(network.nic(floor=500)), lab.qemu(network.nic())]
    for guest in guests:
        guest.virsh("resume", guest.name)  # only then its address is entered
        device = guest.status_interface(guest.nic).find("target").get("dev")
        assert learned_port(network, guest.nic.mac) == device
        assert "learning off" in run("bridge", "-d", "link", "show", "dev", device)
    check_tree(network)
    guests[0].domiftune(guests[0].nic, "0,0,0,900")
    libvirtd.kill9()
    libvirtd.start("--preload", str(NO_VLAN_FILTERING))
    check_tree(network)
    with contextlib.suppress(CommandFailed):  # libvirt, if the end of a transient guest overtakes the call
        guests[0].destroy()
    guests[0].wait_until_gone()
    check_tree(network)
    assert learned_port(network, guests[0].nic.mac) == ""
