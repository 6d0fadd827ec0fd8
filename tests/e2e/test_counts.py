# SPDX-License-Identifier: LGPL-2.1-or-later
"""Floors that were refused and trees that were put right are counted, also over the daemon's end."""

from typing import Callable

import pytest
from lab import Network, Workbench, check_tree, daemon, run, status, wait_until

CLASS_CHANGE = "class change dev {} parent 1:1 classid 1:3 htb rate 8mbit ceil 9mbit"
TREE_REMOVAL = "qdisc del dev {} root"


def drift(network: Network, command: str = CLASS_CHANGE) -> None:
    run("tc", *command.format(network.bridge).split())


def counts(network: Network) -> tuple[int, int]:
    written = status.read(network.name)
    return written.refusals, written.repairs


def expect(network: Network, refusals: int, repairs: int) -> None:
    """The count of a repair is written after it."""
    wait_until(f"{refusals} refusals, {repairs} repairs", lambda: counts(network) == (refusals, repairs))
    check_tree(network)


def test_what_is_plugged_unplugged_and_changed_counts_nothing(lab: Workbench) -> None:
    network = lab.network()
    guest = lab.qemu(network.nic(floor=500), network.nic(floor=300))
    guest.domiftune(guest.nics[0], "0,0,0,700")
    guest.detach(guest.nics[1])
    guest.destroy()
    expect(network, 0, 0)


def test_each_way_to_be_refused_counts_once(lab: Workbench) -> None:
    network = lab.network(average=1000, peak=None)
    guest = lab.qemu(network.nic(floor=600))
    assert "would overcommit" in lab.described_lxc(network.nic(floor=401)).create_fails()
    expect(network, 1, 0)
    assert "would overcommit" in guest.attach_fails(network.nic(floor=401))
    expect(network, 2, 0)
    assert "would overcommit" in guest.domiftune_fails(guest.nic, "0,0,0,1001")
    expect(network, 3, 0)


@pytest.mark.parametrize("command", [CLASS_CHANGE, TREE_REMOVAL], ids=["class", "tree"])
def test_drift_that_is_put_right_counts_once(lab: Workbench, command: str) -> None:
    network, other = lab.network(), lab.network()
    lab.qemu(network.nic(floor=500))
    for repairs in (1, 2):
        drift(network, command)
        expect(network, 0, repairs)
    expect(other, 0, 0)


@pytest.mark.parametrize("revive", [daemon.restart, daemon.crash], ids=["stop", "kill9"])
def test_counts_live_through_a_restart(lab: Workbench, libvirtd, revive: Callable[[], None]) -> None:
    network = lab.network(average=1000, peak=None)
    guest = lab.qemu(network.nic(floor=600))
    guest.attach_fails(network.nic(floor=401))
    drift(network)
    expect(network, 1, 1)
    revive()
    expect(network, 1, 1)
    guest.attach_fails(network.nic(floor=401))
    drift(network)
    expect(network, 2, 2)
    revive()
    expect(network, 2, 2)


def test_drift_while_no_daemon_runs_counts(lab: Workbench, libvirtd) -> None:
    network = lab.network()
    lab.qemu(network.nic(floor=500))
    daemon.stop()
    drift(network)
    daemon.start()
    expect(network, 0, 1)


def test_a_network_that_starts_anew_begins_at_0(lab: Workbench) -> None:
    network = lab.network(average=1000, peak=None)
    lab.described_qemu(network.nic(floor=1001)).create_fails()
    drift(network, TREE_REMOVAL)
    expect(network, 1, 1)
    network.destroy()
    network.start()
    expect(network, 0, 0)
