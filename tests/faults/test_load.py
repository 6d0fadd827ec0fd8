# SPDX-License-Identifier: LGPL-2.1-or-later
"""Clients that plug, change and unplug without a pause, guests under a flood, and a daemon that is
stopped or killed every few seconds: no error but those that a lost connection brings, nothing that
grows, and each guest with its floor in each second."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import enum
import multiprocessing
import os
import pathlib
import random
import statistics
import threading
import time
import uuid
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Callable, Iterator, Optional

import libvirt
from lab import LxcGuest, Network, Workbench, check_tree, connection, daemon, kernel, run, status, traffic, wait_until
from lab.invariants import check_static

CLIENTS = 8
MOST_PORTS = 4  # of one client at a time
LIMIT = 2000
FLOORS = (250, 350, 500, 650)
MOST_FLOOR = 16  # of a client's port: they use none of it, and a larger one would be a larger surplus
OFFERED = 1_500_000  # bytes per second to each guest

WARM_UP_S = 4  # of a life of the daemon: its threads are there, their heaps have their size
MEMORY_BOUND_KIB = 1024
ENOUGH = 0.9  # of a floor, in a second: a frame and HTB's burst are less than 1 % of the smallest

FORK = multiprocessing.get_context("fork")
stop = FORK.Event()  # the clients and the flood, which are processes of their own

Code = tuple[int, int]  # an error's domain and code

# What a client meets when the daemon goes while it waits, or before it comes back.
CONNECTION_LOST: set[Code] = {
    (libvirt.VIR_FROM_RPC, libvirt.VIR_ERR_SYSTEM_ERROR),
    (libvirt.VIR_FROM_RPC, libvirt.VIR_ERR_INTERNAL_ERROR),
}


def code_of(error: libvirt.libvirtError) -> Code:
    return error.get_error_domain(), error.get_error_code()


def port_of(network: libvirt.virNetwork, port: str) -> libvirt.virNetworkPort:
    return network.portLookupByUUIDString(port)


@dataclasses.dataclass
class Tally:
    """What became of a client's calls."""

    operations: int = 0
    refused: int = 0
    lost: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    floors: dict[str, int] = dataclasses.field(default_factory=dict)  # of the ports it has, by UUID


class Answer(enum.Enum):
    DONE = enum.auto()
    DONE_BEFORE = enum.auto()
    REFUSED = enum.auto()  # the floors of all clients may be more than there is
    REFUSED_AT_LAST = enum.auto()  # by a second call, after a first that may have done a part


class Client:
    """Calls libvirt's API, and calls again when the connection breaks: each call until it is answered."""

    def __init__(self, network: Network, number: int) -> None:
        self.tally = Tally()
        self._description = network
        self._number = number
        self._choice = random.Random(number)
        self._connection: Optional[libvirt.virConnect] = None

    def work(self) -> Tally:
        floors = self.tally.floors
        while not stop.is_set():
            self.tally.operations += 1
            if len(floors) < MOST_PORTS and self._choice.random() < 0.5:
                self._plug()
            elif floors and self._choice.random() < 0.5:
                self._change(self._choice.choice(list(floors)))
            elif floors:
                self._unplug(self._choice.choice(list(floors)))
        return self.tally

    def _plug(self) -> None:
        port, floor = str(uuid.uuid4()), self._floor()
        mac = f"52:54:01:{self._number:02x}:{self._choice.randrange(256):02x}:{self._choice.randrange(256):02x}"
        xml = self._description.port_xml(self._description.nic(mac=mac, floor=floor), port_uuid=port)
        answer = self._call(lambda network: network.portCreateXML(xml, 0), libvirt.VIR_ERR_NETWORK_PORT_EXIST)
        if answer is Answer.DONE:
            self.tally.floors[port] = floor
        elif answer is Answer.DONE_BEFORE or answer is Answer.REFUSED_AT_LAST and self._is_there(port):
            self.tally.floors[port] = 0  # a daemon that was killed may not have come to the floor
            self._unplug(port)

    def _is_there(self, port: str) -> bool:
        there = False

        def look(network: libvirt.virNetwork) -> None:
            nonlocal there
            there = port in [each.UUIDString() for each in network.listAllPorts(0)]

        self._call(look)
        return there

    def _change(self, port: str) -> None:
        floor = self._floor()
        answer = self._call(lambda network: port_of(network, port).setParameters({"inbound.floor": floor}, 0))
        if answer is Answer.DONE:
            self.tally.floors[port] = floor

    def _unplug(self, port: str) -> None:
        self._call(lambda network: port_of(network, port).delete(0), libvirt.VIR_ERR_NO_NETWORK_PORT)
        del self.tally.floors[port]

    def _floor(self) -> int:
        return self._choice.randint(1, MOST_FLOOR)

    def _call(self, function: Callable[[libvirt.virNetwork], object], done_before: Optional[int] = None) -> Answer:
        """done_before: the error by which a second call says that the first was carried out."""
        again = False
        while True:
            try:
                function(self._network())
                return Answer.DONE
            except libvirt.libvirtError as error:
                if code_of(error) in CONNECTION_LOST:
                    self.tally.lost[str(error)] += 1
                elif again and error.get_error_code() == done_before:
                    return Answer.DONE_BEFORE
                elif "would overcommit" in str(error):
                    self.tally.refused += 1
                    return Answer.REFUSED_AT_LAST if again else Answer.REFUSED
                else:
                    raise
            self._connection = None
            again = True
            time.sleep(0.02)  # a client's rest before it tries again

    def _network(self) -> libvirt.virNetwork:
        if not self._connection:
            self._connection = libvirt.open("qemu:///system")
        return self._connection.networkLookupByName(self._description.name)


