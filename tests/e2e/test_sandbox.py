# SPDX-License-Identifier: LGPL-2.1-or-later
"""The sandbox itself, and what must be the same with and without our module."""

import pytest
from lab import Workbench, check_no_tree, kernel, traffic, virsh, wait_until


def test_guest_on_a_plain_network_answers_ipv4_ipv6_and_arp(lab: Workbench) -> None:
    network = lab.plain_network(forward="nat", services=True)
    guest = lab.lxc(network.nic())
    wait_until("it answers ping", lambda: traffic.answers_ping(guest.nic.ip4))
    wait_until("it answers ping6", lambda: traffic.answers_ping(guest.nic.ip6))
    assert traffic.answers_arp(network.bridge, guest.nic.mac, guest.nic.ip4, network.address)


def test_network_without_bandwidth_is_not_touched(lab: Workbench) -> None:
    network = lab.plain_network()
    check_no_tree(network)
    guest = lab.lxc(network.nic())
    check_no_tree(network)
    assert guest.nic.port().class_id is None
    assert "<bandwidth" not in network.dumpxml()


def test_qemu_machine_runs_with_two_interfaces(lab: Workbench) -> None:
    network = lab.plain_network()
    guest = lab.qemu(network.nic(), network.nic())
    guest.virsh("resume", guest.name)
    assert guest.virsh("domstate", guest.name).strip() == "running"
    assert {port.mac for port in network.ports()} == {nic.mac for nic in guest.nics}


def test_guests_and_networks_outlive_the_daemon(lab: Workbench, libvirtd) -> None:
    network = lab.plain_network(forward="nat", services=True)
    guests = [lab.lxc(network.nic()), lab.qemu(network.nic())]
    for restart in (libvirtd.restart, lambda: (libvirtd.kill9(), libvirtd.start())):
        restart()
        assert network.is_active()
        for guest in guests:
            wait_until(f"{guest.name} runs", guest.is_running)
        assert len(network.ports()) == 2


def test_client_that_names_no_uri_is_told_one(lab: Workbench, libvirtd, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon asks all drivers for one then, and what our module registers is among them."""
    with monkeypatch.context() as without_default:
        without_default.delenv("LIBVIRT_DEFAULT_URI")
        libvirtd.restart()
        assert virsh("uri").strip() == "qemu:///system"
    libvirtd.restart()


def test_host_is_not_seen(lab: Workbench) -> None:
    assert virsh("net-list", "--all", "--name").split() == []
    assert kernel.devices() == {"lo"}
