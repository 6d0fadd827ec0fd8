# SPDX-License-Identifier: LGPL-2.1-or-later
"""Stock's own tree, whole as it is on this kernel: what is taken over of it, and what goes."""

import socket

import pytest
from lab import ROOT, Network, Workbench, check_tree, kernel, traffic
from packets import sustained_rate
from test_network import fresh_boot

SO_MARK = 36
IPV4, IPV6 = traffic.ETHERTYPES["IPv4"], traffic.ETHERTYPES["IPv6"]


@pytest.fixture
def stock(libvirtd) -> object:
    libvirtd.restart("--stock")
    return libvirtd


def stock_preferences(network: Network) -> set[str]:
    """Those of stock's filters that are there: fw at 1, u32 at 2, each leading to a class."""
    found = set()
    for line in kernel.tc_filters_text(network.bridge).splitlines():
        words = line.replace("*", "").split()
        if words[:3] == ["filter", "parent", "1:"] and ("flowid" in words or "classid" in words):
            found.add(words[words.index("pref") + 1])
    return found & {"1", "2"}


def packets_of(network: Network, class_id: int, mac: str, ethertype: int, mark: int = 0) -> int:
    """How many of 10 frames to a MAC a class gets."""
    before = network.classes()[class_id].packets
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
        frame = bytes.fromhex(mac.replace(":", "")) + b"\x02\0\0\0\0\x01" + ethertype.to_bytes(2, "big") + bytes(46)
        for _ in range(10):
            raw.sendto(frame, (network.bridge, ethertype))
    return network.classes()[class_id].packets - before


def test_filters_of_stock_go_and_classes_stay(stock, lab: Workbench) -> None:
    network = lab.network()
    guest = lab.lxc(network.nic(floor=500))
    other = lab.lxc(network.nic(floor=700))
    assert stock_preferences(network) == {"1", "2"}, kernel.tc_filters_text(network.bridge)
    assert packets_of(network, 4, other.nic.mac, IPV4) >= 10
    before = network.classes()
    stock.restart()
    check_tree(network, eventually=True)
    assert stock_preferences(network) == set(), kernel.tc_filters_text(network.bridge)
    assert (guest.nic.class_id(), other.nic.class_id()) == (3, 4)
    assert all(network.classes()[class_id].packets >= before[class_id].packets for class_id in before)


def test_ipv6_and_marked_packets_come_into_the_class(stock, lab: Workbench) -> None:
    """With stock, neither do; both do as soon as its tree was taken over."""
    network = lab.network()
    guest = lab.lxc(network.nic(floor=500))
    mac = guest.nic.mac
    assert packets_of(network, 3, mac, IPV4) >= 10
    assert packets_of(network, 3, mac, IPV6) < 10 and packets_of(network, 3, mac, IPV4, mark=1) < 10
    stock.restart()
    for ethertype in traffic.ETHERTYPES.values():
        assert packets_of(network, 3, mac, ethertype) >= 10
        assert packets_of(network, 3, mac, ethertype, mark=1) >= 10


def test_total_is_the_average_again_after_the_take_over(stock, lab: Workbench) -> None:
    """Stock raises the total to the peak with the first floor."""
    network = lab.network(average=2000, peak=4000)
    lab.lxc(network.nic(floor=500))
    other = lab.lxc(network.nic())

    def total(settle: float) -> float:
        return sustained_rate(network.bridge, [other.nic.mac], ROOT, settle, seconds=2)

    assert total(settle=0.5) > 1.5 * 2_000_000
    stock.restart()
    # HTB's root first gets back what stock let out above its rate: 1.5 MB/s for 2.5 s, at 0.5 MB/s.
    assert 0.99 * 2_000_000 <= total(settle=10) <= 1.01 * 2_000_000
    check_tree(network)


def test_autostart_by_stock_is_taken_over_before_guests_come(lab: Workbench, libvirtd) -> None:
    """The stock driver's own start succeeds here, with its tree."""
    networks = [lab.network(average=average, peak=2 * average) for average in (4000, 1000)]
    for network in networks:
        network.autostart()
    fresh_boot(libvirtd, *networks)
    for network in networks:
        check_tree(network)
        assert stock_preferences(network) == set()
    guest = lab.lxc(networks[0].nic(floor=500))
    assert guest.nic.class_id() == 3
    check_tree(networks[0])
    libvirtd.restart("--stock")
    libvirtd.restart()
    check_tree(networks[0], eventually=True)
