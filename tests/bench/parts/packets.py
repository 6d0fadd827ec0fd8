# SPDX-License-Identifier: LGPL-2.1-or-later
"""What one frame costs in a tree, by the number of ports and the kind of their addresses.

packet-bench (tests/bench/packet_bench.cc) makes the trees and sends; its samples are the sender's CPU time
for a frame (CLOCK_THREAD_CPUTIME_ID), in nanoseconds, of all variants in turn.
"""

from __future__ import annotations

import collections
import json
import pathlib
import random
import statistics
import subprocess
from typing import TYPE_CHECKING, Any, Sequence

from measuring import Figure, Options, goal, ratio, summary

if TYPE_CHECKING:
    from report import Page

TITLE = "Cost of a packet"

KINDS = {
    "random": "52:54:00 and three random bytes, as libvirt makes them",
    "sequential": "counted up from 52:54:00:00:00:00",
    "same last two bytes": "four bytes vary, the last two are the same for all",
    "same first four bytes": "two bytes vary",
    "four values a byte": "each of the six bytes has one of four values, so that no byte tells many apart",
}
QUICK_KINDS = ("random", "four values a byte")
PORTS = (1, 16, 256, 4096)
FEWEST, MOST = PORTS[0], PORTS[-1]
SECONDS, QUICK_SECONDS = 130, 3
LIMIT = 1.1

Key = tuple[str, int, str, str]
"""Kind of addresses, ports, variant (see packet_bench.cc), and to whom: all or one."""
Samples = dict[Key, list[float]]


def processor_ticks() -> tuple[int, int]:
    """Of all processors since boot, those in softirq, and all that were not idle (/proc/stat)."""
    line = pathlib.Path("/proc/stat").read_text().splitlines()[0]
    user, nice, system, _idle, _iowait, irq, softirq = map(int, line.split()[1:8])
    return softirq, user + nice + system + irq + softirq


def differences(over: Sequence[float], under: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(over, under, strict=True)]


def ratio_of_medians(over: Sequence[float], under: Sequence[float]) -> Figure:
    """For small differences of large figures, whose pairs say little: with the spread of 200 resamplings."""
    chance = random.Random(1)

    def resampled(values: Sequence[float]) -> float:
        return statistics.median(chance.choices(values, k=len(values)))

    spread = summary([resampled(over) / resampled(under) for _ in range(200)])
    return spread | {"median": statistics.median(over) / statistics.median(under), "samples": len(over)}


def run(options: Options, kinds: Sequence[str], ports: Sequence[int]) -> tuple[Samples, list[dict[str, Any]]]:
    """The samples, and what packet-bench says of our tables. It fails when a frame was in a wrong class."""
    seconds = QUICK_SECONDS if options.quick else SECONDS
    program = options.build_dir / "tests/bench/packet-bench"
    command = [program, str(seconds), ",".join(map(str, ports)), *kinds]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=360).stdout
    samples: Samples = collections.defaultdict(list)
    scenes = []
    for line in map(json.loads, output.splitlines()):
        if "ns" in line:
            samples[line["kind"], line["ports"], line["filters"], line["to"]].append(line["ns"])
        else:
            scenes.append(line)
    return samples, scenes


def measure(options: Options) -> dict[str, Any]:
    kinds = QUICK_KINDS if options.quick else tuple(KINDS)
    ports = (FEWEST, MOST) if options.quick else PORTS
    softirq, busy = processor_ticks()
    samples, scenes = run(options, kinds, ports)
    softirq_after, busy_after = processor_ticks()

    def classification(kind: str, count: int, to: str) -> list[float]:
        return differences(samples[kind, count, "ours", to], samples[kind, count, "ours by priority", to])

    # With one port all kinds of addresses are the same.
    base = {to: [ns for kind in kinds for ns in classification(kind, FEWEST, to)] for to in ("all", "one")}
    first = kinds[0]  # that of the flat lists and of the trees without filters
    flat = {
        (count, to): differences(samples[first, count, "flat", to], samples[first, count, "flat by priority", to])
        for count in ports
        for to in ("all", "one")
    }
    ours = []
    for scene in scenes:
        kind, count = scene["scene"], scene["ports"]
        cell = scene | {"to": {}}
        for to in "all", "one":
            cost = classification(kind, count, to)
            frame, fewest = (samples[kind, number, "ours", to] for number in (count, FEWEST))
            classes, fewest_classes = (samples[kind, number, "ours by priority", to] for number in (count, FEWEST))
            cell["to"][to] = {
                "frame": summary(frame),
                "classes": summary(classes),
                "classification": summary(cost),
                "frame to fewest": ratio(frame, fewest),
                "classes to fewest": ratio(classes, fewest_classes),
                "classification to fewest": ratio_of_medians(cost, base[to]),
                "flat to ours": ratio_of_medians(flat[count, to], cost),
            }
        ours.append(cell)

    def worst(to: str, figure: str) -> dict[str, Any]:
        """The cell of the kind that does worst with most ports."""
        return max((cell for cell in ours if cell["ports"] == MOST), key=lambda cell: cell["to"][to][figure]["median"])

    goals = []
    for what, to, figure in (
        (f"A frame, {MOST} ports against {FEWEST}, to the guest with the longest way", "one", "frame to fewest"),
        (f"A frame, {MOST} ports against {FEWEST}, to all guests in turn", "all", "frame to fewest"),
        (f"Classification alone, {MOST} ports against {FEWEST}, same guest", "one", "classification to fewest"),
    ):
        cell = worst(to, figure)
        goals.append(goal(f"{what} (worst kind of addresses: {cell['scene']})", cell["to"][to][figure], at_most=LIMIT))
    return {
        "goals": goals,
        "ours": ours,
        "others": [
            {
                "ports": count,
                "none": summary(samples[first, count, "none", "all"]),
                "flat": {to: summary(samples[first, count, "flat", to]) for to in ("all", "one")},
                "flat classification": {to: summary(flat[count, to]) for to in ("all", "one")},
            }
            for count in ports
        ],
        "softirq": (softirq_after - softirq) / (busy_after - busy),
    }


