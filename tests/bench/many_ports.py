# SPDX-License-Identifier: LGPL-2.1-or-later
"""A network with many ports, as hypervisor drivers create them, for the parts that count ports."""

from __future__ import annotations

import contextlib
import uuid
from typing import Iterator

import libvirt

from lab import Network, Workbench, daemon
from lab.commands import NETWORK

FLOOR = 10
"""Of each port, in 1000 bytes/s."""

AVERAGE = 4_000_000
"""Of the network: room for all."""


def mac(number: int) -> str:
    """Spread as libvirt's random addresses are."""
    spread = (number * 2654435761 & 0xFFFFFFFF).to_bytes(4, "big")
    return "52:54:00:" + spread[:3].hex(":")


def port_xml(number: int, floor: int | None, average: int | None = None) -> str:
    """A port with the floor and the average, both in 1000 bytes/s, that are given."""
    values = [f"{name}='{value}'" for name, value in (("average", average), ("floor", floor)) if value]
    bandwidth = f"<bandwidth><inbound {' '.join(values)}/></bandwidth>" if values else ""
    name = uuid.uuid4()
    return (
        f"<networkport><uuid>{name}</uuid><owner><name>bench</name><uuid>{name}</uuid></owner>"
        f"<mac address='{mac(number)}'/>{bandwidth}</networkport>"
    )


def fill(network: libvirt.virNetwork, start: int, end: int, floor: int | None = FLOOR) -> None:
    """Creates the ports of these numbers."""
    for number in range(start, end):
        network.portCreateXML(port_xml(number, floor), 0)


@contextlib.contextmanager
def handle(network: Network) -> Iterator[libvirt.virNetwork]:
    """The network, over a connection of its own to the daemon that runs now."""
    connection = libvirt.open(NETWORK)
    try:
        yield connection.networkLookupByName(network.name)
    finally:
        connection.close()


@contextlib.contextmanager
def network_of(bench: Workbench) -> Iterator[Network]:
    """A network with room for floors, which is gone when the block ends."""
    network = bench.network(average=AVERAGE, peak=None)
    try:
        yield network
    finally:
        daemon.start_if_dead()
        network.destroy()
        network.undefine()
