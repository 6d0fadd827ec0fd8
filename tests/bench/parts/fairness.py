# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guests with equal floors: how far apart they are in throughput and in requests and answers; and what a guest within
its floor waits for an answer while all others are flooded. Guests are LXC domains. Runs in the sandbox."""

from __future__ import annotations

import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Mapping, Sequence

from lab import Network, Workbench, daemon, kernel, wait_until, workbench
from lab.bandwidth import UNIT
from load import (
    FIRST_RULE,
    Target,
    Traffic,
    World,
    apply,
    deviation,
    iperf_servers,
    put_back,
    sampled,
    set_floors,
    start,
    world,
)
from measuring import Options, goal, ratio, summary

if TYPE_CHECKING:
    from report import Page

TITLE = "Fairness and latency"

FLOWS = 128
FAIR = 0.02  # (largest - smallest) / mean
PUBLISHED = {"vhost-net": 0.10, "SR-IOV": 0.30}  # deviation between guests, at most

FAST, SLOW = 50_000, 2_500  # kB/s: room for packets of 64 KiB; and so little that one byte a packet fills it
QUIET_FLOOR = 250  # kB/s of the guest that is asked while others are flooded
FLOOD = 10  # times the link
INTERVAL = 1000  # microseconds between two requests
PACKET = 65536  # bytes that TCP with GSO hands over at once

Json = dict[str, Any]


class Site:
    """Guests with an interface on a fast and one on a slow network."""

    def __init__(self, lab: Workbench, guests: int) -> None:
        self.fast: Network = lab.network(FAST, None, burst=0)
        self.slow: Network = lab.network(SLOW, None, burst=0)
        self.guests = [lab.described_lxc(self.fast.nic(), self.slow.nic()) for _ in range(guests)]

    def nics(self, network: Network) -> list:
        return [guest.nics[0 if network is self.fast else 1] for guest in self.guests]

    def promise(self, network: Network, floors: Sequence[int]) -> list[int]:
        """Gives the first guests these floors (kB/s), the others none; the class IDs of the first."""
        macs = [nic.mac for nic in self.nics(network)]
        ids = set_floors(network, dict.fromkeys(macs, 0) | dict(zip(macs, floors)))
        return [ids[mac] for mac, _ in zip(macs, floors)]


def throughput(site: Site, outside: World, guests: int, seconds: int) -> float:
    """Deviation of what the classes carried, by TCP in as many flows as there are for each guest."""
    network = site.fast
    ids = site.promise(network, [FAST // guests] * guests)
    pids = [guest.init_pid() for guest in site.guests[:guests]]
    addresses = [nic.ip4 for nic in site.nics(network)[:guests]]
    with iperf_servers(pids), outside.streams(addresses, FLOWS // guests):
        time.sleep(2)  # until TCP has found its rate
        rates = sampled(network.bridge, seconds).mean()
    return deviation([rates[each] for each in ids])


def answers(site: Site, network: Network, traffic: Traffic, guests: int, seconds: float) -> Json:
    """Deviation of the answers that came, and how many in all."""
    average = int(network.inbound["average"])
    ids = site.promise(network, [average // guests] * guests)
    addresses = [nic.ip4 for nic in site.nics(network)[:guests]]
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(traffic.ask, seconds, FLOWS // guests, addresses)
        samples = sampled(network.bridge, max(1, int(seconds)))
        counts = list(asked.result().values())
    empty = sum(samples.empty[each] for each in ids) / guests
    return {"deviation": deviation(counts), "answers": sum(counts), "empty": empty}


def latency(traffic: Traffic, quiet: str, flood: Sequence[Target], seconds: float) -> dict[str, dict[str, float]]:
    """What a guest waits for an answer: with an idle link, then with the flood. Runs wherever bench-traffic serves."""
    idle = traffic.ping(seconds, INTERVAL, quiet)
    with traffic.flood(flood):
        time.sleep(1)
        flooded = traffic.ping(seconds, INTERVAL, quiet)
    time.sleep(0.5)  # until the queues are empty
    return {"idle": idle, "flooded": flooded}


def summed_up(rounds: Sequence[Mapping[str, Mapping[str, float]]]) -> Json:
    """Medians and 99th percentiles of rounds of latency(), and the ratio of flooded to idle."""
    found = {}
    for key in ("median", "p99"):
        idle, flooded = ([each[when][key] for each in rounds] for when in ("idle", "flooded"))
        found[key] = {"idle": summary(idle), "flooded": summary(flooded), "ratio": ratio(flooded, idle)}
    return found


def set_leaves(network: Network, kind: str) -> None:
    """The queue of every class that has one. libvirtd must be frozen."""
    for each in network.classes().values():
        if each.parent:
            argv = ["tc", "qdisc", "replace", "dev", network.bridge, "parent", f"1:{each.class_id:x}", kind]
            subprocess.run(argv, check=True)


def latencies(site: Site, traffic: Traffic, rounds: int, seconds: float) -> dict[str, Json]:
    """By leaf, of those that this kernel has; with pfifo also by the first rules of burst and quantum."""
    network = site.slow  # the flood is to leave the processors time
    others = len(site.guests) - 1
    site.promise(network, [QUIET_FLOOR] + [(SLOW - QUIET_FLOOR) // others] * others)
    quiet, *rest = [nic.ip4 for nic in site.nics(network)]
    flood = [Target(address, SLOW * UNIT * FLOOD / others) for address in rest]
    before = network.shapes()
    shapes = network.classes()
    leaves = [leaf for leaf in ("fq_codel", "sfq", "pfifo") if kernel.kernel_has_qdisc(leaf)]
    found: dict[str, list] = {}
    with daemon.frozen():
        for _ in range(rounds):
            for leaf in leaves:
                set_leaves(network, leaf)
                found.setdefault(leaf, []).append(latency(traffic, quiet, flood, seconds))
            apply(FIRST_RULE, network, shapes)
            first = latency(traffic, quiet, flood, seconds)
            found.setdefault("pfifo, first rules of burst and quantum", []).append(first)
            put_back(network, shapes)
    wait_until("libvirtd has put its classes right", lambda: network.shapes() == before, seconds=70)
    return {name: summed_up(each) for name, each in found.items()}


def measure(options: Options) -> Json:
    sizes = [1, 4, 16] if options.quick else [1, 2, 4, 8, 16, 32, 64]
    long, short = (4, 1.0) if options.quick else (8, 4.0)
    traffic = Traffic(options.build_dir / "tests/bench/bench-traffic")
    found = []
    with workbench() as lab, world() as outside:
        site = Site(lab, sizes[-1])
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(start, site.guests))
        with traffic.serving([guest.init_pid() for guest in site.guests]):
            for guests in sizes:
                seconds = max(long, guests // 4)  # so that a packet more or less is not seen
                found.append({
                    "guests": guests,
                    "throughput": throughput(site, outside, guests, seconds),
                    "packet": PACKET / (FAST * UNIT / guests * seconds),
                    "link": answers(site, site.slow, traffic, guests, short),
                    "processor": answers(site, site.fast, traffic, guests, short),
                })  # fmt: skip
                print(found[-1], flush=True)
            by_leaf = latencies(site, traffic, 1 if options.quick else 5, 1.0 if options.quick else 2.0)
    return {"by guests": found, "latency": by_leaf, "guests flooded": len(site.guests) - 1, "goals": goals(found)}


def goals(found: Sequence[Mapping[str, Any]]) -> list[Json]:
    return [
        goal("fairness: deviation between guests in throughput, the worst number of guests",
             max(each["throughput"] for each in found), at_most=FAIR),
        goal("fairness: deviation in answers, where the link is the limit",
             max(each["link"]["deviation"] for each in found), at_most=FAIR),
        goal("fairness: deviation in answers, where the processors are the limit",
             max(each["processor"]["deviation"] for each in found), at_most=FAIR),
    ]  # fmt: skip


# --- the report ----------------------------------------------------------------------------------------


def megabits(rate: int) -> str:
    """Of kB/s."""
    return f"{rate * UNIT * 8 / 1e6:g} Mbit/s"


def section(results: Json, page: Page) -> None:
    found = results["by guests"]
    page.paragraph(
        f"Equal floors that add up to the link, {FLOWS} flows in all. Deviation is (largest − smallest) / mean of the "
        f"guests. Throughput is TCP (iperf3) on a link of {megabits(FAST)}, as the classes counted it; “one packet” is "
        "what one of 64 KiB, the largest that TCP hands over at once, is of a guest's part in the time. Requests and "
        "answers are TCP with one byte each way, by one process at each side (`bench-traffic`): on a link of "
        f"{megabits(SLOW)}, which they fill, and on the first one, where they are as many as the processors can do."
    )
    page.paragraph(
        "“Nothing waits” is the part of ten looks a second, over all guests, that found a guest's queue empty: then HTB "
        "had nothing to choose from, and who gets how many answers is up to the processors' scheduler and to the "
        "programs that ask and answer."
    )
    page.table(
        ("guests", "throughput", "one packet", "answers, link full", "answers / s", "nothing waits",
         "answers, processors full", "answers / s", "nothing waits"),
        [
            (
                each["guests"], f"{each['throughput']:.2%}", f"{each['packet']:.2%}",
                *(
                    text
                    for limit in ("link", "processor")
                    for text in (
                        f"{each[limit]['deviation']:.2%}", f"{each[limit]['answers']:.0f}", f"{each[limit]['empty']:.0%}",
                    )
                ),
            )
            for each in found
        ],
    )  # fmt: skip
    bounds = "; ".join(f"{name} below {value:.0%}" for name, value in PUBLISHED.items())
    page.paragraph(
        f"Published, for guests by other ways and on other machines, 1 to 64 guests and {FLOWS} flows: {bounds}."
    )
    page.plot(
        "fairness", "Deviation between guests with equal floors", "guests", "(largest − smallest) / mean, %",
        {
            "throughput": [(each["guests"], 100 * each["throughput"]) for each in found],
            "answers, link full": [(each["guests"], 100 * each["link"]["deviation"]) for each in found],
            "answers, processors full": [(each["guests"], 100 * each["processor"]["deviation"]) for each in found],
            "goal": [(each["guests"], 100 * FAIR) for each in found],
        },
        logx=True,
    )  # fmt: skip
    page.heading("Latency of a guest within its floor", 3)
    page.paragraph(
        f"One TCP request of one byte each {INTERVAL} µs to a guest with a floor of {QUIET_FLOOR} kB/s, with the link of "
        f"{megabits(SLOW)} idle, and while the other {results['guests flooded']} guests are offered {FLOOD} times the "
        "link by UDP, in turn. Microseconds from request to answer. The flood takes processor time that the answer "
        "needs, too. Leaves that this kernel lacks are measured in the virtual machine."
    )
    latency_table(results["latency"], page)


def latency_table(latencies: Json, page: Page) -> None:
    page.table(
        ("leaf", "median, idle", "flooded", "ratio", "p99, idle", "flooded", "ratio"),
        [
            (leaf, *(f"{each[key][column]['median']:.{1 if column == 'ratio' else 0}f}"
                     for key in ("median", "p99") for column in ("idle", "flooded", "ratio")))
            for leaf, each in latencies.items()
        ],
    )  # fmt: skip
