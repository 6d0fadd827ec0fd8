# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guests come and get their floors: at their start, by hot-plug, on any protocol."""

from pathlib import Path
from typing import Callable

import pytest
from lab import (
    CATCHMENT,
    ROOT,
    Guest,
    Nic,
    Workbench,
    check_tree,
    kernel,
    run,
    status,
    traffic,
    wait_until,
)

SCHEMA = str(Path(__file__).parents[2] / "schemas/floornetwork.rng")
Start = Callable[..., Guest]


@pytest.fixture(params=["lxc", "qemu"])
def start_guest(request: pytest.FixtureRequest, lab: Workbench) -> Start:
    """Starts a guest of either kind with the interfaces given."""
    return getattr(lab, request.param)


def assert_goes_into(nic: Nic, class_id: int, what: str, answers: Callable[[], bool]) -> None:
    """The guest answers, and what was sent to it went into the class and no other floor's."""
    wait_until(f"{nic.mac} answers {what}", answers)  # neighbours are known now
    before = nic.network.classes()
    assert answers()
    after = nic.network.classes()
    assert after[class_id].packets > before[class_id].packets, f"{what}: {before} {after}"


def test_start_gives_class_filter_and_id(lab: Workbench, start_guest: Start) -> None:
    network = lab.network()
    guest = start_guest(network.nic(floor=500))
    assert guest.nic.class_id() == 3
    assert guest.nic.kernel_class().rate == 500_000
    check_tree(network)


def test_id_is_in_domain_status_and_in_ours(lab: Workbench, start_guest: Start) -> None:
    network = lab.network()
    guest = start_guest(network.nic(floor=500))
    port = guest.nic.port()
    assert guest.status_class_id(guest.nic) == 3
    assert status.read(network.name).ports[port.uuid] == status.PortStatus(port.uuid, port.mac, 3, 500)
    run("xmllint", "--noout", "--relaxng", SCHEMA, str(status.network_file(network.name)))


def test_ids_are_the_lowest_free_ones(lab: Workbench) -> None:
    network = lab.network()
    guests = [lab.qemu(network.nic(floor=100)) for _ in range(3)]
    assert [guest.nic.class_id() for guest in guests] == [3, 4, 5]
    guests[1].destroy()
    check_tree(network)
    assert lab.qemu(network.nic(floor=100)).nic.class_id() == 4
    check_tree(network)


def test_defined_guest_keeps_its_own_xml(lab: Workbench) -> None:
    network = lab.network()
    guest = lab.described_qemu(network.nic(floor=500))
    guest.define()
    before = guest.virsh("dumpxml", guest.name, "--inactive")
    guest.start()
    check_tree(network)
    assert guest.virsh("dumpxml", guest.name, "--inactive") == before
    guest.destroy()
    assert guest.virsh("dumpxml", guest.name) == before


def test_several_interfaces_of_one_guest(lab: Workbench, start_guest: Start) -> None:
    network = lab.network()
    guest = start_guest(network.nic(floor=300), network.nic(), network.nic(floor=400))
    assert [nic.port().floor for nic in guest.nics] == [300, 0, 400]
    assert len(check_tree(network)) == 2


def test_interface_without_floor_shares_the_catchment(lab: Workbench, start_guest: Start) -> None:
    network = lab.network()
    guest = start_guest(network.nic())
    assert guest.nic.port().class_id is None
    assert guest.status_class_id(guest.nic) is None
    assert set(network.classes()) == {ROOT, CATCHMENT}
    check_tree(network)


@pytest.mark.parametrize(
    ("inbound", "outbound"),
    [
        ({"floor": 500, "average": 600}, None),
        ({"floor": 500, "average": 600, "peak": 700, "burst": 100}, None),
        ({"floor": 500}, {"average": 300}),
        ({"floor": 500, "average": 600, "peak": 700, "burst": 100}, {"average": 300, "peak": 400, "burst": 50}),
        ({"average": 600}, None),
    ],
    ids=["average", "average-peak-burst", "outbound", "everything", "average-and-no-floor"],
)
def test_floor_beside_the_other_values(lab: Workbench, libvirtd, inbound: dict, outbound: dict) -> None:
    libvirtd.restart("--tc-shim")  # libvirt itself runs tc for the limits of the guest's tap
    network = lab.network()
    guest = lab.qemu(network.nic(**inbound, outbound=outbound))
    port = guest.nic.port()
    assert port.inbound == inbound
    assert (port.class_id == 3) == ("floor" in inbound)
    if outbound:
        assert f"average='{outbound['average']}'" in port.xml
    check_tree(network)
    guest.destroy()
    check_tree(network)


def test_attached_interface(lab: Workbench, start_guest: Start) -> None:
    network = lab.network()
    guest = start_guest(network.nic())
    guest.attach(network.nic(floor=700))
    assert guest.nics[1].port().floor == 700
    assert guest.status_class_id(guest.nics[1]) == guest.nics[1].class_id()
    check_tree(network)