def ns(figure: Figure) -> str:
    return f"{figure['median']:.0f} ({figure['low']:.0f} – {figure['high']:.0f})"


def times(figure: Figure) -> str:
    return f"{figure['median']:.2f} ({figure['low']:.2f} – {figure['high']:.2f})"


def section(results: dict[str, Any], page: Page) -> None:
    ours, others = results["ours"], results["others"]
    by_kind = collections.defaultdict(dict)
    for cell in ours:
        by_kind[cell["scene"]][cell["ports"]] = cell
    first = ours[0]["scene"]
    page.paragraph(
        "Frames of 60 bytes, by AF_PACKET and sendmmsg, to a bridge with our tree. The cost is the CPU time of the "
        "sender: the frame's way through the qdisc runs there "
        f"(softirqs took {results['softirq']:.1%} of the machine's busy time meanwhile). Rates are so high that no "
        "frame waits; in the end each class had counted exactly the frames meant for it. *Classification* is what a "
        "frame costs more than one whose class the sender names by SO_PRIORITY, in the same tree: HTB asks no filter "
        "then. (The other frames have a priority that is no class.) *To all*: each frame goes to another guest, in "
        "shuffled order. *To one*: all go to the guest with the longest way through the filters. *Flat list*: one u32 "
        "filter an address, all in one list; to the last of them, and to all. *None*: the same classes, no filters; "
        "all frames are of the default class."
    )
    page.table(
        (
            "addresses", "ports", "tables passed: mean, most", "matches compared: mean, most",
            "classification, to one: ns", f"× {FEWEST} port", "flat list / ours",
            "classification, to all: ns", f"× {FEWEST} port", "flat list / ours",
        ),
        [
            (
                cell["scene"],
                cell["ports"],
                f"{cell['tables passed']:.2f}, {cell['most tables passed']}",
                f"{cell['matches compared']:.2f}, {cell['most matches compared']}",
                ns(cell["to"]["one"]["classification"]),
                times(cell["to"]["one"]["classification to fewest"]),
                f"{cell['to']['one']['flat to ours']['median']:.1f}",
                ns(cell["to"]["all"]["classification"]),
                times(cell["to"]["all"]["classification to fewest"]),
                f"{cell['to']['all']['flat to ours']['median']:.1f}",
            )
            for cell in ours
        ],
    )
    page.paragraph(
        f"With {FEWEST} port all kinds of addresses are the same: what their lines differ in is the error of the "
        "figures. The kinds: " + "; ".join(f"*{kind}*: {KINDS[kind]}" for kind in by_kind) + "."
    )
    page.paragraph(f"The whole frame, in nanoseconds, and as a ratio to the same with {FEWEST} port:")
    page.table(
        ("addresses", "ports", "to one", "ratio", "to all", "ratio", "to all, without classification", "ratio"),
        [
            (
                cell["scene"],
                cell["ports"],
                ns(cell["to"]["one"]["frame"]),
                times(cell["to"]["one"]["frame to fewest"]),
                ns(cell["to"]["all"]["frame"]),
                times(cell["to"]["all"]["frame to fewest"]),
                ns(cell["to"]["all"]["classes"]),
                times(cell["to"]["all"]["classes to fewest"]),
            )
            for cell in ours
        ]
        + [("flat list", at["ports"], ns(at["flat"]["one"]), "", ns(at["flat"]["all"]), "", "", "") for at in others]
        + [("none", at["ports"], "", "", ns(at["none"]), "", "", "") for at in others],
    )
    explain(results, by_kind, page)
    all_to_all = {count: cell["to"]["all"] for count, cell in by_kind[first].items()}
    page.plot(
        "packets-frame", "CPU time of a frame", "ports", "ns", {
            "flat list, to the last": [(at["ports"], at["flat"]["one"]["median"]) for at in others],
            "flat list, to all": [(at["ports"], at["flat"]["all"]["median"]) for at in others],
            f"ours ({first}), to all": [(count, at["frame"]["median"]) for count, at in all_to_all.items()],
            f"ours ({first}), to one": [
                (count, cell["to"]["one"]["frame"]["median"]) for count, cell in by_kind[first].items()
            ],
            "no filter asked, to all": [(count, at["classes"]["median"]) for count, at in all_to_all.items()],
            "none": [(at["ports"], at["none"]["median"]) for at in others],
        }, logx=True, logy=True,
    )
    page.plot(
        "packets-classification", "Classification alone, to one guest", "ports", "ns", {
            kind: [(count, cell["to"]["one"]["classification"]["median"]) for count, cell in cells.items()]
            for kind, cells in by_kind.items()
        }, logx=True,
    )


