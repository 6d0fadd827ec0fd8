# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guests go, in any way, and nothing of them stays."""

import os
import signal
from typing import Callable

import pytest
from lab import CATCHMENT, ROOT, Guest, Network, Workbench, check_tree, kernel, status, wait_until


@pytest.fixture(params=["lxc", "qemu"])
def start_guest(request: pytest.FixtureRequest, lab: Workbench) -> Callable[..., Guest]:
    return getattr(lab, request.param)


def assert_as_new(network: Network) -> None:
    """The network is as it was before its first guest."""
    assert set(network.classes()) == {ROOT, CATCHMENT}
    assert [each for each in kernel.tc_filters(network.bridge)] == []
    assert status.read(network.name).ports == {} and network.ports() == []
    check_tree(network)


def test_destroyed_guest_leaves_nothing(lab: Workbench, start_guest: Callable[..., Guest]) -> None:
    network = lab.network()
    fresh = network.shapes()
    guest = start_guest(network.nic(floor=500), network.nic(floor=200))
    guest.destroy()
    assert_as_new(network)
    assert network.shapes() == fresh


def test_crashed_guest_leaves_nothing(lab: Workbench, start_guest: Callable[..., Guest]) -> None:
    network = lab.network()
    guest = start_guest(network.nic(floor=500))
    os.kill(guest.pid(), signal.SIGKILL)
    guest.wait_until_gone()
    check_tree(network, eventually=True)
    assert_as_new(network)


def test_lxc_guest_that_ends_by_itself_leaves_nothing(lab: Workbench) -> None:
    network = lab.network()
    guest = lab.lxc(network.nic(floor=500))
    guest.virsh("shutdown", guest.name, "--mode", "signal")
    guest.wait_until_gone()
    check_tree(network, eventually=True)
    assert_as_new(network)


def test_detached_lxc_interface_leaves_the_others(lab: Workbench) -> None:
    network = lab.network()
    guest = lab.lxc(network.nic(floor=500), network.nic(floor=300))
    guest.detach(guest.nics[0])
    assert set(network.classes()) == {ROOT, CATCHMENT, 4}
    check_tree(network)
    guest.attach(network.nic(floor=400))
    assert guest.nics[1].class_id() == 3
    check_tree(network)


def test_interface_that_qemu_refuses_leaves_nothing(lab: Workbench) -> None:
    """The port is made before QEMU is asked for the device, and must go when QEMU says no."""
    network = lab.network()
    guest = lab.qemu(network.nic(floor=500))
    before = network.shapes()
    nic = network.nic(floor=300)
    nic.raw_bandwidth = "<model type='virtio'/><rom file='/nonexistent'/><bandwidth><inbound floor='300'/></bandwidth>"
    guest.attach_fails(nic)
    assert network.shapes() == before
    check_tree(network)


def test_guest_that_does_not_start_leaves_nothing(lab: Workbench) -> None:
    network = lab.network()
    guest = lab.described_lxc(network.nic(floor=500))
    good = guest.xml
    guest.xml = lambda: good().replace("/bin/sh", "/nonexistent")  # type: ignore[method-assign]
    guest.create_fails()
    check_tree(network, eventually=True)
    assert_as_new(network)


def test_net_destroy_with_guests_leaves_nothing(lab: Workbench, start_guest: Callable[..., Guest]) -> None:
    network = lab.network()
    guest = start_guest(network.nic(floor=500))
    network.destroy()
    assert status.files() == set()
    assert network.bridge not in kernel.devices()
    guest.destroy()
    network.start()
    check_tree(network)
    assert lab.qemu(network.nic(floor=100)).nic.class_id() == 3


def test_guests_destroyed_after_net_destroy_and_net_start(lab: Workbench) -> None:
    network = lab.network()
    old = lab.qemu(network.nic(floor=500))
    network.destroy()
    network.start()
    new = lab.qemu(network.nic(floor=100))
    old.destroy()
    assert new.nic.class_id() == 3
    check_tree(network)


def test_port_deleted_through_the_api_leaves_nothing(lab: Workbench) -> None:
    network = lab.network()
    port = network.create_port(network.nic(floor=500))
    network.delete_port(port)
    assert_as_new(network)


def test_a_port_that_is_not_there_cannot_be_deleted_twice(lab: Workbench) -> None:
    network = lab.network()
    kept = network.create_port(network.nic(floor=300))
    port = network.create_port(network.nic(floor=500))
    network.delete_port(port)
    with pytest.raises(Exception, match=port.uuid):
        network.delete_port(port)
    assert [each.uuid for each in check_tree(network, steering=False)] == [kept.uuid]


def test_unplug_frees_bandwidth_for_the_next(lab: Workbench) -> None:
    network = lab.network(average=1000, peak=1000)
    guest = lab.qemu(network.nic(floor=1000))
    assert "would overcommit" in lab.described_qemu(network.nic(floor=1)).create_fails()
    guest.destroy()
    wait_until("the tap is gone", lambda: not any(name.startswith("vnet") for name in kernel.devices()))
    lab.qemu(network.nic(floor=1000))
    check_tree(network)
