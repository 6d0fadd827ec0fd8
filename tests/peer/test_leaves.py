# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which queue the classes get, by what the kernel has."""

import os
import pathlib
from typing import Callable, Iterator

import pytest
from lab import CATCHMENT, Network, Workbench, check_tree, daemon, kernel, run, traffic, wait_until

MODPROBE = pathlib.Path("/etc/modprobe.d/peer.conf")
LACKING = pathlib.Path(os.environ["BUILD_DIR"]) / "tests/e2e/lacking.so"


@pytest.fixture
def restart_without(libvirtd) -> Iterator[Callable[..., None]]:
    """Restarts libvirtd where the kernel seems not to know these qdiscs."""

    def restart(*kinds: str) -> None:
        libvirtd.stop()
        MODPROBE.write_text("")
        for kind in set(kinds) - {"fq_codel"}:
            MODPROBE.write_text(f"install sch_{kind} /bin/false\n")
            run("modprobe", "--remove", f"sch_{kind}")
            assert not kernel.kernel_has_qdisc(kind)
        # Debian's kernel has it built in.
        without = ("fq_codel", "--preload", str(LACKING)) if "fq_codel" in kinds else ("",)
        run("env", f"LACKING={without[0]}", "sandbox-libvirtd", "start", *without[1:])

    yield restart
    MODPROBE.write_text("")
    daemon.restart()


def check_leaves_are(network: Network, kind: str) -> None:
    classes = {CATCHMENT, *(port.class_id for port in check_tree(network))}
    leaves = kernel.tc_leaves(network.bridge)
    assert {leaves.get(class_id, "pfifo") for class_id in classes} == {kind}, leaves


MISSING = {"fq_codel": (), "sfq": ("fq_codel",), "pfifo": ("fq_codel", "sfq")}


@pytest.mark.parametrize("kind", MISSING)
def test_leaf_is_the_best_that_is_left(lab: Workbench, restart_without, kind: str) -> None:
    restart_without(*MISSING[kind])
    network = lab.network()
    guest, other = lab.lxc(network.nic(floor=500)), lab.lxc(network.nic(floor=300))
    check_leaves_are(network, kind)
    for address in (guest.nic.ip4, other.nic.ip6):
        wait_until("it answers", lambda: traffic.answers_ping(address))
    other.destroy()
    check_leaves_are(network, kind)


def test_leaves_of_our_own_stay_as_they_are(lab: Workbench, libvirtd, restart_without) -> None:
    """No packet of a right tree is lost at a restart, though the kernel knows a better queue by now."""
    restart_without("fq_codel")
    network = lab.network()
    lab.lxc(network.nic(floor=500))
    libvirtd.stop()
    with kernel.ChangeMonitor(network.bridge) as monitor:
        libvirtd.start()
        assert monitor.count() == 0
    lab.lxc(network.nic(floor=300))
    check_leaves_are(network, "sfq")


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
