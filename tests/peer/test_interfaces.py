# SPDX-License-Identifier: LGPL-2.1-or-later
"""Interfaces with limits of their own, which libvirt sets on the guest's tap or veth, beside a floor."""

import pytest
from lab import Guest, Nic, Workbench, check_tree, kernel, run, traffic, wait_until

INBOUND = {"average": 600, "peak": 1200, "burst": 16}
OUTBOUND = {"average": 300, "peak": 400, "burst": 50}


def check_limits(guest: Guest, nic: Nic, average: int, peak: int) -> None:
    """libvirt's own shaping: an HTB class for what the guest gets, the police for what it sends."""
    device = guest.device(nic)
    assert kernel.tc_root(device), kernel.tc_qdiscs(device)
    limit = kernel.tc_classes(device)[1]
    assert (limit.rate, limit.ceil) == (average * 1000, peak * 1000), limit
    policed = run("tc", "filter", "show", "dev", device, "parent", "ffff:")
    assert ("police" in policed) == bool(nic.outbound), policed


@pytest.mark.parametrize("kind", ["lxc", "qemu"])
def test_limits_are_set_beside_the_floor(lab: Workbench, libvirtd, kind: str) -> None:
    network = lab.network()
    nic = network.nic(**INBOUND, floor=500, outbound=OUTBOUND)
    guest = getattr(lab, kind)(nic)
    check_limits(guest, nic, INBOUND["average"], INBOUND["peak"])
    assert [port.floor for port in check_tree(network)] == [500]
    libvirtd.restart()
    check_limits(guest, nic, INBOUND["average"], INBOUND["peak"])
    check_tree(network, eventually=True)
    guest.destroy()
    assert check_tree(network) == []


def test_live_change_of_limits_and_floor(lab: Workbench) -> None:
    network = lab.network()
    guest = lab.qemu(network.nic(**INBOUND, floor=500))
    guest.domiftune(guest.nic, "800,900,32,700")
    check_limits(guest, guest.nic, 800, 900)
    assert [port.floor for port in check_tree(network)] == [700]
    guest.domiftune(guest.nic, "800,900,32,0")
    check_limits(guest, guest.nic, 800, 900)
    assert check_tree(network, domain_status=False) == []


def test_guest_gets_its_floor_and_not_more_than_its_average(lab: Workbench) -> None:
    network = lab.network(average=2000, peak=None)
    limited, other = lab.lxc(network.nic(average=800, floor=600)), lab.lxc(network.nic())
    wait_until("it answers", lambda: traffic.answers_ping(limited.nic.ip4))
    device = limited.device(limited.nic)
    with traffic.Flood([limited.nic.ip4], 3_000_000):
        alone = traffic.rates(lambda: {"limited": traffic.received_bytes(device)}, 2)
    with traffic.Flood([limited.nic.ip4, other.nic.ip4], 3_000_000):
        both = traffic.rates(lambda: {"limited": traffic.received_bytes(device)}, 2)
    assert 0.9 * 800_000 <= alone["limited"] <= 1.05 * 800_000, alone
    assert 0.95 * 600_000 <= both["limited"] <= 1.05 * 800_000, both
    check_tree(network)
