# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ports that come and go."""

from __future__ import annotations

import random

import libvirt

from .network import Network


def plug_and_unplug(network: Network, thread: int, operations: int) -> None:
    """Plugs, changes and unplugs through a client of its own; has at most four ports at a time."""
    conn = libvirt.open(None)
    handle = conn.networkLookupByName(network.name)
    choice = random.Random(thread)
    mine: list[libvirt.virNetworkPort] = []
    try:
        for count in range(operations):
            if mine and (len(mine) == 4 or choice.random() < 0.4):
                mine.pop(choice.randrange(len(mine))).delete(0)
            else:
                mac = f"52:54:00:{0xA0 + thread:02x}:{count >> 8:02x}:{count & 255:02x}"
                nic = network.nic(mac=mac, floor=choice.randint(1, 50))
                port = handle.portCreateXML(network.port_xml(nic), 0)
                mine.append(port)
                if count % 10 == 0 and choice.random() < 0.5:
                    port.setParameters({"inbound.floor": choice.randint(1, 60)}, 0)
        for port in mine:
            port.delete(0)
    finally:
        conn.close()
