# SPDX-License-Identifier: LGPL-2.1-or-later
"""Traffic to guests, and what their classes carried of it. What floors and fairness share, and what can run
wherever there are classes on a device, network namespaces, and the program bench-traffic.

Rates are bytes per second of frames with their Ethernet header, as HTB counts them.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import dataclasses
import json
import os
import pathlib
import re
import subprocess
import time
from typing import Any, Callable, Iterable, Iterator, Mapping, Sequence

import libvirt

from lab import LxcGuest, Network, connection, kernel, run, wait_until
from lab.bandwidth import UNIT

IPERF_PORT = 5201
LISTENS = "0A"  # in /proc/net/tcp6

Rates = dict[int, float]
"""Class ID → bytes per second."""


@dataclasses.dataclass(frozen=True)
class Target:
    """Where a flood goes, and how much of it."""

    address: str
    rate: float
    frame: int = 1514
    frames_per_packet: int = 1

    def __str__(self) -> str:
        return f"{self.address},{self.rate:.0f},{self.frame},{self.frames_per_packet}"


class Traffic:
    """The program bench-traffic (see the head of its source)."""

    def __init__(self, program: pathlib.Path) -> None:
        self._program = str(program)

    def _start(self, *words: object) -> subprocess.Popen:
        return subprocess.Popen(
            [self._program, *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def _run(self, *words: object) -> Any:
        argv = [self._program, *map(str, words)]
        return json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)

    @contextlib.contextmanager
    def serving(self, pids: Iterable[int]) -> Iterator[None]:
        """The namespaces of these processes take what is sent, and answer, while the block lasts."""
        with self._start("serve", *pids) as server:
            assert server.stdout.readline() == "ready\n"
            yield
            server.communicate()

    @contextlib.contextmanager
    def flood(self, targets: Sequence[Target]) -> Iterator[dict[str, float]]:
        """Yields what is filled in at the end of the block: "offered" and "left out", bytes per second."""
        sent: dict[str, float] = {}
        if not targets:
            yield sent
            return
        with self._start("flood", *targets) as sender:
            try:
                yield sent
            finally:
                sent |= json.loads(sender.communicate()[0])

    def ask(self, seconds: float, flows: int, addresses: Iterable[str]) -> dict[str, float]:
        """Answers per second, by address, to so many flows each."""
        return self._run("ask", seconds, flows, *addresses)

    def ping(self, seconds: float, interval: int, address: str) -> dict[str, float]:
        """The median, p99 and most microseconds for an answer, asked each interval (microseconds)."""
        return self._run("ping", seconds, interval, address)

    @contextlib.contextmanager
    def lateness(self, seconds: float) -> Iterator[dict[str, float]]:
        """How late a sleeper is woken while the block lasts, which is seconds: median, p99, most microseconds."""
        late: dict[str, float] = {}
        with self._start("lateness", seconds) as sleeper:
            yield late
            late |= json.loads(sleeper.communicate()[0])


class World:
    """Where traffic comes from that was not sent by the host itself: a network namespace, from which the host
    forwards to the guests. What such a sender has under way is bounded by TCP alone, not by the host's limits on
    the queues of its own sockets."""

    DEVICE, PEER = "bench-world", "eth0"
    HOST4, HOST6 = "10.255.0.1", "fd00:ffff::1"
    OWN4, OWN6 = "10.255.0.2", "fd00:ffff::2"

    def __init__(self, pid: int) -> None:
        self.namespace = f"/proc/{pid}/ns/net"
        run("ip", "link", "add", self.DEVICE, "type", "veth", "peer", "name", self.PEER, "netns", str(pid))
        for address in (f"{self.HOST4}/30", f"{self.HOST6}/126"):
            run("ip", "address", "add", address, "dev", self.DEVICE, "nodad")
        run("ip", "link", "set", self.DEVICE, "up")
        for address in (f"{self.OWN4}/30", f"{self.OWN6}/126"):
            self.run("ip", "address", "add", address, "dev", self.PEER, "nodad")
        self.run("ip", "link", "set", self.PEER, "up")
        self.run("ip", "route", "add", "default", "via", self.HOST4)
        self.run("ip", "-6", "route", "add", "default", "via", self.HOST6)
        for switch in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            pathlib.Path(f"/proc/sys/net/{switch}").write_text("1")

    def run(self, *argv: str) -> str:
        return run("nsenter", f"--net={self.namespace}", *argv)

    @contextlib.contextmanager
    def one_frame_a_packet(self) -> Iterator[None]:
        """TCP that starts in the block hands over no packet larger than a frame: no GSO."""
        self.run("ip", "link", "set", "dev", self.PEER, "gso_max_segs", "1")
        try:
            yield
        finally:
            self.run("ip", "link", "set", "dev", self.PEER, "gso_max_segs", "65535")

    @contextlib.contextmanager
    def streams(self, addresses: Sequence[str], flows: int) -> Iterator[None]:
        """TCP (iperf3) to each address, as fast as it goes, in so many flows each."""
        with contextlib.ExitStack() as stack:
            for address in addresses:
                argv = ["iperf3", "-c", address, "-t", "3600", "-P", str(flows), "-i", "0"]
                stack.enter_context(_process(["nsenter", f"--net={self.namespace}", *argv]))
            yield


@contextlib.contextmanager
def world() -> Iterator[World]:
    """The device goes with the namespace, and that with its process."""
    argv = ["unshare", "--net", "sh", "-c", "echo; exec sleep infinity"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        try:
            process.stdout.readline()
            yield World(process.pid)
        finally:
            process.kill()


def start(guest: LxcGuest) -> None:
    """Creates an LXC guest, gives it a way to the world by the first network that it has, and the host its addresses
    for good: ARP and neighbour discovery would wait in the queues that a flood has filled."""
    guest.create()
    first = guest.nics[0].network
    inside = ["nsenter", f"--net=/proc/{guest.init_pid()}/ns/net"]
    run(*inside, "ip", "route", "add", "default", "via", first.address)
    run(*inside, "ip", "-6", "route", "add", "default", "via", f"fd00:{first.index}::1")
    for nic in guest.nics:
        for address in (nic.ip4, nic.ip6):
            run("ip", "neighbour", "replace", address, "lladdr", nic.mac, "nud", "permanent", "dev", nic.network.bridge)


@contextlib.contextmanager
def iperf_servers(pids: Sequence[int]) -> Iterator[None]:
    """iperf3 -s in the network namespace of each process."""
    with contextlib.ExitStack() as stack:
        for pid in pids:
            argv = ["nsenter", f"--net=/proc/{pid}/ns/net", "iperf3", "-s"]
            stack.enter_context(_process(argv))
        listening = re.compile(rf":{IPERF_PORT:04X} \S+ {LISTENS} ")
        for pid in pids:
            table = pathlib.Path(f"/proc/{pid}/net/tcp6")
            wait_until("iperf3 listens", lambda table=table: listening.search(table.read_text()))
        yield


@contextlib.contextmanager
def _process(argv: Sequence[str]) -> Iterator[None]:
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(argv, stdin=quiet, stdout=quiet, stderr=quiet)
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def busy_processors() -> Iterator[None]:
    """As many processes that compute without end as there are processors."""
    with contextlib.ExitStack() as stack:
        for _ in os.sched_getaffinity(0):
            stack.enter_context(_process(["sh", "-c", "while :; do :; done"]))
        yield


class _Parameter(ctypes.Structure):
    _fields_ = [("field", ctypes.c_char * 80), ("type", ctypes.c_int), ("value", ctypes.c_uint64)]


def _set_floor(port: libvirt.virNetworkPort, floor: int) -> None:
    """virNetworkPortSetParameters: the binding's method refuses a port that has none yet."""
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    function = ctypes.CDLL("libvirt.so.0").virNetworkPortSetParameters
    function.argtypes = (ctypes.c_void_p, ctypes.POINTER(_Parameter), ctypes.c_int, ctypes.c_uint)
    parameter = _Parameter(b"inbound.floor", libvirt.VIR_TYPED_PARAM_UINT, floor)
    if function(pointer(port._o, b"virNetworkPortPtr"), ctypes.byref(parameter), 1, 0) < 0:
        raise libvirt.libvirtError("virNetworkPortSetParameters() failed")


