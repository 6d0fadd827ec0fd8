# SPDX-License-Identifier: LGPL-2.1-or-later
"""The module goes while guests run, the stock driver takes over, and the module comes back (README, "Taking it
off")."""

from __future__ import annotations

import pathlib
import shutil

import pytest
from lab import Guest, Workbench, check_tree, kernel, status, traffic, wait_until
from lab.bandwidth import inbound_of

STOCK = ("--stock", "--tc-shim")
REFUSED = "network '{}' has no inbound QoS set"  # the stock driver's words


def answers(guest: Guest) -> None:
    wait_until(f"{guest.name} answers", lambda: traffic.answers_ping(guest.nic.ip4))


@pytest.mark.parametrize("status_kept", [True, False], ids=["status kept", "status removed"])
def test_stock_driver_takes_over_running_guests_and_gives_them_back(
    lab: Workbench, libvirtd, status_kept: bool
) -> None:
    network = lab.network(average=4000, peak=8000)
    lxc, leaver, plain = lab.lxc(network.nic(floor=500)), lab.lxc(network.nic(floor=300)), lab.lxc(network.nic())
    qemu = lab.qemu(network.nic(floor=700))
    guests = (lxc, leaver, plain, qemu)
    check_tree(network)
    pids = [guest.pid() for guest in guests]
    floored = {guest.nic.class_id(): guest.nic.mac for guest in (lxc, leaver, qemu)}
    tree, filters, files = network.shapes(), kernel.tc_filters(network.bridge), status.files()

    with kernel.ChangeMonitor(network.bridge) as monitor:
        libvirtd.restart(*STOCK)
        # The guests go on, and the kernel keeps their floors.
        assert network.is_active() and [guest.pid() for guest in guests] == pids
        for guest in (lxc, leaver, plain):
            answers(guest)
        for class_id, mac in floored.items():
            before = network.classes()[class_id].packets
            sent = traffic.send_frames(network.bridge, mac)
            wait_until("they go into the class", lambda: network.classes()[class_id].packets >= before + sent)
        # libvirt knows of no limits and of no class; a guest without floor is welcome, a floor is refused.
        assert inbound_of(network.dumpxml()) == {}
        assert {(port.floor, port.class_id) for port in network.ports()} == {(0, None)}
        assert qemu.status_class_id(qemu.nic) == class_of(floored, qemu)
        answers(lab.lxc(network.nic()))
        assert REFUSED.format(network.name) in lab.described_lxc(network.nic(floor=100)).create_fails()
        assert REFUSED.format(network.name) in qemu.domiftune_fails(qemu.nic, "0,0,0,900")
        # What a guest leaves behind stays.
        leaver.destroy()
        assert monitor.count() == 0
    assert (network.shapes(), kernel.tc_filters(network.bridge), status.files()) == (tree, filters, files)

    libvirtd.stop()
    if not status_kept:
        shutil.rmtree(status.STATUS_DIR)
    libvirtd.start()
    assert sorted(port.floor for port in check_tree(network)) == [500, 700]
    assert [guest.nic.class_id() for guest in (lxc, qemu)] == [class_of(floored, each) for each in (lxc, qemu)]
    answers(lab.lxc(network.nic(floor=100)))
    check_tree(network)


def class_of(floored: dict[int, str], guest: Guest) -> int:
    return next(class_id for class_id, mac in floored.items() if mac == guest.nic.mac)


def test_network_that_is_started_anew_has_the_stock_drivers_tree_and_ours_again(lab: Workbench, libvirtd) -> None:
    network = lab.network(average=4000, peak=8000)
    lab.lxc(network.nic(floor=500)).destroy()
    libvirtd.restart(*STOCK)
    network.destroy()
    network.start()
    assert inbound_of(network.dumpxml())["average"] == 4000
    guest = lab.lxc(network.nic(floor=700))
    answers(guest)
    assert guest.nic.port().floor == 700
    assert all(each.preference != kernel.FLOOR_PREFERENCE for each in kernel.tc_filters(network.bridge))

    libvirtd.restart()
    assert [port.floor for port in check_tree(network)] == [700]


def test_module_that_is_deleted_while_it_runs_goes_on_until_the_restart(
    lab: Workbench, libvirtd, tmp_path: pathlib.Path
) -> None:
    folder = tmp_path / "drivers"
    shutil.copytree("/run/sandbox/drivers", folder, symlinks=True)
    libvirtd.restart("--driver-dir", str(folder))
    network = lab.network()
    shutil.rmtree(folder)
    guest = lab.lxc(network.nic(floor=500))
    check_tree(network)
    libvirtd.restart(*STOCK)
    assert guest.is_running() and network.is_active()
    answers(guest)
