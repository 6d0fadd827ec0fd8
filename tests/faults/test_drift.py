# SPDX-License-Identifier: LGPL-2.1-or-later
"""Other programs change what is ours, by tc(8) and ip(8), while guests run: it is put right within a
second, what was right and what is theirs stays, and the log says so once."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import re
import subprocess
import time
from typing import Collection, Iterator

import pytest
from lab import CATCHMENT, ROOT, CommandFailed, Workbench, daemon, kernel, run, status, wait_until, workbench
from lab.invariants import check_static

DEADLINE_S = 1.0
# A network that is hit again sooner than this is defended against a program that means it.
REST_S = 2.5
GROUNDS = 12
MOST_LOG_LINES = 5  # about one drift

FIRST, SECOND, THIRD, FOURTH = 3, 4, 5, 6  # class IDs: two guests, then two ports
GUESTS = (FIRST, SECOND)
ALL = frozenset((ROOT, CATCHMENT, FIRST, SECOND, THIRD, FOURTH))


@dataclasses.dataclass(frozen=True)
class Drift:
    """commands: one a line, in which @ is the bridge, f3 the handle of the filter to class 1:3, b3 its
    bucket, m3 its matches. hit: the classes that it may cost their counters. harmful: there is something
    to put right. foreign: patterns of what others have there and keep; undo takes that away again."""

    name: str
    commands: str
    hit: Collection[int] = ()
    harmful: bool = True
    foreign: tuple[str, ...] = ()
    undo: str = ""


def script_of_fifty() -> str:
    """What a confused script might do in one go."""
    lines = []
    for n in range(16):
        lines += [
            f"tc class add dev @ parent 1:1 classid 1:{0x100 + n:x} htb rate 8mbit",
            f"tc filter add dev @ parent 1: protocol ip pref {100 + n} u32 match ip dst 10.9.9.{n} flowid 1:{0x100 + n:x}",
            f"tc class change dev @ parent 1:1 classid 1:{3 + n % 4} htb rate {n + 1}mbit",
        ]
    lines += ["tc filter del dev @ parent 1: protocol all pref 10", "tc qdisc add dev @ parent 1:4 pfifo limit 3"]
    return "\n".join(lines)


FOREIGN_U32 = "tc filter add dev @ parent 1: protocol ip pref {} handle ::7 u32 match ip dst 10.9.9.9 flowid 1:{}"
STEER_WRONGLY = "tc filter add dev @ parent 1: protocol all pref 10 handle f4 u32 ht b4 m4 flowid 1:3"

DRIFTS = [
    Drift("root-removed", "tc qdisc del dev @ root", hit=ALL),
    Drift("root-becomes-tbf", "tc qdisc replace dev @ root handle 7: tbf rate 9mbit burst 10k latency 1s", hit=ALL),
    Drift("root-becomes-pfifo", "tc qdisc replace dev @ root pfifo", hit=ALL),
    Drift(
        "root-with-other-default",
        "tc qdisc del dev @ root\ntc qdisc add dev @ root handle 1: htb default 9\n"
        "tc class add dev @ parent 1: classid 1:9 htb rate 1mbit",
        hit=ALL,
    ),
    Drift("root-renumbered", "tc qdisc replace dev @ root handle 5: htb default 2", hit=ALL),
    Drift(
        "class-removed",
        "tc filter del dev @ parent 1: protocol all pref 10 handle f4 u32\ntc class del dev @ classid 1:4",
        hit=(SECOND,),
    ),
    Drift("filters-and-class-removed", "tc filter del dev @ parent 1:\ntc class del dev @ classid 1:3", hit=(FIRST,)),
    Drift("catchment-removed", "tc class del dev @ classid 1:2", hit=(CATCHMENT,)),
    Drift("class-changed", "tc class change dev @ parent 1:1 classid 1:3 htb rate 8mbit ceil 9mbit"),
    Drift("burst-changed", "tc class change dev @ parent 1:1 classid 1:5 htb rate 800kbit ceil 64mbit burst 99k"),
    Drift("root-class-changed", "tc class change dev @ classid 1:1 htb rate 1mbit ceil 9mbit"),
    Drift("catchment-changed", "tc class change dev @ parent 1:1 classid 1:2 htb rate 8kbit ceil 9kbit"),
    Drift("class-added", "tc class add dev @ parent 1:1 classid 1:fff0 htb rate 8mbit"),
    Drift("class-added-beside", "tc class add dev @ parent 1: classid 1:fff0 htb rate 8mbit"),
    Drift("class-added-below", "tc class add dev @ parent 1:6 classid 1:fff0 htb rate 8mbit", hit=(FOURTH,)),
    Drift("leaf-is-a-short-pfifo", "tc qdisc add dev @ parent 1:3 pfifo limit 2"),
    Drift("leaf-is-a-tbf", "tc qdisc add dev @ parent 1:4 tbf rate 1mbit burst 10k latency 1s"),
    Drift("filter-removed", "tc filter del dev @ parent 1: protocol all pref 10 handle f3 u32"),
    Drift("filters-removed", "tc filter del dev @ parent 1: protocol all pref 10"),
    Drift("reservation-removed", "tc filter del dev @ parent 1: protocol ip pref 2"),
    Drift("all-filters-removed", "tc filter del dev @ parent 1:"),
    Drift(
        "filter-leads-elsewhere",
        "tc filter del dev @ parent 1: protocol all pref 10 handle f4 u32\n" + STEER_WRONGLY,
    ),
    Drift("filter-in-our-preference", "tc filter add dev @ parent 1: protocol all pref 10 u32 match u32 0 0 flowid 1:2"),
    Drift(
        "filter-to-a-class-that-goes",
        "tc class add dev @ parent 1:1 classid 1:77 htb rate 8mbit\n" + FOREIGN_U32.format(30, 77),
    ),
    Drift(
        "filters-removed-beside-an-empty-u32",
        FOREIGN_U32.format(100, 3)
        + "\ntc filter del dev @ parent 1: protocol ip pref 100 handle 802::7 u32"
        + "\ntc filter del dev @ parent 1: protocol all pref 10",
    ),
    Drift("fifty-commands-at-once", script_of_fifty()),
    Drift(
        "root-removed-many-times",
        "tc qdisc del dev @ root\ntc qdisc add dev @ root handle 1: htb default 2\n" * 5 + "tc qdisc del dev @ root",
        hit=ALL,
    ),
    Drift(
        "others-u32-filters",
        "\n".join(FOREIGN_U32.format(preference, 2) for preference in (5, 9, 11, 300)),
        harmful=False,
        foreign=tuple(rf"pref {n} u32 .*fh \w+::7 .*flowid 1:2 " for n in (5, 9, 11, 300)),
        undo="\n".join(f"tc filter del dev @ parent 1: protocol ip pref {n}" for n in (5, 9, 11, 300)),
    ),
    Drift(
        "others-u32-filter-to-a-guest",
        FOREIGN_U32.format(7, 3),
        harmful=False,
        foreign=(r"pref 7 u32 .*fh \w+::7 .*flowid 1:3 ",),
        undo="tc filter del dev @ parent 1: protocol ip pref 7",
    ),
    Drift(
        "others-bpf-filter",
        "tc filter add dev @ parent 1: protocol all pref 6 bpf bytecode 1,6\\ 0\\ 0\\ 0, flowid 1:2",
        harmful=False,
        foreign=(r"pref 6 bpf .*flowid 1:2 .*bytecode '1,6 0 0 0'",),
        undo="tc filter del dev @ parent 1: protocol all pref 6",
    ),
    Drift(
        "others-ingress",
        "tc qdisc add dev @ ingress\n"
        "tc filter add dev @ ingress protocol ip pref 1 u32 match ip dst 10.9.9.9 action mirred egress redirect dev lo",
        harmful=False,
        foreign=("qdisc ingress ffff:",),
        undo="tc qdisc del dev @ ingress",
    ),
    Drift(
        "others-filters-among-a-repair",
        FOREIGN_U32.format(5, 2) + "\ntc filter del dev @ parent 1: protocol all pref 10\n" + FOREIGN_U32.format(300, 2),
        foreign=tuple(rf"pref {n} u32 .*fh \w+::7 .*flowid 1:2 " for n in (5, 300)),
        undo="\n".join(f"tc filter del dev @ parent 1: protocol ip pref {n}" for n in (5, 300)),
    ),
    Drift("bridge-down-and-up", "ip link set dev @ down\nip link set dev @ up", harmful=False),
    Drift(
        "bridge-renamed-and-back",
        "ip link set dev @ down\nip link set dev @ name elsewhere\n"
        "ip link set dev elsewhere name @\nip link set dev @ up",
        harmful=False,
    ),
    Drift(
        "changed-under-another-name",
        "ip link set dev @ down\nip link set dev @ name elsewhere\ntc qdisc del dev elsewhere root\n"
        "ip link set dev elsewhere name @\nip link set dev @ up",
        hit=ALL,
    ),
    Drift("mtu-changed", "ip link set dev @ mtu 1400", harmful=False, undo="ip link set dev @ mtu 1500"),
    Drift(
        "txqueuelen-changed", "ip link set dev @ txqueuelen 10", harmful=False, undo="ip link set dev @ txqueuelen 1000"
    ),
]


class Ground:
    """A network with two guests that are pinged all the time, and ports that nobody uses."""

    def __init__(self, bench: Workbench) -> None:
        self.network = bench.network()
        guests = [bench.lxc(self.network.nic(floor=floor)) for floor in (300, 400)]
        for floor in (100, 200):
            self.network.create_port(self.network.nic(floor=floor))
        self.network.create_port(self.network.nic())
        self.hit_at = -REST_S
        self._pings = [
            subprocess.Popen(
                ["ping", "-q", "-n", "-i", "0.05", guest.nic.ip4], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            for guest in guests
        ]

    def leave(self) -> None:
        for ping in self._pings:
            ping.terminate()
            ping.wait()

    def do(self, commands: str, may_fail: bool = False) -> None:
        bridge = self.network.bridge
        filters = {each.class_id: each for each in ours_of(kernel.tc_filters(bridge))}
        for each in commands.splitlines():
            words = re.split(r"(?<!\\) ", each)
            argv = [word.replace("\\", "") for word in itertools.chain(*(fill_in(word, filters) for word in words))]
            with contextlib.suppress(CommandFailed) if may_fail else contextlib.nullcontext():
                run(*(bridge if word == "@" else word for word in argv))

    def picture(self) -> dict[str, object]:
        """What is ours in the kernel, without counters and handles."""
        bridge = self.network.bridge
        root = kernel.tc_root(bridge)
        return {
            "root": root and (root["handle"], root["options"]["default"]),
            "classes": self.network.shapes(),
            "leaves": {key: kind for key, kind in leaves(bridge)},
            "filters": sorted((each.protocol, each.mac, each.class_id) for each in ours_of(kernel.tc_filters(bridge))),
            "reservation": kernel.has_reservation(bridge),
        }

    def packets(self) -> dict[int, int]:
        return {class_id: each.packets for class_id, each in self.network.classes().items()}

    def check_traffic(self) -> None:
        """The guests' packets go through their classes."""
        before = self.packets()
        wait_until(
            f"packets go through {GUESTS} of {self.network.bridge}",
            lambda: all(self.packets()[each] > before[each] for each in GUESTS),
        )