def explain(results: dict[str, Any], by_kind: dict[str, dict[int, Any]], page: Page) -> None:
    """Why a goal is not met, from the figures."""
    most = [cells[MOST] for cells in by_kind.values()]
    to_one, to_all, alone = results["goals"]
    if not to_one["met"]:
        classes = max(cell["to"]["one"]["classes to fewest"]["median"] for cell in most)
        page.paragraph(
            "The goal for a frame to one guest is not met. With no filter asked the same frame costs up to "
            f"{classes:.2f} times what it costs with {FEWEST} port; the rest is the longer way through the tables."
        )
    if not to_all["met"]:
        classes = [cell["to"]["all"]["classes to fewest"]["median"] for cell in most]
        cold = [
            cell["to"]["all"]["classification"]["median"] - cell["to"]["one"]["classification"]["median"]
            for cell in most
        ]
        page.paragraph(
            "The goal for frames to all guests in turn is not met"
            f"{', and no filter could meet it' if min(classes) > LIMIT else ''}: with {MOST} classes in turn and no "
            f"filter asked at all, a frame costs {min(classes):.2f} to {max(classes):.2f} times what it costs with "
            f"{FEWEST}, as the memory of a class has left the processor's cache when its next frame comes. That of its "
            f"filter has, too: classification takes {min(cold):.0f} to {max(cold):.0f} ns more then than it does in "
            "the same tree when all frames go to one guest, by the longest way there is."
        )
    if not alone["met"]:
        base = statistics.median(cells[FEWEST]["to"]["one"]["classification"]["median"] for cells in by_kind.values())
        alone_most = [cell["to"]["one"]["classification"]["median"] for cell in most]
        more = (max(alone_most) - base) / frame_of_fewest(by_kind)
        page.paragraph(
            f"The goal for classification alone is not met: {min(alone_most):.0f} to {max(alone_most):.0f} ns against "
            f"{base:.0f} with {FEWEST} port, which is {more:.1%} of a frame at most. A u32 table has at most 256 "
            f"buckets, so that one table leaves {MOST} addresses in buckets of {MOST // 256} at best, and a list or a "
            "second table must follow. " + table_or_list(results, by_kind)
        )


def frame_of_fewest(by_kind: dict[str, dict[int, Any]]) -> float:
    return statistics.median(cells[FEWEST]["to"]["one"]["frame"]["median"] for cells in by_kind.values())


def table_or_list(results: dict[str, Any], by_kind: dict[str, dict[int, Any]]) -> str:
    """What each would cost, of sequential addresses: they have one table with 256 ports, two with most."""
    lists = {at["ports"]: at["flat classification"]["one"]["median"] for at in results["others"]}
    if "sequential" not in by_kind or not {16, 256} <= lists.keys():
        return ""
    cells = by_kind["sequential"]
    table = cells[MOST]["to"]["one"]["classification"]["median"] - cells[256]["to"]["one"]["classification"]["median"]
    return (
        f"A second table takes {table:.0f} ns (sequential addresses: {MOST} ports against 256); a list takes "
        f"{(lists[16] - lists[FEWEST]) / 15:.1f} ns for each address in it (flat list: 16 ports against {FEWEST}) "
        "while the processor's cache holds it."
    )
