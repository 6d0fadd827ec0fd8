# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many clients at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import libvirt
from lab import CATCHMENT, ROOT, Workbench, check_tree, plug_and_unplug

THREADS = 8
OPERATIONS = 1000


def test_eight_threads_and_a_thousand_operations(lab: Workbench) -> None:
    network = lab.network(average=2000, peak=4000)
    fresh = network.shapes()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda n: plug_and_unplug(network, n, OPERATIONS // THREADS), range(THREADS)))
    assert network.ports() == []
    check_tree(network)
    assert network.shapes() == fresh
    assert set(network.classes()) == {ROOT, CATCHMENT}


def test_threads_that_keep_their_ports_have_unique_ids_and_exact_sums(lab: Workbench) -> None:
    network = lab.network(average=8000, peak=16000)

    def plug(thread: int) -> list[int]:
        return [
            network.create_port(network.nic(mac=f"52:54:00:b0:{thread:02x}:{n:02x}", floor=10 + n)).class_id
            for n in range(12)
        ]

    with ThreadPoolExecutor(THREADS) as pool:
        ids = [each for batch in pool.map(plug, range(THREADS)) for each in batch]
    assert sorted(ids) == list(range(3, 3 + 12 * THREADS))
    check_tree(network, steering=False)


def test_admission_is_exact_when_many_ask_at_once(lab: Workbench) -> None:
    """Room for 30 of 64: exactly 30 get in."""
    network = lab.network(average=300, peak=300)

    def plug(n: int) -> bool:
        try:
            network.create_port(network.nic(mac=f"52:54:00:b1:00:{n:02x}", floor=10))
            return True
        except libvirt.libvirtError as error:
            assert "would overcommit" in str(error), error
            return False

    with ThreadPoolExecutor(THREADS) as pool:
        assert sum(pool.map(plug, range(64))) == 30
    check_tree(network, steering=False)


def test_plugs_while_the_network_is_destroyed_and_started(lab: Workbench) -> None:
    network = lab.network()
    stop = threading.Event()

    def plug(thread: int) -> None:
        while not stop.is_set():
            try:
                nic = network.nic(mac=f"52:54:00:b2:00:{thread:02x}", floor=10)
                network.delete_port(network.create_port(nic))
            except libvirt.libvirtError:
                pass  # the network was not there just now

    with ThreadPoolExecutor(4) as pool:
        workers = [pool.submit(plug, n) for n in range(4)]
        try:
            for _ in range(5):
                network.destroy()
                network.start()
        finally:
            stop.set()
        for worker in workers:
            worker.result()
    for port in network.ports():
        network.delete_port(port)
    check_tree(network)