def ours_of(filters: list[kernel.Filter]) -> list[kernel.Filter]:
    return [each for each in filters if each.preference == kernel.FLOOR_PREFERENCE]


def fill_in(word: str, filters: dict[int, kernel.Filter]) -> list[str]:
    found = re.fullmatch(r"([fbm])([3-6])", word)
    if not found:
        return [word]
    its_filter = filters[int(found[2])]
    if found[1] == "f":
        return [its_filter.handle]
    if found[1] == "b":
        return [its_filter.handle.rpartition(":")[0] + ":"]
    mac = its_filter.mac.replace(":", "")
    return f"match u32 0x{mac[:4]} 0x0000ffff at -16 match u32 0x{mac[4:]} 0xffffffff at -12".split()


def leaves(bridge: str) -> Iterator[tuple[str, object]]:
    for qdisc in kernel.tc_qdiscs(bridge):
        if qdisc.get("parent", "").startswith("1:"):
            yield qdisc["parent"], (qdisc["kind"], qdisc["options"])


class Grounds:
    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self._free = [Ground(bench) for _ in range(GROUNDS)]

    @contextlib.contextmanager
    def take(self) -> Iterator[Ground]:
        """One that has had its rest. It is not used again if the block fails."""
        ground = self._free.pop(0)
        time.sleep(max(0.0, ground.hit_at + REST_S - time.monotonic()))  # its rest
        try:
            yield ground
        except BaseException:
            ground.leave()
            self._free.append(Ground(self._bench))
            raise
        ground.hit_at = time.monotonic()
        self._free.append(ground)

    def leave(self) -> None:
        for ground in self._free:
            ground.leave()


