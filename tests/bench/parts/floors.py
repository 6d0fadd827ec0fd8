# SPDX-License-Identifier: LGPL-2.1-or-later
"""Floors under a flood: what each guest got of its floor in each second, what the whole tree let through, and how
the surplus was shared. Guests are LXC domains; bytes are HTB's own counters. Runs in the sandbox."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Iterator, Mapping

from lab import ROOT, LxcGuest, Network, Workbench, daemon, wait_until, workbench
from lab.bandwidth import UNIT, tree_rates
from load import (
    FIRST_RULE,
    Processors,
    Rates,
    Target,
    Traffic,
    World,
    apply,
    busy_processors,
    iperf_servers,
    put_back,
    sampled,
    set_floors,
    start,
    world,
)
from measuring import Options, goal, summary

if TYPE_CHECKING:
    from report import Page

TITLE = "Floors under a flood"

FRAME = 1514
FLOOD = 10  # times the link, offered to the guests without a floor
ENOUGH, TOO_LITTLE, TOO_MUCH, USED, UNEVEN = 0.99, 0.99, 1.01, 0.98, 0.03

Json = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Scenario:
    what: str
    network: str
    guests: int
    part: float  # of average, promised in all
    kind: str = "UDP"
    frame: int = FRAME
    frames_per_packet: int = 1  # of UDP
    mixed: bool = False  # every other guest is spoken to by IPv6
    flooded: bool = True  # guests without a floor are offered FLOOD times the link
    offer: float = 1.5  # of its floor, to each guest that has one
    busy: bool = False  # the processors have other things to do as well
    quick: bool = False  # measured in the short form, too


@dataclasses.dataclass(frozen=True)
class Link:
    inbound: Mapping[str, int]  # kB/s
    guests: int  # with a floor
    others: int
    few: int  # guests with a floor in the short form
    smallest: int = 125  # floor, kB/s: 1 Mbit/s


# Small frames cost the processor as much as large ones: theirs is a slow network. Packets of 64 KiB are 1 % of what
# a floor of 6.5 MB/s gives in a second: theirs is a fast one, with large floors.
LINKS = {
    "100 Mbit/s": Link({"average": 12500}, 64, 4, 16),
    "10 Mbit/s": Link({"average": 1250}, 4, 1, 4),
    "1 Gbit/s": Link({"average": 125000}, 4, 1, 4, smallest=12500),
    "20, at most 40 Mbit/s": Link({"average": 2500, "peak": 5000}, 4, 1, 4),
}

SCENARIOS = (
    Scenario("the smallest floor, alone", "100 Mbit/s", 1, 0.01, quick=True),
    Scenario("4 guests", "100 Mbit/s", 4, 0.9),
    Scenario("16 guests", "100 Mbit/s", 16, 0.9, mixed=True, quick=True),
    Scenario("64 guests", "100 Mbit/s", 64, 0.9, mixed=True),
    Scenario("TCP without GSO", "100 Mbit/s", 16, 0.9, kind="TCP", mixed=True),
    Scenario("TCP with GSO", "1 Gbit/s", 4, 0.9, kind="TCP with GSO", frames_per_packet=40, quick=True),
    Scenario("UDP with GSO", "1 Gbit/s", 4, 0.9, frames_per_packet=40),
    Scenario("frames of 64 bytes", "10 Mbit/s", 4, 0.9, frame=64, mixed=True, quick=True),
    Scenario("peak above average", "20, at most 40 Mbit/s", 4, 0.8),
    Scenario("floors above average", "20, at most 40 Mbit/s", 4, 1.6, quick=True),
    Scenario("all with a floor are idle", "100 Mbit/s", 64, 0.9, offer=0),
    Scenario("surplus", "100 Mbit/s", 9, 0.5, mixed=True, flooded=False, offer=4, quick=True),
    Scenario("surplus, frames of 256 bytes", "10 Mbit/s", 4, 0.6, frame=256, flooded=False, offer=4),
    Scenario("surplus, TCP without GSO", "100 Mbit/s", 9, 0.5, kind="TCP", flooded=False),
    Scenario("surplus, TCP with GSO", "1 Gbit/s", 4, 0.5, kind="TCP with GSO", flooded=False),
)

COMPARED = (
    Scenario("surplus", "100 Mbit/s", 9, 0.5, flooded=False, offer=4),
    Scenario("processors busy", "100 Mbit/s", 9, 0.9, busy=True),
)
"""What the first rules of burst and quantum are compared with the present ones in."""


def spread(guests: int, smallest: int, total: int) -> list[int]:
    """Floors (kB/s) of so many guests, from the smallest to many times that; total is their sum."""
    rest = max(total - guests * smallest, 0)
    weights = [number // 2 for number in range(guests)]
    return [smallest + rest * weight // max(sum(weights), 1) for weight in weights]


class Site:
    """A network and its guests."""

    def __init__(self, lab: Workbench, link: Link, guests: int) -> None:
        self.inbound = link.inbound
        self.network: Network = lab.network(link.inbound["average"], link.inbound.get("peak"), burst=0)
        self.guests = [lab.described_lxc(self.network.nic()) for _ in range(guests)]
        self.others = [lab.described_lxc(self.network.nic()) for _ in range(link.others)]
        self._smallest = link.smallest

    def all(self) -> list[LxcGuest]:
        return self.guests + self.others

    def promise(self, scenario: Scenario) -> dict[int, int]:
        """Gives the guests the scenario's floors; class ID → floor in bytes per second."""
        floors = spread(scenario.guests, self._smallest, round(self.inbound["average"] * scenario.part))
        macs = [guest.nic.mac for guest in self.guests]
        wanted = dict.fromkeys(macs, 0) | dict(zip(macs, floors))
        ids = set_floors(self.network, wanted)
        return {ids[mac]: floor * UNIT for mac, floor in wanted.items() if floor}

    def offered(self, scenario: Scenario, floors: Mapping[int, int]) -> list[Target]:
        """What UDP the guests with a floor are offered, in the order of promise()."""
        if scenario.kind != "UDP" or not scenario.offer:
            return []
        return [
            Target(address, floor * scenario.offer, scenario.frame, scenario.frames_per_packet)
            for address, floor in zip(self.addresses(scenario), floors.values())
        ]

    def flood(self, scenario: Scenario) -> list[Target]:
        """What the others are offered."""
        if not scenario.flooded:
            return []
        rate = self.inbound["average"] * UNIT * FLOOD / len(self.others)
        return [Target(guest.nic.ip4, rate, scenario.frame, scenario.frames_per_packet) for guest in self.others]

    def addresses(self, scenario: Scenario) -> list[str]:
        guests = self.guests[: scenario.guests]
        return [
            guest.nic.ip6 if scenario.mixed and number % 2 else guest.nic.ip4 for number, guest in enumerate(guests)
        ]


