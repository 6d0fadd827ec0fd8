# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a port with a floor costs beyond its plug: memory of libvirtd, bytes written; and whether our part of a plug
grows with the number of ports."""

from __future__ import annotations

from typing import Any

from lab import Workbench, daemon, workbench
from many_ports import FLOOR, fill, handle, network_of
from measuring import Figure, Options, goal, summary
from parts.ports import OPERATIONS, micros, own_part, times

TITLE = "Growth"

SIZES, QUICK_SIZES = (10, 100, 1000, 4000), (10, 1000)
CODE_STAGES = ("promises", "status", "messages")
RECORD_BYTES = 128
WARM_PORTS = 100


def memory_per_port(bench: Workbench, ports: int, floor: int | None) -> dict[str, float]:
    """Bytes of libvirtd's own memory (RssAnon) a port, in a daemon that was just started: while they are plugged,
    and once more in the daemon that comes after it."""
    daemon.restart()
    with network_of(bench) as network:
        with handle(network) as handled:
            fill(handled, 0, WARM_PORTS, floor)
            before = daemon.memory_kib()
            fill(handled, WARM_PORTS, WARM_PORTS + ports, floor)
            plugged = daemon.memory_kib() - before
        daemon.kill9()
        daemon.start()
        after = daemon.memory_kib()
    daemon.restart()
    with network_of(bench):
        restarted = after - daemon.memory_kib()
    return {"plugged": plugged * 1024 / ports, "restarted": restarted * 1024 / (ports + WARM_PORTS)}


def measure_memory(bench: Workbench, ports: int, rounds: int) -> dict[str, Any]:
    samples: dict[str, list[dict[str, float]]] = {"with": [], "without": []}
    for number in range(rounds):
        for name in ("with", "without") if number % 2 else ("without", "with"):
            samples[name].append(memory_per_port(bench, ports, FLOOR if name == "with" else None))
    result: dict[str, Any] = {"ports": ports}
    for when in ("plugged", "restarted"):
        result[when] = {name: summary([each[when] for each in samples[name]]) for name in samples}
        result[when]["ours"] = summary(
            [ours[when] - other[when] for ours, other in zip(samples["with"], samples["without"], strict=True)]
        )
    return result


def excess(size: dict[str, Any], operation: str) -> Figure:
    """Microseconds of our part beyond the bare messages, of pairs."""
    series = size[operation]
    return summary([ours - bare for ours, bare in zip(series["ours"], series["bare"], strict=True)])


def code_alone(size: dict[str, Any], operation: str) -> Figure:
    """Microseconds of our part without the exchange with the kernel."""
    series = size[operation]
    return summary([sum(stages) for stages in zip(*(series[stage] for stage in CODE_STAGES), strict=True)])


def growth(first: dict[str, Any], last: dict[str, Any], what: str, operation: str) -> float:
    """How many times as long it takes at the last size."""
    return last[what][operation]["median"] / first[what][operation]["median"]


def measure(options: Options) -> dict[str, Any]:
    samples = own_part(options.build_dir, 200 if options.quick else 1000, QUICK_SIZES if options.quick else SIZES)
    sizes = [
        {
            "ports": size["ports"],
            "heap": size["heap_a_port"],
            "written": size["written_a_plug"],
            "bare": {name: summary(size[name]["bare"]) for name in OPERATIONS},
            "excess": {name: excess(size, name) for name in OPERATIONS},
            "code": {name: code_alone(size, name) for name in OPERATIONS},
            "record": {name: summary(size[name]["status"]) for name in OPERATIONS},
        }
        for size in samples
    ]
    with workbench() as bench:
        memory = measure_memory(bench, 1000 if options.quick else 3000, 1 if options.quick else 4)
    first, last = sizes[0], sizes[-1]
    goals = [
        goal(
            f"{what}: growth of our code alone over growth of the bare messages, {first['ports']} to {last['ports']} ports",
            growth(first, last, "code", name) / growth(first, last, "bare", name),
            at_most=1,
        )
        for name, what in OPERATIONS.items()
    ]
    return {"goals": goals, "sizes": sizes, "memory": memory}


def cell(figure: Figure) -> str:
    return f"{figure['median']:.0f} ({figure['low']:.0f} – {figure['high']:.0f})"


def section(results: dict[str, Any], page: Any) -> None:
    sizes, memory = results["sizes"], results["memory"]
    page.paragraph(
        "**Time.** The kernel's part grows with the classes that are there; ours, which is what is left when the "
        "bare messages' "
        "time is taken off, ought not to. The last column is our code without the exchange with the kernel: "
        "arithmetic, status "
        "record, building of messages. µs, medians (10th – 90th percentile)."
    )
    page.table(
        ("operation", "ports", "bare messages", "our part beyond", "our code alone"),
        [
            (what, size["ports"], times(size["bare"][name]), times(size["excess"][name]), times(size["code"][name]))
            for name, what in OPERATIONS.items()
            for size in sizes
        ],
    )
    page.plot(
        "growth", "One plug: the kernel's part and ours", "ports with a floor that are there", "µs",
        {
            "bare netlink messages": [(size["ports"], size["bare"]["plug"]["median"]) for size in sizes],
            "our part beyond them": [(size["ports"], size["excess"]["plug"]["median"]) for size in sizes],
        },
        logx=True, logy=True,
    )  # fmt: skip
    page.paragraph(
        f"**Status file.** A plug writes one record of {RECORD_BYTES} bytes; when there is no free one, the file "
        "is replaced by "
        "one of twice the size. The mean over all plugs from the first one on:"
    )
    page.table(
        ("ports", "bytes written a plug", "heap of our part a port, bytes"),
        [(size["ports"], f"{size['written']:.0f}", f"{size['heap']:.0f}") for size in sizes],
    )
    page.paragraph(
        f"**Memory of libvirtd** (RssAnon) a port, in bytes, {memory['ports']} ports in a daemon that was just "
        "started, and once "
        "more after it was killed and started again. *Ours*: the difference."
    )
    page.table(
        ("", "port without a floor", "with a floor", "ours"),
        [
            (what, cell(memory[when]["without"]), cell(memory[when]["with"]), cell(memory[when]["ours"]))
            for when, what in (("plugged", "while plugged"), ("restarted", "after a restart"))
        ],
    )
    first, last = sizes[0], sizes[-1]
    missed = [name for name, each in zip(OPERATIONS, results["goals"], strict=True) if not each["met"]]
    if missed:
        for name in missed:
            page.paragraph(
                f"{OPERATIONS[name].capitalize()}: our code alone goes from {micros(first['code'][name])} to "
                f"{micros(last['code'][name])} µs, the bare messages from {micros(first['bare'][name])} to "
                f"{micros(last['bare'][name])} µs. Nothing in it depends on the number of ports; but the record alone, one "
                f"pwrite of {RECORD_BYTES} bytes whatever there is, goes from {micros(first['record'][name])} to "
                f"{micros(last['record'][name])} µs: what it needs is less often in the processor's cache."
            )
