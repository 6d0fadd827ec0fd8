# SPDX-License-Identifier: LGPL-2.1-or-later
"""Stock libvirt against libvirt-floor on the same work, in a virtual machine (tests/peer)."""

from __future__ import annotations

import json
import pathlib
import sys
import tempfile
from typing import Any, Mapping

from measuring import Options, goal, ratio, summary
from parts import fairness

TITLE = "Stock libvirt on the same work"

PEER = pathlib.Path(__file__).parents[2] / "peer"
SECONDS = 900  # after which the machine is ended
PHASES = {
    "before": "before a plug",
    "idle": "an idle guest with a floor plugged in",
    "sending": "that guest busy, too",
    "after": "after it was unplugged",
}
"""What measure_rates of tests/peer/figures.py calls them → in words."""

Results = Mapping[str, Any]


def measure(options: Options) -> dict[str, Any]:
    sys.path.append(str(PEER))
    import machine

    command = ["./figures.py", *(["--quick"] if options.quick else []), "/results/figures.json"]
    with tempfile.TemporaryDirectory() as folder:
        status = machine.run(command, options.build_dir, pathlib.Path(folder), SECONDS)
        if status != 0:
            raise SystemExit(f"figures.py ended with status {status} in the virtual machine")
        results = json.loads((pathlib.Path(folder) / "figures.json").read_text())
    results["shared points"] = [point["ports"] for point in results["stock"]["growth"]["points"]]
    return results | {"goals": goals(results)}


def point_of(side: Results, ports: int) -> Results:
    return next(point for point in side["growth"]["points"] if point["ports"] == ports)


def samples(results: Results, ports: int, *keys: str) -> tuple[list[float], list[float]]:
    """Ours and stock's, at so many ports."""
    found = []
    for side in ("ours", "stock"):
        values: Any = point_of(results[side], ports)
        for key in keys:
            values = values[key]
        found.append(values)
    return found[0], found[1]


def goals(results: Results) -> list[dict[str, Any]]:
    ours, stock = results["ours"], results["stock"]
    few, many = results["shared points"][0], results["shared points"][-1]
    found = []
    for action in ("plug", "unplug"):
        for ports in (few, many):
            figure = ratio(*samples(results, ports, "plugs", "floored", action))
            found.append(goal(f"{action} with a floor at {counted(ports)}, ours over stock", figure, at_most=1))
    started = max(point["plugs"]["floored"]["processes"][0] for point in ours["growth"]["points"])
    found.append(goal("processes started for a plug with a floor", started, at_most=0))
    reach = ours["growth"]["ports"] / stock["growth"]["ports"]
    found.append(goal("ports with a floor, ours over stock", reach, at_least=1))
    rates = ours["rates"]
    shares = [rates[phase] / rates["average"] for phase in PHASES]
    found.append(goal("highest total around a plug, over average", max(shares), at_most=1.01))
    found.append(goal("lowest total around a plug, over average", min(shares), at_least=0.98))
    found.append(goal("share of IPv6 packets in the class of their guest", ours["classification"]["IPv6"], at_least=1))
    repair = ours["repair"]
    found.append(goal("seconds to repair a deleted tree", repair["seconds"] or repair["waited"], at_most=1))
    found.append(goal("leftovers of all kills", sum(map(sum_of, ours["kills"])), at_most=0))
    for ports, guest in ((few, "first"), (many, "first"), (many, "last"), (many, "unfloored")):
        figure = ratio(*samples(results, ports, "packets", guest))
        found.append(goal(f"a packet of the {guest} guest of {counted(ports)}, ours over stock", figure, at_most=1))
    most = ours["growth"]["points"][-1]
    for guest in ("last", "unfloored"):
        figure = ratio(most["packets"][guest], point_of(ours, few)["packets"][guest])
        what = f"a packet of the {guest} guest at {counted(most['ports'])}, over {counted(few)}"
        found.append(goal(what, figure, at_most=1.1))
    return found


def sum_of(kill: Mapping[str, int]) -> int:
    return sum(kill.values())


def counted(ports: int) -> str:
    return f"{ports} port{'s' if ports > 1 else ''}"


def section(results: Results, page: Any) -> None:
    page.paragraph(
        f"Both run one after the other in a virtual machine with Debian's kernel {results['kernel']}: it has all "
        "that stock libvirt's QoS needs. The machine has one processor, and its clock counts a nanosecond for each "
        "instruction (QEMU's `-icount shift=0`). So its times are not those of a real processor, but they do not "
        "depend on what else the host does."
    )
    plug_table(results, page)
    packet_table(results, page)
    rate_table(results, page)
    behaviour_table(results, page)
    kill_table(results, page)
    latency_table(results, page)


def in_unit(values: list[float], unit: float) -> str:
    return f"{summary(values)['median'] / unit:.3g}"


