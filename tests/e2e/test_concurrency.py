# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many clients at once, and a daemon that is killed in the middle of it."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import libvirt
import pytest
from lab import CATCHMENT, ROOT, Network, Workbench, check_tree, daemon, status

THREADS = 8
OPERATIONS = 1000


def plug_and_unplug(network: Network, thread: int, operations: int) -> None:
    """Plugs, changes and unplugs through a client of its own; has at most four ports at a time."""
    conn = libvirt.open("qemu:///system")
    handle = conn.networkLookupByName(network.name)
    choice = random.Random(thread)
    mine: list[libvirt.virNetworkPort] = []
    try:
        for count in range(operations):
            if mine and (len(mine) == 4 or choice.random() < 0.4):
                mine.pop(choice.randrange(len(mine))).delete(0)
            else:
                mac = f"52:54:00:{0xA0 + thread:02x}:{count >> 8:02x}:{count & 255:02x}"
                nic = network.nic(mac=mac, floor=choice.randint(1, 50))
                port = handle.portCreateXML(network.port_xml(nic), 0)
                mine.append(port)
                if count % 10 == 0 and choice.random() < 0.5:
                    port.setParameters({"inbound.floor": choice.randint(1, 60)}, 0)
        for port in mine:
            port.delete(0)
    finally:
        conn.close()


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


@pytest.mark.parametrize("seed", range(6))
def test_kill9_in_the_middle_of_plugging_and_unplugging(lab: Workbench, libvirtd, seed: int) -> None:
    network = lab.network(average=2000, peak=4000)
    kept = [network.create_port(network.nic(mac=f"52:54:00:b3:00:{n:02x}", floor=20)) for n in range(4)]

    def disturb(thread: int) -> None:
        try:
            plug_and_unplug(network, 16 + thread, 100000)
        except libvirt.libvirtError:
            pass  # the daemon is gone

    with ThreadPoolExecutor(2) as pool:
        workers = [pool.submit(disturb, n) for n in range(2)]
        time.sleep(random.Random(seed).uniform(0.05, 0.4))  # where it is cut is left to chance
        libvirtd.kill9()
        for worker in workers:
            worker.result()
    libvirtd.start()
    floored = check_tree(network, steering=False)
    assert {port.uuid: port.class_id for port in kept}.items() <= {port.uuid: port.class_id for port in floored}.items()
    for port in network.ports():
        network.delete_port(port)
    check_tree(network)
    assert status.read(network.name).ports == {}
