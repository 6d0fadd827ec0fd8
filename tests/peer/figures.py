#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Measures stock libvirt and libvirt-floor, one after the other, and writes the figures to a JSON file.

    figures.py [--quick] FILE

Runs in the virtual machine's sandbox (machine.py). Times are in seconds of its clock, which counts a
nanosecond an instruction; rates are in bytes per second.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import platform
import random
import threading
import time
import uuid
from typing import Any, Iterator

import libvirt
from lab import CATCHMENT, ROOT, Network, daemon, kernel, run, workbench
from lab.churn import plug_and_unplug
from lab.traffic import ETHERTYPES, send_frames
from load import Traffic, start
from packets import carrier, nanoseconds_per_frame, sustained_rate
from parts import fairness

SIDES = {"stock": ("--stock",), "ours": ()}  # options of sandbox-libvirtd
UNFLOORED = "52:54:00:ff:ff:fe"


@dataclasses.dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int
    points: tuple[int, ...]  # ports there when a plug, and a packet, are timed
    ports: int  # at most, where none is refused
    kills: int
    seconds: float  # of each rate
    pings: float  # seconds of requests to a guest, for each leaf


FULL = Plan(rounds=7, points=(1, 50, 190, 4000), ports=4000, kills=10, seconds=2, pings=1)
QUICK = Plan(rounds=3, points=(1, 20), ports=20, kills=1, seconds=0.5, pings=0.3)
REPAIR_WAIT = 3  # seconds
ASKED_AND_FLOODED = 4  # guests


def mac_of(number: int) -> str:
    return f"52:54:00:00:{number >> 8:02x}:{number & 255:02x}"


def port_xml(number: int, floor: int) -> str:
    bandwidth = f"<bandwidth><inbound floor='{floor}'/></bandwidth>" if floor else ""
    return (
        f"<networkport><uuid>{uuid.uuid4()}</uuid><owner><name>nobody</name><uuid>{uuid.uuid4()}</uuid></owner>"
        f"<mac address='{mac_of(number)}'/>{bandwidth}</networkport>"
    )


@contextlib.contextmanager
def running(**inbound: int) -> Iterator[tuple[Network, libvirt.virNetwork]]:
    """A new network with these limits, and its handle."""
    network = Network(1, inbound)
    network.define()
    network.start()
    connection = libvirt.open(None)
    try:
        with carrier(network.bridge):
            yield network, connection.networkLookupByName(network.name)
    finally:
        connection.close()
        network.destroy()
        network.undefine()


def processes_started() -> int:
    lines = pathlib.Path("/proc/stat").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("processes "))


def time_plugs(handle: libvirt.virNetwork, number: int, rounds: int) -> dict[str, Any]:
    """Of one more port, with floor and without."""
    found: dict[str, Any] = {}
    for _ in range(rounds):
        for kind, floor in (("floored", 1), ("plain", 0)):
            times = found.setdefault(kind, {"plug": [], "unplug": [], "processes": []})
            xml = port_xml(number, floor)
            processes, begin = processes_started(), time.perf_counter()
            port = handle.portCreateXML(xml)
            plugged = time.perf_counter()
            times["processes"].append(processes_started() - processes)
            times["plug"].append(plugged - begin)
            begin = time.perf_counter()
            port.delete()
            times["unplug"].append(time.perf_counter() - begin)
    return found


def time_packets(bridge: str, last: int, rounds: int) -> dict[str, list[float]]:
    macs = {"first": mac_of(0), "last": mac_of(last), "unfloored": UNFLOORED}
    found: dict[str, list[float]] = {name: [] for name in macs}
    for _ in range(rounds):
        for name, mac in macs.items():
            found[name].append(nanoseconds_per_frame(bridge, mac) / 1e9)
    return found


def measure_growth(plan: Plan) -> dict[str, Any]:
    """Plugs one port after the other, until one is refused."""
    found: dict[str, Any] = {"points": [], "refusal": None}
    plugged = 0
    with running(average=4_000_000) as (network, handle):
        try:
            while plugged < plan.ports:
                handle.portCreateXML(port_xml(plugged, floor=1))
                plugged += 1
                if plugged in plan.points:
                    found["points"].append(
                        {
                            "ports": plugged,
                            "plugs": time_plugs(handle, plugged, plan.rounds),
                            "packets": time_packets(network.bridge, plugged - 1, plan.rounds),
                        }
                    )
        except libvirt.libvirtError as error:
            found["refusal"] = error.get_error_message()
    return found | {"ports": plugged}