def test_ipv4_ipv6_and_arp_go_into_the_floors_class(lab: Workbench) -> None:
    network = lab.network()
    other, guest = lab.lxc(network.nic(floor=300)), lab.lxc(network.nic(floor=500))
    nic, class_id = guest.nic, guest.nic.class_id()
    assert_goes_into(nic, class_id, "ping", lambda: traffic.answers_ping(nic.ip4))
    assert_goes_into(nic, class_id, "ping6", lambda: traffic.answers_ping(nic.ip6))
    assert_goes_into(
        nic, class_id, "ARP", lambda: traffic.answers_arp(network.bridge, nic.mac, nic.ip4, network.address)
    )
    assert other.nic.kernel_class().packets < guest.nic.kernel_class().packets


def test_unfloored_guest_answers_through_the_catchment(lab: Workbench) -> None:
    network = lab.network()
    lab.qemu(network.nic(floor=500))
    nic = lab.lxc(network.nic()).nic
    assert_goes_into(nic, CATCHMENT, "ping", lambda: traffic.answers_ping(nic.ip4))
    assert_goes_into(nic, CATCHMENT, "ping6", lambda: traffic.answers_ping(nic.ip6))


def test_macs_that_differ_in_one_byte_are_told_apart(lab: Workbench) -> None:
    network = lab.network()
    mac = "52:54:00:aa:bb:cc"
    others = ["56", "55", "01", "ab", "ba", "cd"]
    macs = [mac] + [mac[: 3 * i] + other + mac[3 * i + 2 :] for i, other in enumerate(others)]
    for mac in macs:
        network.create_port(network.nic(mac=mac, floor=100))
    lab.qemu(network.nic(floor=100))  # gives the bridge its carrier
    check_tree(network)


def test_two_hundred_and_fifty_floors(lab: Workbench) -> None:
    """More than stock can: 197."""
    network = lab.network(average=40000, peak=80000)
    lab.qemu(network.nic(floor=100))
    ports = [network.create_port(network.nic(mac=f"52:54:00:00:07:{n:02x}", floor=100)) for n in range(250)]
    assert sorted(port.class_id for port in ports) == list(range(4, 254))
    check_tree(network)


def test_first_floor_changes_neither_total_nor_burst(lab: Workbench) -> None:
    network = lab.network(average=4000, peak=8000, burst=256)

    def root() -> str:
        lines = run("tc", "class", "show", "dev", network.bridge).splitlines()
        return next(line for line in lines if line.startswith("class htb 1:1 "))

    before = root()
    guest = lab.qemu(network.nic(floor=3000))
    assert root() == before
    guest.destroy()
    assert root() == before


def test_foreign_filters_are_left_alone(lab: Workbench) -> None:
    network = lab.network()
    run("tc", "filter", "add", "dev", network.bridge, "parent", "1:", "protocol", "ip", "prio", "5",
        "u32", "match", "ip", "dst", "192.0.2.1", "flowid", "1:2")  # fmt: skip
    foreign = [each for each in kernel.tc_filters(network.bridge) if each.preference == 5]
    guest = lab.qemu(network.nic(floor=500))
    check_tree(network)
    guest.destroy()
    assert [each for each in kernel.tc_filters(network.bridge) if each.preference == 5] == foreign


def test_qemu_may_keep_its_own_filter_beside_ours(lab: Workbench) -> None:
    """What libvirt's QEMU driver runs when a guest changes its MAC names u32 table 800: at preference 2."""
    network = lab.network()
    guest = lab.qemu(network.nic(floor=500))
    by_handle = ["dev", network.bridge, "parent", "1:0", "prio", "2", "handle", "800::3", "protocol", "ip", "u32"]
    match = ["match", "u16", "0x0800", "0xffff", "at", "-2", "match", "u32", "0x00000012", "0xffffffff", "at", "-12",
             "match", "u16", "0x5254", "0xffff", "at", "-14", "flowid", "1:3"]  # fmt: skip
    run("tc", "filter", "add", *by_handle, *match)
    check_tree(network, eventually=True)
    run("tc", "filter", "del", *by_handle)
    check_tree(network, eventually=True)
    guest.destroy()
    check_tree(network)


def test_leaf_is_the_best_the_kernel_has(lab: Workbench) -> None:
    network = lab.network()
    guest = lab.qemu(network.nic(floor=500))
    best = next((kind for kind in ("fq_codel", "sfq") if kernel.kernel_has_qdisc(kind)), "pfifo")
    leaves = kernel.tc_leaves(network.bridge)
    for class_id in (CATCHMENT, guest.nic.class_id()):
        assert leaves.get(class_id, "pfifo") == best
