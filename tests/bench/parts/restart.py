# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirtd is killed and started again: until all floors are right, what is sent to the kernel, and what a running flow
loses of it."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import re
import socket
import struct
import subprocess
import time
from datetime import datetime
from typing import Any, Iterator

import libvirt

from lab import Network, daemon, kernel, run, workbench
from lab.commands import NETWORK
from many_ports import fill, handle, mac, network_of, port_xml
from measuring import Figure, Options, goal, summary

TITLE = "Restart and recovery"

SIZES, QUICK_SIZES = (10, 100, 1000, 4000), (1000,)
GOAL_SIZE = 1000
OWN_GOAL_MS = 100
CLASSES_BESIDES = 2  # the root's and the catchment
DONE = re.compile(
    r"^(\S+ \S+?)\+\S+: .* network '[^']*': (\d+) floors of .*, (\d+) changes made in (\d+) ms$", re.MULTILINE
)


class Flow:
    """Numbered UDP frames out of a bridge to a guest's address, one a millisecond, and those that arrive.

    The guest is a veth pair, one end a port of the bridge. 200 bytes a millisecond are 200 kB/s, within its floor.
    """

    FLOOR = 1000  # in 1000 bytes/s
    INTERVAL_S = 0.001
    PAYLOAD = 158
    PORT = 9
    RECEIVE_BUFFER = 64 << 20
    BRIDGE_END, GUEST_END = "vbench0", "vbench1"
    GUEST = 1 << 20  # its port's number

    def __init__(self, network: Network) -> None:
        self._bridge = network.bridge
        run("ip", "link", "add", self.BRIDGE_END, "type", "veth", "peer", self.GUEST_END)
        run("ip", "link", "set", self.BRIDGE_END, "master", network.bridge, "up")
        run("ip", "link", "set", self.GUEST_END, "up")
        with handle(network) as handled:
            handled.portCreateXML(port_xml(self.GUEST, self.FLOOR), 0)

    def close(self) -> None:
        run("ip", "link", "del", self.BRIDGE_END)

    @contextlib.contextmanager
    def running(self) -> Iterator[list[int]]:
        """The packets sent and lost while the block lasted, in a list that is filled when it ends."""
        counts: list[int] = []
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as link:
            link.setsockopt(socket.SOL_SOCKET, kernel.SO_RCVBUFFORCE, self.RECEIVE_BUFFER)
            link.bind((self.GUEST_END, 0x0800))
            fork = multiprocessing.get_context("fork")
            stop, sent = fork.Event(), fork.Value("q", 0)
            sender = fork.Process(target=self._send, args=(stop, sent))
            sender.start()
            try:
                time.sleep(0.1)  # the flow runs before anything happens to it
                yield counts
                time.sleep(0.1)
            finally:
                stop.set()
                sender.join()
            time.sleep(0.1)
            counts += [sent.value, sent.value - len(self._received(link))]

    def _send(self, stop: Any, sent: Any) -> None:
        head = bytes.fromhex(mac(self.GUEST).replace(":", "")) + b"\x02\0\0\0\0\x01\x08\x00"
        udp = struct.pack("!HHHH", self.PORT, self.PORT, 8 + self.PAYLOAD, 0)
        ip = struct.pack(
            "!BBHHHBBH4s4s", 0x45, 0, 28 + self.PAYLOAD, 0, 0, 64, socket.IPPROTO_UDP, 0,
            socket.inet_aton("192.0.2.1"), socket.inet_aton("192.0.2.2"),
        )  # fmt: skip
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as link:
            link.bind((self._bridge, 0x0800))
            while not stop.wait(self.INTERVAL_S):
                with contextlib.suppress(OSError):  # the queue refused it: sent, and lost
                    link.send(head + ip + udp + struct.pack("!Q", sent.value) + bytes(self.PAYLOAD - 8))
                sent.value += 1

    @staticmethod
    def _received(link: socket.socket) -> set[int]:
        numbers = set()
        link.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                frame = link.recv(2048)
                if len(frame) >= 50 and frame[23] == socket.IPPROTO_UDP:
                    numbers.add(struct.unpack_from("!Q", frame, 42)[0])
        return numbers


@dataclasses.dataclass
class Restart:
    """Times in milliseconds from the start of the process."""

    answers: float  # until it answers a client
    floors: float | None = None  # until our module says that they are right
    own: float | None = None  # what the module says it took it to read, compare and change
    steps: int | None = None  # changes that it says it made
    messages: int | None = None  # changes of the device's traffic control that the kernel told of
    sent: int = 0
    lost: int = 0


def start(*options: str) -> float:
    """Starts libvirtd, and returns the milliseconds until it answered."""
    began = time.monotonic()
    with subprocess.Popen(["sandbox-libvirtd", "start", *options], stdin=subprocess.DEVNULL) as starting:
        while True:
            try:
                libvirt.open(NETWORK).close()
                break
            except libvirt.libvirtError:
                assert time.monotonic() < began + 60, "libvirtd does not answer"
                time.sleep(0.001)
        answered = (time.monotonic() - began) * 1000
    assert starting.returncode == 0, "libvirtd did not start"
    return answered


def restart_stock(flow: Flow) -> Restart:
    daemon.kill9()
    return Restart(start("--stock"))