@pytest.fixture(scope="module")
def grounds() -> Iterator[Grounds]:
    with workbench() as bench:
        made = Grounds(bench)
        yield made
        made.leave()
    bench.assert_clean()


def hit(ground: Ground, drift: Drift, before: dict[str, object], frozen: bool) -> None:
    """With the daemon frozen it can be seen that there is something to put right. Else it may be quicker
    than the rest of the commands, and take away what they need."""
    if not frozen:
        ground.do(drift.commands, may_fail=True)
        return
    with daemon.frozen():
        ground.do(drift.commands)
        assert (ground.picture() != before) == drift.harmful, "not the harm that was meant"


def wait_for_repair(ground: Ground, before: dict[str, object]) -> float:
    """Seconds until what is ours is there again."""
    start = time.monotonic()
    while ground.picture() != before:
        taken = time.monotonic() - start
        assert taken <= DEADLINE_S, f"not put right: {ground.picture()}, before: {before}"
        time.sleep(0.01)  # the distance of the looks
    return time.monotonic() - start


def check_foreign(ground: Ground, drift: Drift) -> None:
    bridge = ground.network.bridge
    there = run("tc", "filter", "show", "dev", bridge) + run("tc", "qdisc", "show", "dev", bridge)
    for pattern in drift.foreign:
        assert re.search(pattern, there), f"{pattern} is not in {there}"


