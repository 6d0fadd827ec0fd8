# SPDX-License-Identifier: LGPL-2.1-or-later
"""The module comes to a host whose networks already run under stock libvirt."""

from typing import Iterator

import pytest
from lab import Workbench, check_tree, kernel, run, status, virsh, wait_until


@pytest.fixture
def stock(libvirtd) -> Iterator[object]:
    """The daemon with the distribution's own network driver."""
    libvirtd.restart("--stock", "--tc-shim")
    yield libvirtd
    libvirtd.restart()


def stock_filters(bridge: str) -> list[kernel.Filter]:
    return [each for each in kernel.tc_filters(bridge) if each.preference in (1, 2)]


@pytest.mark.parametrize("kind", ["lxc", "qemu"])
def test_trees_are_taken_over_with_their_floors_and_ids(stock, lab: Workbench, kind: str) -> None:
    network = lab.network(average=4000, peak=8000)
    guests = [getattr(lab, kind)(network.nic(floor=100 * n)) for n in (3, 4, 5)]
    guests[0].destroy()
    ids = {guest.nic.mac: (guest.nic.class_id(), guest.nic.port().floor) for guest in guests[1:]}
    assert list(ids.values()) == [(4, 400), (5, 500)]
    assert stock_filters(network.bridge)

    stock.restart()
    check_tree(network, eventually=True)
    assert {port.mac: (port.class_id, port.floor) for port in network.ports()} == ids
    assert stock_filters(network.bridge) == [], kernel.tc_filters_text(network.bridge)
    assert status.read(network.name).repairs == 0  # nobody harmed a tree of ours


def test_classes_keep_their_counters(stock, lab: Workbench) -> None:
    network = lab.network()
    guest = lab.lxc(network.nic(floor=500))
    run("ping", "-q", "-c", "3", "-i", "0.1", guest.nic.ip4)
    before = network.classes()[3].packets
    assert before >= 3
    stock.restart()
    assert network.classes()[3].packets >= before
    check_tree(network, eventually=True)


def test_guests_under_stock_are_unplugged_and_replaced_under_ours(stock, lab: Workbench) -> None:
    network = lab.network()
    old = lab.qemu(network.nic(floor=500))
    stock.restart()
    wait_until("it is there", old.is_running)
    new = lab.qemu(network.nic(floor=300))
    assert new.nic.class_id() == 4
    old.domiftune(old.nic, "0,0,0,600")
    check_tree(network)
    old.destroy()
    check_tree(network)
    new.destroy()
    check_tree(network)
    network.destroy()


def test_ids_that_stock_leaked_are_free_again(stock, lab: Workbench) -> None:
    network = lab.network()
    lab.qemu(network.nic(floor=100)).destroy()
    gone = lab.qemu(network.nic(floor=100))
    network.destroy()
    network.start()
    gone.destroy()
    assert lab.qemu(network.nic(floor=100)).nic.class_id() == 4  # stock's leak
    stock.restart()
    check_tree(network, eventually=True)
    assert lab.qemu(network.nic(floor=100)).nic.class_id() == 3
    check_tree(network)


def test_networks_without_bandwidth_are_not_touched(stock, lab: Workbench) -> None:
    network = lab.plain_network()
    lab.qemu(network.nic())
    before = run("tc", "qdisc", "show", "dev", network.bridge), virsh("net-dumpxml", network.name)
    stock.restart()
    assert (run("tc", "qdisc", "show", "dev", network.bridge), virsh("net-dumpxml", network.name)) == before


def test_back_to_stock_and_forth_again(stock, lab: Workbench) -> None:
    network = lab.network()
    guest = lab.qemu(network.nic(floor=500))
    stock.restart()
    check_tree(network, eventually=True)
    stock.restart("--stock", "--tc-shim")
    assert network.is_active() and guest.is_running()
    stock.restart()
    check_tree(network, eventually=True)
    assert guest.nic.class_id() == 3
