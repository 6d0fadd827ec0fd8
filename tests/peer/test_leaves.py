# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which queue the classes get, by what the kernel has."""

import contextlib
import pathlib
from typing import Iterator

import pytest
from lab import CATCHMENT, Network, Workbench, check_tree, kernel, run, traffic

MODPROBE = pathlib.Path("/etc/modprobe.d/peer.conf")


@contextlib.contextmanager
def without(*kinds: str) -> Iterator[None]:
    """The kernel cannot load these qdiscs."""
    MODPROBE.write_text("".join(f"install sch_{kind} /bin/false\n" for kind in kinds))
    try:
        for kind in kinds:
            run("modprobe", "--remove", f"sch_{kind}")
            assert not kernel.kernel_has_qdisc(kind)
        yield
    finally:
        MODPROBE.unlink()


def check_leaves_are(network: Network, kind: str) -> None:
    classes = {CATCHMENT, *(port.class_id for port in check_tree(network))}
    leaves = kernel.tc_leaves(network.bridge)
    assert {leaves.get(class_id, "pfifo") for class_id in classes} == {kind}, leaves


LACKING = {"fq_codel": (), "sfq": ("fq_codel",), "pfifo": ("fq_codel", "sfq")}


@pytest.mark.parametrize("kind", LACKING)
def test_leaf_is_the_best_that_is_left(lab: Workbench, libvirtd, kind: str) -> None:
    with without(*LACKING[kind]):
        libvirtd.restart()
        network = lab.network()
        guest, other = lab.lxc(network.nic(floor=500)), lab.lxc(network.nic(floor=300))
        check_leaves_are(network, kind)
        assert traffic.answers_ping(guest.nic.ip4) and traffic.answers_ping(other.nic.ip6)
        other.destroy()
        check_leaves_are(network, kind)
        lab.clear()
    libvirtd.restart()


def test_leaves_follow_the_kernel_at_a_restart(lab: Workbench, libvirtd) -> None:
    """A queue that is as good as the kernel's best stays, another one is replaced."""
    with without("fq_codel"):
        libvirtd.restart()
        network = lab.network()
        lab.lxc(network.nic(floor=500))
        check_leaves_are(network, "sfq")
    libvirtd.restart()
    check_leaves_are(network, "fq_codel")


def test_leaves_of_stock_are_replaced_and_nothing_else(lab: Workbench, libvirtd) -> None:
    libvirtd.restart("--stock")
    network = lab.network()
    guest = lab.lxc(network.nic(floor=500))
    assert set(kernel.tc_leaves(network.bridge).values()) == {"sfq"}
    traffic.send_frames(network.bridge, guest.nic.mac, 20, [traffic.ETHERTYPES["IPv4"]])
    before = network.classes()
    libvirtd.restart()
    check_leaves_are(network, "fq_codel")
    after = network.classes()
    assert set(after) == set(before) and after[3].packets >= before[3].packets >= 20