def by_ports(results: Results) -> list[tuple[int, list[Results | None]]]:
    """The points of stock and ours, or None where one was not measured, for each number of ports."""
    sides = [{point["ports"]: point for point in results[side]["growth"]["points"]} for side in ("stock", "ours")]
    return [(ports, [side.get(ports) for side in sides]) for ports in sorted({*sides[0], *sides[1]})]


def plug_table(results: Results, page: Any) -> None:
    page.heading("Plug and unplug", 3)
    page.paragraph(
        "`virNetworkPortCreateXML` and `virNetworkPortDelete` of one more port, in ms, and the processes that a plug "
        "with a floor starts."
    )
    rows = {
        "plug, with a floor": ("floored", "plug", 1e-3),
        "plug, without": ("plain", "plug", 1e-3),
        "unplug, with a floor": ("floored", "unplug", 1e-3),
        "unplug, without": ("plain", "unplug", 1e-3),
        "processes": ("floored", "processes", 1),
    }
    page.table(
        ("", "ports there", "stock", "libvirt-floor"),
        [
            (name, ports, *(in_unit(point["plugs"][kind][what], unit) if point else "–" for point in points))
            for name, (kind, what, unit) in rows.items()
            for ports, points in by_ports(results)
        ],
    )


def packet_table(results: Results, page: Any) -> None:
    page.heading("Per packet", 3)
    page.paragraph(
        "Time to send one frame into the bridge and through its tree, in µs: to the guest that was plugged in first, "
        "to the last one, and to one without a floor."
    )
    guests = ("first", "last", "unfloored")
    page.table(
        ("ports", *(f"{side}, {guest}" for side in ("stock", "libvirt-floor") for guest in guests)),
        [
            (
                ports,
                *(in_unit(point["packets"][guest], 1e-6) if point else "–" for point in points for guest in guests),
            )
            for ports, points in by_ports(results)
        ],
    )
    series = {
        f"{name}, {guest}": [
            (point["ports"], summary(point["packets"][guest])["median"] * 1e6)
            for point in results[side]["growth"]["points"]
        ]
        for side, name in (("stock", "stock"), ("ours", "libvirt-floor"))
        for guest in ("last", "unfloored")
    }
    page.plot("peer-packets", "Time per packet", "ports with a floor", "µs", series, logx=True)


def latency_table(results: Results, page: Any) -> None:
    page.heading("Latency by leaf", 3)
    page.paragraph(
        "As in “Fairness and latency” below, with the leaves that Debian's kernel has: µs from a request to its answer, "
        "of a guest within its floor, with the link idle and while the other guests are flooded."
    )
    fairness.latency_table(results["latency"], page)


def rate_table(results: Results, page: Any) -> None:
    page.heading("The total", 3)
    rates = results["ours"]["rates"]
    page.paragraph(
        f"What all guests of a network with average {rates['average'] / 1000:g} and peak {rates['peak'] / 1000:g} get "
        "together, over the average, while they are sent more. The guest plugged in has a floor of a quarter of the "
        "average."
    )
    page.table(
        ("", "stock", "libvirt-floor"),
        [
            (name, *(f"{results[side]['rates'][phase] / rates['average']:.3f}" for side in ("stock", "ours")))
            for phase, name in PHASES.items()
        ],
    )


def behaviour_table(results: Results, page: Any) -> None:
    page.heading("Reach and repair", 3)
    sides = [results["stock"], results["ours"]]
    shares = [
        (f"{name} packets in the class of their guest", *(f"{side['classification'][name]:.0%}" for side in sides))
        for name in sides[0]["classification"]
    ]
    page.table(
        ("", "stock", "libvirt-floor"),
        [
            ("ports with a floor that can be plugged in", *map(reach, sides)),
            *shares,
            ("a deleted tree is right again", *map(repair, sides)),
        ],
    )


def reach(side: Results) -> str:
    growth = side["growth"]
    return f"{growth['ports']}" if growth["refusal"] else f"≥ {growth['ports']}"


def repair(side: Results) -> str:
    if side["repair"]["seconds"] is not None:
        return f"after {side['repair']['seconds'] * 1000:.0f} ms"
    return "after a restart" if side["repair"]["after_restart"] else "not even after a restart"


def kill_table(results: Results, page: Any) -> None:
    page.heading("Killed at work", 3)
    page.paragraph(
        f"libvirtd is killed {len(results['ours']['kills'])} times while a client plugs and unplugs ports with floors, "
        "at random, and started again. What does not belong together then, in all:"
    )
    sides = [results[side]["kills"] for side in ("stock", "ours")]
    page.table(
        ("", "stock", "libvirt-floor"),
        [
            ("kills that left anything", *(sum(sum_of(kill) > 0 for kill in kills) for kills in sides)),
            *((what, *(sum(kill[what] for kill in kills) for kills in sides)) for what in sides[0][0]),
        ],
    )