class Bench:
    def __init__(self, sites: Mapping[str, Site], traffic: Traffic, outside: World) -> None:
        self.sites, self._traffic, self._outside = sites, traffic, outside

    @contextlib.contextmanager
    def load(self, scenario: Scenario, floors: Mapping[int, int]) -> Iterator[dict[str, float]]:
        """The scenario's traffic, in its steady state when the block begins; yields what was offered."""
        site = self.sites[scenario.network]
        with contextlib.ExitStack() as stack:
            if scenario.busy:
                stack.enter_context(busy_processors())
            # By two processes: the guests with a floor are offered theirs whatever the flood costs.
            stack.enter_context(self._traffic.flood(site.offered(scenario, floors)))
            offered = stack.enter_context(self._traffic.flood(site.flood(scenario)))
            if scenario.kind != "UDP":
                if scenario.kind == "TCP":
                    stack.enter_context(self._outside.one_frame_a_packet())
                pids = [guest.init_pid() for guest in site.guests[: scenario.guests]]
                stack.enter_context(iperf_servers(pids))
                stack.enter_context(self._outside.streams(site.addresses(scenario), 2))
                time.sleep(2)  # until TCP has found its rate
            time.sleep(1)
            yield offered

    def run(self, scenario: Scenario, seconds: int) -> Json:
        site = self.sites[scenario.network]
        floors = site.promise(scenario)
        return self.run_with(scenario, floors, seconds)

    def run_with(self, scenario: Scenario, floors: Mapping[int, int], seconds: int) -> Json:
        site = self.sites[scenario.network]
        with self.load(scenario, floors) as offered:
            with self._traffic.lateness(seconds) as late:
                before = Processors.now()
                samples = sampled(site.network.bridge, seconds)
                after = Processors.now()
        average = site.inbound["average"] * UNIT
        rates = tree_rates(site.inbound, [floor // UNIT for floor in floors.values()])
        totals = [total(sample) / rates["root"] for sample in samples.rates]
        over_all = samples.mean()
        results: Json = {
            "what": scenario.what, "network": scenario.network, "kind": scenario.kind, "mixed": scenario.mixed,
            "guests": scenario.guests,
            "floors": [min(floors.values()) // UNIT, max(floors.values()) // UNIT],
            "total": sum(totals) / len(totals), "least total": min(totals), "most total": max(totals),
            "offered": offered["offered"] / average if offered else None,
            "left out": offered["left out"] / average if offered else None,
            "idle": after.idle_since(before), "stolen": after.stolen_since(before), "late": late["most"],
        }  # fmt: skip
        if scenario.offer or scenario.kind != "UDP":
            shares = [
                (sample[each] / floor, each in sated)
                for sample, sated in zip(samples.rates, samples.sated)
                for each, floor in floors.items()
            ]
            asked = [share for share, sated in shares if not sated]
            results["share"] = min(asked) if asked else None
            results["any share"] = min(share for share, _ in shares)
            results["asked"] = len(asked) / len(shares)
            results["mean share"] = min(over_all[each] / floor for each, floor in floors.items())
        if not scenario.flooded:
            results["uneven"] = unevenness(over_all, floors)
            results["empty"] = max(samples.empty[each] for each in floors)
        return results

    def compare(self, scenario: Scenario, rounds: int, seconds: int) -> Json:
        """The first rules and the product's, in turn, on the same tree."""
        site = self.sites[scenario.network]
        floors = site.promise(scenario)
        before = site.network.shapes()
        shapes = site.network.classes()
        found: dict[str, list[Json]] = {"first": [], "present": []}
        with daemon.frozen():
            for number in range(rounds * 2):
                which = "first" if number % 4 in (0, 3) else "present"
                if which == "first":
                    apply(FIRST_RULE, site.network, shapes)
                else:
                    put_back(site.network, shapes)
                found[which].append(self.run_with(scenario, floors, seconds))
        wait_until("libvirtd has put its classes right", lambda: site.network.shapes() == before, seconds=70)
        keys = [key for key in ("share", "mean share", "total", "uneven", "late") if key in found["first"][0]]
        return {"what": scenario.what, "guests": scenario.guests, "seconds": seconds} | {
            which: {key: summary([run[key] for run in runs]) for key in keys} for which, runs in found.items()
        }


def total(rates: Rates) -> float:
    return sum(rate for each, rate in rates.items() if each != ROOT)


def unevenness(rates: Rates, floors: Mapping[int, int]) -> float:
    """How far the surplus of any guest is from what its floor gives it of all surplus: 0.03 is 3 % off."""
    surplus = {each: rates[each] - floor for each, floor in floors.items()}
    even = sum(surplus.values()) / sum(floors.values())
    return max(abs(surplus[each] / (floor * even) - 1) for each, floor in floors.items())


def measure(options: Options) -> Json:
    seconds = 2 if options.quick else 8
    with workbench() as lab, world() as outside:
        sites = {name: Site(lab, link, link.few if options.quick else link.guests) for name, link in LINKS.items()}
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(start, (guest for site in sites.values() for guest in site.all())))
        traffic = Traffic(options.build_dir / "tests/bench/bench-traffic")
        bench = Bench(sites, traffic, outside)
        pids = [guest.init_pid() for site in sites.values() for guest in site.all()]
        with traffic.serving(pids):
            runs = []
            for scenario in SCENARIOS:
                if scenario.quick or not options.quick:
                    runs.append(bench.run(scenario, seconds))
                    print(described(runs[-1]), flush=True)
            rounds, each, number = (1, 2, 1) if options.quick else (3, 5, len(COMPARED))
            compared = [bench.compare(scenario, rounds, each) for scenario in COMPARED[:number]]
    return {"runs": runs, "compared": compared, "goals": goals(runs), "seconds of a run": seconds}


def goals(runs: list[Json]) -> list[Json]:
    off = max((run["total"] for run in runs), key=lambda each: abs(each - 1))
    return [
        goal("floors: the smallest share of its floor that a guest got in any second in which it asked for it",
             min(run["share"] for run in runs if run.get("share")), at_least=ENOUGH),
        goal("floors: the total, of average; the run furthest from 1", off, at_least=TOO_LITTLE, at_most=TOO_MUCH),
        goal("floors: the least of the link that was used", min(run["total"] for run in runs), at_least=USED),
        goal("floors: the surplus of a guest, off what its floor gives it; the run that is worst",
             max(run["uneven"] for run in runs if "uneven" in run), at_most=UNEVEN),
    ]  # fmt: skip


def described(run: Json) -> str:
    return ", ".join(f"{key} {round(value, 4) if isinstance(value, float) else value}" for key, value in run.items())


# --- the report ----------------------------------------------------------------------------------------


def cell(value: float | None, form: str = ".3f") -> str:
    return "" if value is None else format(value, form)


def section(results: Json, page: Page) -> None:
    page.paragraph(
        "Guests are LXC domains. Those with a floor are offered more than they are to get; those without are "
        f"offered {FLOOD} times the link in all. UDP comes from the host, TCP (iperf3, two flows a guest) from a "
        "namespace behind it, so that the host forwards it. With “IPv4, IPv6”, every other guest has IPv6. Rates are "
        f"read from the class counters once a second, {results['seconds of a run']} times a run. “Least share” is the "
        "smallest part of its floor that any guest got in any of those seconds, of the guests and seconds of which ten "
        "looks found packets waiting each time. How many of all that is stands in brackets: where nothing waits, all "
        "that was asked for was sent, as with TCP that waits for acknowledgements. “In any second” is the same of all "
        "of them. “Total” is what all classes sent in the run, as a part of what the root may send: average, or the "
        "sum of the floors with the reserve where that is more. “Least” and “most” are of one second. “Queue empty” is "
        "the part of ten looks a second at which nothing waited for the guest of which that is most: it takes no "
        "surplus then."
    )
    page.table(
        ("run", "link", "guests", "floors, kB/s", "traffic", "least share", "in any second", "total", "least", "most",
         "surplus off by", "queue empty", "flood / link"),
        [
            (
                run["what"], run["network"], run["guests"], " – ".join(map(str, sorted(set(run["floors"])))),
                run["kind"] + (", IPv4, IPv6" if run["mixed"] else ""),
                f"{cell(run['share'])} ({run['asked']:.0%})" if "share" in run else "",
                cell(run.get("any share")), cell(run["total"], ".4f"), cell(run["least total"]), cell(run["most total"]),
                cell(run.get("uneven"), ".1%"), cell(run.get("empty"), ".0%"),
                cell(run["offered"], ".1f"),
            )
            for run in results["runs"]
        ],
    )  # fmt: skip
    uneven = [run for run in results["runs"] if run.get("uneven", 0) > UNEVEN]
    even = {run["network"]: run for run in results["runs"] if run.get("uneven", 1) <= UNEVEN and run["kind"] == "UDP"}
    for run in uneven:
        like = even.get(run["network"])
        page.paragraph(
            f"The surplus of “{run['what']}” is off by {run['uneven']:.1%}"
            + (f", and on the same link with UDP, which always has more to send, by {like['uneven']:.1%}" if like else "")
            + f". In {1 - run['asked']:.1%} of its guests' seconds a look found nothing waiting: what a queue that is empty "
            "for a moment does not take, others get."
        )
    starved = [run for run in results["runs"] if (run.get("share") or 1) < ENOUGH or run["total"] < TOO_LITTLE]
    if starved:
        page.paragraph(
            "Where a share or a total is below 0.99, the question is whether the processors were there when HTB wanted "
            "to send. A bucket holds 5 ms; what is later than that is lost. A process "
            "slept 1 ms at a time beside each run, and was woken this late at worst:"
        )
        page.table(
            ("run", "least share", "total", "woken late, ms", "processors idle", "taken by the host",
             "flood not sent in time / link"),
            [
                (
                    run["what"], cell(run.get("share")), cell(run["total"], ".4f"), f"{run['late'] / 1000:.1f}",
                    f"{run['idle']:.0%}", f"{run['stolen']:.1%}", cell(run["left out"], ".2f"),
                )
                for run in starved
            ],
        )  # fmt: skip
    page.heading("Burst and quantum, before and after", 3)
    page.paragraph(
        "The first rules were a burst of 1 ms of the rate, and a quantum of 60000 bytes × floor / average, at least "
        "one frame. The present ones stand in [architecture](architecture.md). Both were given in turn to the classes "
        "of one tree, with libvirtd stopped meanwhile. Where the processors are busy, as many other processes compute "
        "as there are processors."
    )
    names = {
        "share": "least share",
        "mean share": "least share of a whole run",
        "total": "total",
        "uneven": "surplus off by",
    }
    page.table(
        ("run", "figure", "first rules", "present rules"),
        [
            (each["what"], name, of(each["first"][key]), of(each["present"][key]))
            for each in results["compared"]
            for key, name in names.items()
            if key in each["first"]
        ],
    )


def of(value: Mapping[str, float]) -> str:
    return f"{value['median']:.4f} ({value['low']:.4f} – {value['high']:.4f})"
