# SPDX-License-Identifier: LGPL-2.1-or-later
"""virt-floor list: what was promised to interfaces, and what they get."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from lab import Workbench
from lab.commands import wait_until
from lab.traffic import Flood
from virt_floor import UNPRIVILEGED, fails, prints, tells


def interfaces(network: str, *args: str) -> dict[str, dict[str, Any]]:
    """By MAC address."""
    (found,) = tells("list", "--network", network, "--interval", "0.1", *args)["networks"]
    return {interface["mac"]: interface for interface in found["interfaces"]}


def test_interfaces_are_listed_with_their_floors(lab: Workbench) -> None:
    network = lab.network(average=4000)
    floored, plain = network.nic(floor=500), network.nic()
    guest, other = lab.lxc(floored), lab.qemu(plain)

    found = interfaces(network.name)

    assert set(found) == {floored.mac, plain.mac}
    assert found[floored.mac]["domain"] == guest.name
    assert found[floored.mac]["device"] == guest.device(floored)
    assert found[floored.mac]["floor_bytes_per_second"] == 500_000
    assert found[floored.mac]["class_id"] == guest.status_class_id(floored)
    assert found[plain.mac]["domain"] == other.name
    assert "floor_bytes_per_second" not in found[plain.mac]


def test_the_table_says_the_same(lab: Workbench) -> None:
    network = lab.network(average=4000)
    nic = network.nic(floor=500)
    guest = lab.lxc(nic)

    head, row, catchment = prints("list", "--network", network.name, "--interval", "0.1").splitlines()

    assert head.split()[:3] == ["NETWORK", "DOMAIN", "MAC"]
    assert row.split()[:6] == [network.name, guest.name, nic.mac, guest.device(nic), "1:3", "500"]
    assert catchment.split()[:3] == [network.name, "(without", "floor)"]


def test_rate_drops_and_backlog_are_the_kernels(lab: Workbench) -> None:
    network = lab.network(average=1000, peak=None)
    nic = network.nic(floor=500)
    lab.lxc(nic)
    # Many sockets: one alone waits before the queue is full.
    with Flood([nic.ip4] * 16, bytes_per_second=300_000):
        wait_until("packets are dropped", lambda: interfaces(network.name)[nic.mac]["drops"] > 0)
        found = interfaces(network.name, "--interval", "1")[nic.mac]

    assert found["rate_bytes_per_second"] == pytest.approx(1_000_000, rel=0.2)
    assert found["share_percent"] == pytest.approx(100, rel=0.2)
    assert found["backlog_bytes"] > 0
    assert found["bytes"] <= network.classes()[found["class_id"]].bytes


def test_one_domain_alone(lab: Workbench) -> None:
    network = lab.network()
    mine, other = network.nic(floor=100), network.nic(floor=100)
    guest = lab.qemu(mine)
    lab.qemu(other)

    assert set(interfaces(network.name, "--domain", guest.name)) == {mine.mac}


def test_networks_and_domains_are_in_order(lab: Workbench) -> None:
    networks = [lab.network() for _ in range(3)]
    for network in reversed(networks):
        lab.qemu(network.nic(floor=100), network.nic(floor=200))

    told = tells("list", "--interval", "0.1")["networks"]

    assert [network["name"] for network in told] == sorted(network.name for network in networks)
    for network in told:
        keys = [(interface["domain"], interface["mac"]) for interface in network["interfaces"]]
        assert keys == sorted(keys)


def test_names_are_printed_whatever_they_are(lab: Workbench) -> None:
    network = lab.network(name="R&D <Büro>'s 研究")
    assert network.name in prints("list", "--interval", "0.1")
    assert interfaces(network.name) == {}


def test_no_privilege_is_needed(lab: Workbench) -> None:
    network = lab.network()
    nic = network.nic(floor=500)
    lab.qemu(nic)

    assert set(interfaces(network.name)) == {nic.mac}
    row = prints("list", "--interval", "0.1", user=UNPRIVILEGED).splitlines()[1]
    assert row.split()[4:6] == ["1:3", "500"]


def test_unknown_network_is_named(lab: Workbench) -> None:
    assert "'nowhere'" in fails(3, "list", "--network", "nowhere")


@pytest.mark.parametrize("interval", ["", "0", "soon", "-1", "nan", "1e9", "1s"])
def test_interval_must_be_a_stretch_of_time(interval: str) -> None:
    assert "--interval" in fails(2, "list", "--interval", interval)


@pytest.mark.parametrize("args", [[], ["no-such-command"], ["list", "--no-such-option"], ["list", "word"]])
def test_wrong_usage_is_one_sentence(args: list[str]) -> None:
    fails(2, *args)


def test_connection_that_does_not_answer_is_named() -> None:
    assert "lxc+unix:///system?socket=/no/such/socket" in fails(3, "list", "--connect", "lxc+unix:///system?socket=/no/such/socket")


def test_full_device_is_no_success(lab: Workbench) -> None:
    lab.network()
    with open("/dev/full", "w") as full:
        done = subprocess.run(["virt-floor", "list"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 3
    assert "standard output" in done.stderr