@pytest.mark.parametrize("drift", DRIFTS, ids=[drift.name for drift in DRIFTS])
def test_drift_is_put_right(grounds: Grounds, report, long_form: bool, drift: Drift) -> None:
    for number in range(20 if long_form else 2):
        with grounds.take() as ground:
            network = ground.network
            before, packets, log = ground.picture(), ground.packets(), daemon.log_size()
            with kernel.ChangeMonitor(network.bridge, by_pid=daemon.pid()) as monitor:
                hit(ground, drift, before, frozen=number % 2 == 0)
                if drift.harmful:
                    report.highest("worst repair time", wait_for_repair(ground, before), "s")
                    report.count("drifts repaired")
                    assert monitor.count() > 0
                else:
                    await_a_look(grounds)
                    assert monitor.count() == 0, "there was nothing to put right"
            check_static(network)
            assert status.read(network.name).state == "kept"
            check_foreign(ground, drift)
            after = ground.packets()
            assert all(after[each] >= packets[each] for each in ALL.difference(drift.hit)), (packets, after)
            ground.check_traffic()
            lines = daemon.log_since(log).splitlines()
            assert len(lines) <= MOST_LOG_LINES, "\n".join(lines)
            ground.do(drift.undo)
            assert ground.picture() == before


def await_a_look(grounds: Grounds) -> None:
    """Drift on another network, and its repair: by then the daemon has looked at all that came before."""
    with grounds.take() as witness:
        before = witness.picture()
        witness.do("tc class change dev @ parent 1:1 classid 1:3 htb rate 8mbit ceil 9mbit")
        wait_for_repair(witness, before)