def set_floors(network: Network, wanted: Mapping[str, int]) -> dict[str, int]:
    """Gives these MAC addresses these floors (kB/s, 0 for none) as virsh domiftune does; returns the class ID of
    each that has one then."""
    with connection() as conn:
        handle = conn.networkLookupByName(network.name)
        ports = {port.mac: port for port in network.ports()}
        # First what goes down, so that the sum never passes the limit.
        for mac in sorted(wanted, key=lambda mac: wanted[mac] - ports[mac].floor):
            if wanted[mac] != ports[mac].floor:
                _set_floor(handle.portLookupByUUIDString(ports[mac].uuid), wanted[mac])
    return {port.mac: port.class_id for port in network.ports() if port.class_id is not None}


@dataclasses.dataclass(frozen=True)
class Processors:
    """Seconds of all processors since the boot: all, idle, and taken away by the host."""

    all: int
    idle: int
    stolen: int

    @staticmethod
    def now() -> Processors:
        fields = [int(field) for field in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        return Processors(sum(fields), fields[3] + fields[4], fields[7])

    def idle_since(self, before: Processors) -> float:
        return (self.idle - before.idle) / max(self.all - before.all, 1)

    def stolen_since(self, before: Processors) -> float:
        return (self.stolen - before.stolen) / max(self.all - before.all, 1)


@dataclasses.dataclass(frozen=True)
class Samples:
    rates: list[Rates]
    """Of each second."""
    empty: dict[int, float]
    """Class ID → the part of all looks, ten a second, that found nothing in its queue."""
    sated: list[set[int]]
    """Of each second, the class IDs of which a look found nothing in the queue: all that was asked for was sent."""

    def mean(self) -> Rates:
        return {each: sum(rates[each] for rates in self.rates) / len(self.rates) for each in self.rates[0]}


LOOKS = 10  # a second


def sampled(device: str, seconds: int) -> Samples:
    """What the classes of a device do in so many seconds."""
    rates: list[Rates] = []
    empty: dict[int, float] = collections.defaultdict(float)
    sated: list[set[int]] = [set() for _ in range(seconds)]
    os.setpriority(os.PRIO_PROCESS, 0, -20)  # so that it reads in time
    try:
        begin, before = _look(device)
        second_before = begin
        for number in range(1, seconds * LOOKS + 1):
            time.sleep(max(0.0, begin + number / LOOKS - time.monotonic()))
            now, classes = _look(device)
            for each in classes.values():
                if each.waiting == 0:
                    empty[each.class_id] += 1 / (seconds * LOOKS)
                    sated[(number - 1) // LOOKS].add(each.class_id)
            if number % LOOKS == 0:
                spent = now - second_before
                rates.append({each: (classes[each].bytes - before[each].bytes) / spent for each in classes})
                second_before, before = now, classes
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    return Samples(rates, empty, sated)


def _look(device: str) -> tuple[float, dict[int, kernel.Class]]:
    """The classes, and when."""
    start = time.monotonic()
    classes = kernel.tc_classes(device)
    return (start + time.monotonic()) / 2, classes


def deviation(values: Sequence[float]) -> float:
    """(largest - smallest) / mean."""
    return (max(values) - min(values)) / (sum(values) / len(values))


# --- other parameters of the same tree ---------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Rule:
    """How burst and quantum follow from a class's rate, where the product does it otherwise.

    burst: depth of a bucket, in seconds of the rate. quantum: bytes, of (rate, average), in bytes per second."""

    burst: float
    quantum: Callable[[int, int], float]


FRAME = 1514
FIRST_RULE = Rule(0.001, lambda rate, average: min(max(60000 * rate / average, FRAME), 60000))
"""As the product had it before it was measured."""


def apply(rule: Rule, network: Network, shapes: Mapping[int, kernel.Class]) -> None:
    """Changes the network's classes, which have these shapes by the product's rule, to another's. libvirtd must be
    frozen, as it would put right what it sees."""
    average = int(network.inbound["average"]) * UNIT
    _change(
        network.bridge,
        [
            f"burst {max(FRAME, round(each.rate * rule.burst))} cburst {max(FRAME, round(each.ceil * rule.burst))} "
            f"quantum {round(rule.quantum(each.rate, average))}"
            for each in shapes.values()
        ],
        shapes,
    )


def put_back(network: Network, shapes: Mapping[int, kernel.Class]) -> None:
    """The shapes that the product gave. A burst is given in bytes: tc makes ticks of 64 ns from it."""
    _change(
        network.bridge,
        [
            f"burst {each.burst * 64 * each.rate // 10**9} cburst {each.cburst * 64 * each.ceil // 10**9} "
            f"quantum {each.quantum}"
            for each in shapes.values()
        ],
        shapes,
    )


def _change(device: str, parameters: Iterable[str], shapes: Mapping[int, kernel.Class]) -> None:
    lines = []
    for each, text in zip(shapes.values(), parameters, strict=True):
        parent = f"1:{each.parent:x}" if each.parent else "1:"
        rates = f"rate {each.rate}bps ceil {each.ceil}bps"
        lines.append(f"class change dev {device} parent {parent} classid 1:{each.class_id:x} htb {rates} {text}\n")
    subprocess.run(["tc", "-batch", "-"], input="".join(lines), text=True, check=True)