def run_client(network: Network, number: int) -> Tally:
    os.nice(5)  # the load is to be on the daemon, not on those who send and measure
    try:
        return Client(network, number).work()
    except libvirt.libvirtError as error:
        raise AssertionError(f"client {number} met {code_of(error)}: {error}") from None


def run_flood(addresses: list[str]) -> None:
    os.nice(-10)  # what is not offered cannot be shared
    with traffic.Flood(addresses, OFFERED):
        stop.wait()


def is_backlogged(network: Network) -> bool:
    """Each class has sent for a while: the guests', the catchment, the root."""
    return all(each.packets > 200 for each in network.classes().values())


@dataclasses.dataclass
class Load:
    clients: list[Future[Tally]] = dataclasses.field(default_factory=list)

    def check(self) -> None:
        """No client has met what it did not expect."""
        for client in self.clients:
            assert not client.done(), client.result()

    def tallies(self) -> list[Tally]:
        return [client.result() for client in self.clients]


@contextlib.contextmanager
def load_on(network: Network, flooded: list[str]) -> Iterator[Load]:
    """The clients at work, and a flood to these addresses, for as long as the block lasts."""
    stop.clear()
    with ProcessPoolExecutor(CLIENTS + 1, mp_context=FORK) as pool, contextlib.ExitStack() as at_end:
        at_end.callback(stop.set)
        load = Load()
        if flooded:
            pool.submit(run_flood, flooded)
            wait_until("the tree is in its steady state", lambda: is_backlogged(network))
        load.clients += [pool.submit(run_client, network, number) for number in range(CLIENTS)]
        yield load


@dataclasses.dataclass
class Second:
    start: float
    end: float
    total: float  # of the network's rate: less than all of it where the machine had no time to send
    smallest: float  # share of its floor that a guest got, of what was sent


class Sampler:
    """What each guest got in each second, counted where it leaves the host for the guest."""

    def __init__(self, floored: list[LxcGuest], others: list[LxcGuest]) -> None:
        self._floors = {guest.device(guest.nic): guest.nic.inbound["floor"] * 1000 for guest in floored}
        self._devices = [*self._floors, *(guest.device(guest.nic) for guest in others)]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._samples: list[tuple[float, dict[str, int]]] = []

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        begin = time.monotonic()
        while True:
            self._samples.append((time.monotonic(), {each: traffic.received_bytes(each) for each in self._devices}))
            if self._stop.wait(begin + len(self._samples) - time.monotonic()):
                return

    def seconds(self) -> list[Second]:
        result = []
        for (start, before), (end, after) in zip(self._samples, self._samples[1:]):
            rates = {each: (after[each] - before[each]) / (end - start) for each in self._devices}
            total = min(1.0, sum(rates.values()) / (LIMIT * 1000))
            shares = [rates[each] / (floor * total) for each, floor in self._floors.items()]
            result.append(Second(start, end, total, min(shares)))
        return result


@dataclasses.dataclass
class Census:
    """What the daemon holds. Of the descriptors the fewest, as calls open some for a moment."""

    memory_kib: float
    descriptors: int

    @staticmethod
    def take() -> Census:
        memory, descriptors = [], []
        for _ in range(10):
            memory.append(daemon.memory_kib())
            descriptors.append(len(daemon.descriptors()))
            time.sleep(0.02)  # the distance of the samples
        return Census(statistics.median(memory), min(descriptors))


def belongings(network: Network) -> dict[str, object]:
    """All that plugs make, and unplugs have to take away."""
    ports = pathlib.Path(f"/run/libvirt/network/{network.name}/ports")
    text = kernel.tc_filters_text(network.bridge)
    return {
        "classes": network.shapes(),
        "leaves": kernel.tc_leaves(network.bridge),
        "filters": len(kernel.tc_filters(network.bridge)),
        "tables": text.count("ht divisor"),
        "status files": status.files(),
        "libvirt's port files": sorted(path.name for path in ports.iterdir()),
        "ports": sorted(port.uuid for port in network.ports()),
    }