def restart(network: Network, flow: Flow, ports: int, lose_tree: bool) -> Restart:
    offset = daemon.log_size()
    with flow.running() as packets:
        daemon.kill9()
        if lose_tree:
            run("tc", "qdisc", "del", "dev", network.bridge, "root")
        began = time.time()
        with kernel.ChangeMonitor(network.bridge) as monitor:
            result = Restart(start())
    when, floors, steps, own = DONE.findall(daemon.log_since(offset))[-1]
    assert int(floors) == ports and len(network.classes()) == ports + CLASSES_BESIDES, f"{floors} floors"
    logged = datetime.fromisoformat(f"{when}+00:00").timestamp()
    result.floors, result.own, result.steps = (logged - began) * 1000, float(own), int(steps)
    result.messages = monitor.changes
    result.sent, result.lost = packets
    return result


def figures(restarts: list[Restart]) -> dict[str, Any]:
    def of(name: str) -> Figure:
        return summary([getattr(each, name) for each in restarts])

    return {name: of(name) for name in ("answers", "floors", "own", "steps", "messages", "sent", "lost")}


def measure(options: Options) -> dict[str, Any]:
    rounds = 2 if options.quick else 5
    sizes = []
    with workbench() as bench:
        for ports in QUICK_SIZES if options.quick else SIZES:
            with network_of(bench) as network:
                with handle(network) as handled:
                    fill(handled, 0, ports - 1)
                flow = Flow(network)
                right, lost, stock = [], [], []
                try:
                    for _ in range(rounds):
                        right.append(restart(network, flow, ports, lose_tree=False))
                        lost.append(restart(network, flow, ports, lose_tree=True))
                        stock.append(restart_stock(flow))
                        daemon.restart()  # what comes next is a restart of ours again
                finally:
                    flow.close()
            sizes.append(
                {
                    "ports": ports,
                    "tree right": figures(right),
                    "tree lost": figures(lost),
                    "stock": {"answers": summary([each.answers for each in stock])},
                    "over stock": summary([ours.answers - other.answers for ours, other in zip(right, stock)]),
                }
            )
    at_goal = next(size for size in sizes if size["ports"] == GOAL_SIZE)["tree right"]
    what = f"restart with {GOAL_SIZE} ports, tree right"
    goals = [
        goal(f"{what}: our own work, ms", at_goal["own"], at_most=OWN_GOAL_MS),
        goal(f"{what}: messages that change the tree", at_goal["messages"], at_most=0),
        goal(f"{what}: packets lost by a running flow", at_goal["lost"], at_most=0),
    ]
    return {"goals": goals, "sizes": sizes}


def cell(figure: Figure) -> str:
    return f"{figure['median']:.0f} ({figure['low']:.0f} – {figure['high']:.0f})"


def section(results: dict[str, Any], page: Any) -> None:
    sizes = results["sizes"]
    page.paragraph(
        "libvirtd is killed (SIGKILL) and started again, while UDP packets, one a millisecond, run to a guest "
        "within its "
        "floor. *Tree right*: nobody touched it meanwhile. *Tree lost*: its root qdisc was deleted while no "
        "daemon ran. ms from the start of the process; *own work* is what the module's log line says it took it "
        "to read, "
        "compare and change; *messages* are the kernel's notices of changed traffic control on the bridge, whoever "
        "made them. Median (10th – 90th percentile)."
    )
    page.table(
        ("ports", "tree", "own work", "all floors right", "daemon answers", "messages", "packets lost, of"),
        [
            (size["ports"], tree.removeprefix("tree "), cell(size[tree]["own"]), cell(size[tree]["floors"]),
             cell(size[tree]["answers"]), cell(size[tree]["messages"]),
             f"{cell(size[tree]['lost'])}, {size[tree]['sent']['median']:.0f}")
            for size in sizes
            for tree in ("tree right", "tree lost")
        ],
    )  # fmt: skip
    page.paragraph(
        "For comparison, the stock driver alone with the same ports (it has no floors then), in turn with ours: "
        "ms until the "
        "daemon answers, and what ours adds, tree right."
    )
    page.table(
        ("ports", "stock answers", "ours adds"),
        [(size["ports"], cell(size["stock"]["answers"]), cell(size["over stock"])) for size in sizes],
    )
    lost = [size for size in sizes if size["tree right"]["lost"]["high"] > 0]
    if lost:
        page.paragraph(
            "Packets were lost with the tree right at "
            + ", ".join(f"{size['ports']} ports" for size in lost)
            + f", where {max(size['tree right']['messages']['high'] for size in lost):.0f} messages changed the "
            "tree: with none, "
            "nothing that a restart does is in a packet's way."
        )
    page.plot(
        "restart", "Restart", "ports with a floor", "ms",
        {
            "own work, tree right": [(size["ports"], size["tree right"]["own"]["median"]) for size in sizes],
            "own work, tree lost": [(size["ports"], size["tree lost"]["own"]["median"]) for size in sizes],
            "daemon answers, tree right": [(size["ports"], size["tree right"]["answers"]["median"]) for size in sizes],
            "daemon answers, stock": [(size["ports"], size["stock"]["answers"]["median"]) for size in sizes],
        },
        logx=True,
    )  # fmt: skip
