#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a floor adds to virNetworkPortCreateXML through libvirtd, with 10 and with 1000 ports there,
and what it adds to a restart of libvirtd. Runs in the sandbox (./run bench)."""

import re
import statistics
import subprocess
import time
import uuid

import libvirt

LOG = "/var/log/libvirt/libvirtd.log"
ROUNDS = 300

NETWORK = """
<network>
  <name>bench</name><bridge name='brbench'/>
  <bandwidth><inbound average='4000000'/></bandwidth>
</network>"""

PORT = """
<networkport>
  <uuid>{uuid}</uuid>
  <owner><name>bench</name><uuid>{uuid}</uuid></owner>
  <mac address='52:54:00:{0:02x}:{1:02x}:{2:02x}'/>
  {bandwidth}
</networkport>"""


def port_xml(number: int, floor: bool) -> str:
    # Spread as libvirt's random addresses are.
    bytes_of_mac = (number * 2654435761 & 0xFFFFFFFF).to_bytes(4, "big")
    bandwidth = "<bandwidth><inbound floor='10'/></bandwidth>" if floor else ""
    return PORT.format(*bytes_of_mac[:3], uuid=uuid.uuid4(), bandwidth=bandwidth)


def microseconds(network: libvirt.virNetwork, xml: str) -> float:
    start = time.perf_counter()
    port = network.portCreateXML(xml)
    taken = (time.perf_counter() - start) * 1e6
    port.delete()
    return taken


def compare(network: libvirt.virNetwork, ports: int) -> None:
    with_floor, without = [], []
    for _ in range(ROUNDS):
        without.append(microseconds(network, port_xml(99999, floor=False)))
        with_floor.append(microseconds(network, port_xml(99999, floor=True)))
    floor_us, plain_us = statistics.median(with_floor), statistics.median(without)
    print(f"portCreateXML at {ports:4} ports: {floor_us:7.1f} us with a floor, "
          f"{plain_us:7.1f} us without: {floor_us / plain_us:.2f} times")


def classes() -> int:
    shown = subprocess.run(["tc", "class", "show", "dev", "brbench"], check=True,
                           capture_output=True, text=True).stdout
    return shown.count("class htb")


def restart(ports: int) -> None:
    subprocess.run(["sandbox-libvirtd", "kill9"], check=True)
    monitor = subprocess.Popen(["tc", "monitor"], stdout=subprocess.PIPE, text=True)
    subprocess.run(["sandbox-libvirtd", "start"], check=True)
    monitor.terminate()
    changes = len(monitor.communicate()[0].splitlines())
    with open(LOG, encoding="utf-8") as log:
        line = re.findall(r"network 'bench': .*", log.read())[-1]
    print(f"restart with {ports} ports: {line}; tc monitor saw {changes} changes")


def main() -> None:
    connection = libvirt.open("network:///system")
    network = connection.networkCreateXML(NETWORK)
    plugged = 0
    for ports in 10, 1000:
        while plugged < ports:
            network.portCreateXML(port_xml(plugged, floor=True))
            plugged += 1
        assert classes() == ports + 2
        compare(network, ports)
    connection.close()
    restart(plugged)


if __name__ == "__main__":
    main()