@dataclasses.dataclass
class Lives:
    """The daemon's lives during the load: what each gained, and when one ended and the next began."""

    memory_gained: list[float] = dataclasses.field(default_factory=list)
    descriptors_gained: list[int] = dataclasses.field(default_factory=list)
    restarts: list[tuple[float, float]] = dataclasses.field(default_factory=list)

    def live(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        time.sleep(WARM_UP_S)
        young = Census.take()
        time.sleep(max(0.0, end - time.monotonic()))
        old = Census.take()
        self.memory_gained.append(old.memory_kib - young.memory_kib)
        self.descriptors_gained.append(old.descriptors - young.descriptors)

    def restart(self) -> None:
        begin = time.monotonic()
        if len(self.restarts) % 3 == 2:
            daemon.kill9()
            daemon.start()
        else:
            daemon.restart()
        self.restarts.append((begin, time.monotonic()))

    def had_restart_in(self, start: float, end: float) -> bool:
        return any(begin < end and start < back for begin, back in self.restarts)


def delete_port(network: Network, port: str) -> None:
    with connection() as conn:
        port_of(conn.networkLookupByName(network.name), port).delete(0)


def ways(network: Network, guests: list[LxcGuest]) -> list[tuple[int, int]]:
    """Of each guest: the bytes that its class counted, and those that it got."""
    return [
        (network.classes()[guest.nic.class_id()].bytes, traffic.received_bytes(guest.device(guest.nic)))
        for guest in guests
    ]


def check_ways(before: list[tuple[int, int]], after: list[tuple[int, int]]) -> None:
    for (counted_before, got_before), (counted, got) in zip(before, after):
        share = (counted - counted_before) / (got - got_before)
        assert 0.99 <= share <= 1.01, f"{share} of what a guest got went through its class: was it made anew?"


def check_all_gone_afterwards(network: Network, tallies: list[Tally], before: dict[str, object]) -> None:
    """Each client's ports are there with the floors it knows of, and no others; and leave nothing."""
    known = {port: floor for tally in tallies for port, floor in tally.floors.items()}
    there = {port.uuid: port.floor for port in network.ports() if port.uuid not in before["ports"]}
    assert there == known
    check_static(network)
    for port in known:
        delete_port(network, port)
    wait_until("what the clients made is gone", lambda: belongings(network) == before, seconds=30)
    check_tree(network)


def test_load_and_restarts(lab: Workbench, libvirtd, report, long_form: bool) -> None:
    lives, life_s = (15, 20.0) if long_form else (4, 9.0)
    network = lab.network(average=LIMIT, peak=LIMIT)
    guests = [lab.lxc(network.nic(floor=floor)) for floor in FLOORS]
    unfloored = lab.lxc(network.nic())
    check_tree(network)
    before, daemons, ways_before = belongings(network), Lives(), ways(network, guests)

    flooded = [guest.nic.ip4 for guest in (*guests, unfloored)]
    with load_on(network, flooded) as load, Sampler(guests, [unfloored]) as sampler:
        for life in range(lives):
            if life:
                daemons.restart()
            daemons.live(life_s)
            load.check()

    check_all_gone_afterwards(network, load.tallies(), before)
    check_ways(ways_before, ways(network, guests))
    seconds = sampler.seconds()
    smallest = min(each.smallest for each in seconds)
    at_restarts = [each.smallest for each in seconds if daemons.had_restart_in(each.start, each.end)]
    report.count("operations under load", sum(tally.operations for tally in load.tallies()))
    report.count("restarts under load", len(daemons.restarts))
    report.lowest("smallest share of a floor in any second", smallest)
    report.lowest("smallest share of a floor in a second with a restart", min(at_restarts))
    report.highest("memory growth in one life of the daemon", max(daemons.memory_gained), "KiB")
    report.highest("file descriptors gained", max(daemons.descriptors_gained))
    report.lowest("smallest share of the network's rate in any second", min(each.total for each in seconds))
    assert smallest >= ENOUGH, [each for each in seconds if each.smallest < ENOUGH]
    assert statistics.median(each.total for each in seconds) >= ENOUGH, seconds
    assert max(daemons.memory_gained) <= MEMORY_BOUND_KIB, daemons
    assert max(daemons.descriptors_gained) <= 0, daemons
    for tally in load.tallies():
        assert tally.operations > 100 * lives, tally
        assert tally.lost, "it met no restart"


DRIFTS = (
    "class change dev @ parent 1:1 classid 1:3 htb rate 8mbit ceil 9mbit",
    "qdisc del dev @ root",
    "filter del dev @ parent 1: protocol all pref 10",
    "class add dev @ parent 1:1 classid 1:fff0 htb rate 8mbit",
)


def test_drift_under_load(lab: Workbench, report) -> None:
    """What others change is put right within a second although the clients' calls never pause."""
    network = lab.network(average=LIMIT, peak=LIMIT)
    guest = lab.lxc(network.nic(floor=FLOORS[0]))
    before = belongings(network)

    def is_right() -> bool:
        classes = network.classes()
        return (
            0xFFF0 not in classes
            and 3 in classes
            and classes[3].shape() == before["classes"][3]
            and any((each.mac, each.class_id) == (guest.nic.mac, 3) for each in kernel.tc_filters(network.bridge))
        )

    with load_on(network, []) as load:
        for drift in DRIFTS * 2:
            run("tc", *drift.replace("@", network.bridge).split())
            start = time.monotonic()
            wait_until(f"put right after: tc {drift}", is_right, 1.0)
            report.highest("worst repair time", time.monotonic() - start, "s")
            report.count("drifts repaired")
            load.check()
    check_all_gone_afterwards(network, load.tallies(), before)