def measure_rates(plan: Plan) -> dict[str, float]:
    """What all guests together get, around a plug of a guest with a floor of a quarter of the average."""
    average, peak = 2000, 4000
    found = {"average": average * 1000.0, "peak": peak * 1000.0}

    def total(*macs: str) -> float:
        return sustained_rate(network.bridge, macs, ROOT, settle=0.5, seconds=plan.seconds)

    with running(average=average, peak=peak) as (network, handle):
        found["before"] = total(UNFLOORED)
        port = handle.portCreateXML(port_xml(0, floor=average // 4))
        found["idle"] = total(UNFLOORED)
        found["sending"] = total(UNFLOORED, mac_of(0))
        port.delete()
        found["after"] = total(UNFLOORED)
    return found


def measure_classification() -> dict[str, float]:
    """The share of a floored guest's packets that go into its class, by protocol."""
    found = {}
    with running(average=4_000_000) as (network, handle):
        handle.portCreateXML(port_xml(0, floor=1000))
        for name, ethertype in ETHERTYPES.items():
            before = network.classes()[3].packets
            sent = send_frames(network.bridge, mac_of(0), 100, [ethertype])
            found[name] = (network.classes()[3].packets - before) / sent
    return found


def measure_repair(options: tuple[str, ...]) -> dict[str, Any]:
    """Time until a guest's packets have their class again, once the tree was deleted."""

    def is_right() -> bool:
        before = network.classes().get(3)
        if not before:
            return False
        send_frames(network.bridge, mac_of(0), 1, [ETHERTYPES["IPv4"]])
        return network.classes()[3].packets > before.packets

    with running(average=4_000_000) as (network, handle):
        handle.portCreateXML(port_xml(0, floor=1000))
        assert is_right()
        run("tc", "qdisc", "del", "dev", network.bridge, "root")
        begin = time.monotonic()
        while not is_right() and time.monotonic() < begin + REPAIR_WAIT:
            time.sleep(0.005)
        running_s = time.monotonic() - begin if is_right() else None
        daemon.restart(*options)
        return {"seconds": running_s, "waited": REPAIR_WAIT, "after_restart": is_right()}


def leftovers(network: Network, handle: libvirt.virNetwork) -> dict[str, int]:
    """What does not belong together, after a restart."""
    classes = set(network.classes()) - {ROOT, CATCHMENT}
    targets = {each.class_id for each in kernel.tc_filters(network.bridge)} - {ROOT, CATCHMENT}
    ids = {port.class_id for port in network.ports() if port.floor}
    found = {
        "classes without a port": len(classes - ids),
        "ports without a class": len(ids - classes),
        "classes without a filter": len(classes - targets),
        "filters without a class": len(targets - classes),
        "next plug refused": 0,
    }
    try:
        handle.portCreateXML(port_xml(0, floor=1)).delete()
    except libvirt.libvirtError:
        found["next plug refused"] = 1
    return found


def measure_kills(plan: Plan, options: tuple[str, ...]) -> list[dict[str, int]]:
    """The leftovers of each time that libvirtd is killed while a client plugs and unplugs."""

    def churn(network: Network) -> None:
        with contextlib.suppress(libvirt.libvirtError):  # the daemon is gone
            plug_and_unplug(network, 0, 100000)

    found = []
    for seed in range(plan.kills):
        network = Network(1, {"average": 1000})
        network.define()
        network.start()
        client = threading.Thread(target=churn, args=(network,))
        client.start()
        time.sleep(random.Random(seed).uniform(0.1, 0.5))
        daemon.kill9()
        client.join()
        daemon.start(*options)
        connection = libvirt.open(None)
        found.append(leftovers(network, connection.networkLookupByName(network.name)))
        connection.close()
        network.destroy()
        network.undefine()
    return found


def measure_latency(plan: Plan) -> dict[str, Any]:
    """What a guest within its floor waits for an answer, by leaf."""
    traffic = Traffic(pathlib.Path(os.environ["BUILD_DIR"]) / "tests/bench/bench-traffic")
    with workbench() as lab:
        site = fairness.Site(lab, ASKED_AND_FLOODED)
        for guest in site.guests:
            start(guest)
        with traffic.serving([guest.init_pid() for guest in site.guests]):
            return fairness.latencies(site, traffic, rounds=1, seconds=plan.pings)


def measure(plan: Plan, options: tuple[str, ...]) -> dict[str, Any]:
    daemon.restart(*options)
    found: dict[str, Any] = {}
    for name, call in {
        "growth": lambda: measure_growth(plan),
        "rates": lambda: measure_rates(plan),
        "classification": measure_classification,
        "repair": lambda: measure_repair(options),
        "kills": lambda: measure_kills(plan, options),
    }.items():
        begin = time.monotonic()
        found[name] = call()
        print(f"{name}: {time.monotonic() - begin:.1f} s", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, ports and kills")
    parser.add_argument("file", type=pathlib.Path)
    arguments = parser.parse_args()
    plan = QUICK if arguments.quick else FULL
    found: dict[str, Any] = {"kernel": platform.release()}
    for side, options in SIDES.items():
        print(f"{side}:", flush=True)
        found[side] = measure(plan, options)
    found["latency"] = measure_latency(plan)
    arguments.file.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
