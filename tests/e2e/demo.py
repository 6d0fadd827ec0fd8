# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guests with floors under a flood, a crash of libvirtd, a live change: measured, not claimed.

./run demo starts this in the sandbox. It exits 0 only if every promise was kept.
"""

from __future__ import annotations

import dataclasses
import sys
from xml.etree import ElementTree

from lab import CATCHMENT, LxcGuest, Network, Workbench, check_tree, daemon, traffic, wait_until, workbench

AVERAGE = 4000  # kB/s for all guests together
FLOORS = {"web": 600, "database": 1000, "backup": 1600, "best-effort": None}
CHANGED, NEW_FLOOR = "web", 1200
FLOOD = 3_000_000  # bytes per second offered to each guest
SECONDS = 4.0  # of each measurement
ENOUGH = 0.95  # of a floor


@dataclasses.dataclass
class Promises:
    """What was promised, and whether it was kept."""

    broken: int = 0

    def check(self, promise: str, kept: bool) -> None:
        print(f"  {'kept  ' if kept else 'BROKEN'}  {promise}")
        self.broken += not kept


def title(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}")


def counters(network: Network) -> dict[int, int]:
    return {class_id: each.bytes for class_id, each in network.classes().items()}


def measure(guests: list[LxcGuest]) -> dict[str, float]:
    """What each guest receives, in bytes per second, counted at its own interface."""
    devices = {guest.name: guest.device(guest.nic) for guest in guests}
    return traffic.rates(
        lambda: {name: traffic.received_bytes(device) for name, device in devices.items()}, SECONDS
    )


def table(guests: list[LxcGuest], promises: Promises) -> None:
    """Measures, prints a line a guest, and holds each floor to its promise."""
    received = measure(guests)
    row = "  {:12} {:18} {:>8} {:>7} {:>9} {:>9}"
    print(row.format("guest", "MAC", "class ID", "floor", "received", "of floor"))
    for guest in guests:
        port, rate = guest.nic.port(), received[guest.name] / 1000
        share = f"{rate / port.floor:.3f}" if port.floor else "-"
        print(row.format(guest.name, port.mac, port.class_id or "-", port.floor or "-", f"{rate:.0f}", share))
    print(row.format("", "", "", "sum", f"{sum(received.values()) / 1000:.0f}", "") + "  (kB/s)")
    for guest in guests:
        floor = guest.nic.port().floor
        if floor:
            promises.check(
                f"{guest.name} gets its {floor} kB/s", received[guest.name] >= ENOUGH * floor * 1000
            )


def start_network() -> Network:
    title("A network of 4000 kB/s, three guests with floors, one without")
    network = Network(77, {"average": AVERAGE, "peak": AVERAGE, "burst": 64}, name="demo")
    tree = ElementTree.fromstring(network.xml())
    ElementTree.indent(tree)
    print(ElementTree.tostring(tree, encoding="unicode"), "\n")
    network.define()
    network.start()
    return network


def start_guests(network: Network) -> list[LxcGuest]:
    guests = [
        LxcGuest(name, [network.nic(floor=floor) if floor else network.nic()])
        for name, floor in FLOORS.items()
    ]
    for guest in guests:
        guest.create()
        wait_until(f"{guest.name} answers", lambda guest=guest: traffic.answers_ping(guest.nic.ip4))
        print(f"  {guest.name} runs, floor {FLOORS[guest.name] or 'none'}")
    return guests


def crash(network: Network, guests: list[LxcGuest], promises: Promises) -> None:
    title("kill -9 libvirtd, with the flood going on, and start it again")
    ids = {guest.name: guest.nic.port().class_id for guest in guests}
    before = counters(network)
    daemon.kill9()
    print("  libvirtd is dead")
    while_down = measure(guests)
    daemon.start()
    print("  libvirtd runs again")
    after = counters(network)
    for guest in guests:
        class_id = ids[guest.name] or CATCHMENT
        print(f"  {guest.name:12} class 1:{class_id:x} had sent {before[class_id]} bytes, now {after[class_id]}")
        if FLOORS[guest.name]:
            kept = while_down[guest.name] >= ENOUGH * FLOORS[guest.name] * 1000
            promises.check(f"{guest.name} got its floor while libvirtd was dead", kept)
    promises.check("class IDs are the same", ids == {guest.name: guest.nic.port().class_id for guest in guests})
    promises.check("the kernel's counters went on", all(after[each] > before[each] for each in before))


def change(guest: LxcGuest, promises: Promises) -> None:
    title(f"Raise the floor of {guest.name} to {NEW_FLOOR} kB/s while it runs")
    print("  virNetworkPortSetParameters(inbound.floor); for a QEMU guest this is virsh domiftune --live")
    class_id = guest.nic.class_id()
    guest.nic.tune(floor=NEW_FLOOR)
    promises.check("the API tells the new floor", guest.nic.parameters()["inbound.floor"] == NEW_FLOOR)
    promises.check("its class ID is the same", guest.nic.class_id() == class_id)


def demo(bench: Workbench, promises: Promises) -> None:
    network = start_network()
    guests = start_guests(network)
    check_tree(network)
    with traffic.Flood([guest.nic.ip4 for guest in guests], FLOOD):
        title(f"A flood to all of them, {SECONDS:.0f} s of it")
        table(guests, promises)
        crash(network, guests, promises)
        change(next(guest for guest in guests if guest.name == CHANGED), promises)
        table(guests, promises)

    title("Away with everything")
    bench.clear()
    promises.check("nothing is left", bench.is_clean())


def main() -> int:
    promises = Promises()
    with workbench() as bench:
        demo(bench, promises)
    print(f"\n{'All promises kept.' if not promises.broken else f'{promises.broken} promises BROKEN.'}")
    return 1 if promises.broken else 0


if __name__ == "__main__":
    sys.exit(main())
