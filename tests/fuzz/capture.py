# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes the corpora of seeds out of what a real libvirtd and kernel say:

    ./run sandbox /usr/bin/python3 -B tests/fuzz/capture.py tests/fuzz/corpus
"""

from __future__ import annotations

import pathlib
import socket
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "e2e"))

from lab import Network, Workbench, daemon, run, status, workbench

PORT_DIR = pathlib.Path("/run/libvirt/network")
IFINDEX = 7  # of the device that the netlink target reads
NEW_CLASS, GET_QDISC, GET_CLASS, GET_FILTER = 40, 38, 42, 46
REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
ERROR, DONE = 2, 3
SOL_NETLINK, CAP_ACK, EXT_ACK = 270, 10, 11
TC_HEADER = "=BxxxiIII"

corpus = pathlib.Path(sys.argv[1])


def keep(target: str, name: str, content: str | bytes) -> None:
    path = corpus / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def for_any_request(datagram: bytes, ifindex: int) -> bytes:
    """With sequence numbers that count from the request's, and the target's interface."""
    data, at = bytearray(datagram), 0
    while at < len(data):
        (length, kind) = struct.unpack_from("=IH", data, at)
        struct.pack_into("=I", data, at + 8, 0)
        if kind not in (ERROR, DONE) and struct.unpack_from("=i", data, at + 20) == (ifindex,):
            struct.pack_into("=i", data, at + 20, IFINDEX)
        at += (length + 3) & ~3
    return bytes(data)


def frames(datagrams: list[bytes]) -> bytes:
    return b"".join(struct.pack("=H", len(each)) + each for each in datagrams) + b"\0\0"


def ask(kind: int, flags: int, ifindex: int, parent: int = 0, handle: int = 0) -> bytes:
    """The kernel's answer to one request, as the netlink target takes it."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as link:
        link.setsockopt(SOL_NETLINK, EXT_ACK, 1)
        link.setsockopt(SOL_NETLINK, CAP_ACK, 1)
        body = struct.pack(TC_HEADER, socket.AF_UNSPEC, ifindex, handle, parent, 0)
        link.send(struct.pack("=IHHII", 16 + len(body), kind, REQUEST | flags, 1, 0) + body)
        datagrams = []
        while True:
            datagram = link.recv(65536)
            datagrams.append(for_any_request(datagram, ifindex))
            last, at = 0, 0
            while at < len(datagram):
                length, last = struct.unpack_from("=IH", datagram, at)
                at += (length + 3) & ~3
            if last in (ERROR, DONE):
                return frames(datagrams)


def dumps(device: str) -> bytes:
    ifindex = socket.if_nametoindex(device)
    return (
        ask(GET_QDISC, DUMP, ifindex)
        + ask(GET_CLASS, DUMP, ifindex)
        + ask(GET_FILTER, DUMP, ifindex, parent=0x10000)
    )


def keep_tree(name: str, device: str) -> None:
    """With answers behind it: some of success, one of failure."""
    ifindex = socket.if_nametoindex(device)
    refused = ask(NEW_CLASS, ACK, ifindex, parent=0x10000, handle=0x2FFFF)
    success = frames([struct.pack("=IHHIIiIHHII", 36, ERROR, 0x100, 0, 0, 0, 20, NEW_CLASS, 5, 0, 0)])
    keep("netlink", name, dumps(device) + 6 * success + refused)


def keep_network(name: str, network: Network) -> None:
    keep("network_xml", f"{name}.live", network.dumpxml())
    keep("network_xml", f"{name}.asked", network.xml())
    if network.info("Persistent") == "yes":
        keep("network_xml", f"{name}.inactive", network.dumpxml("--inactive"))


def keep_ports(name: str, network: Network) -> None:
    for number, port in enumerate(network.ports()):
        keep("port_xml", f"{name}-{number}", port.xml)
        stock = PORT_DIR / network.name / "ports" / f"{port.uuid}.xml"
        keep("port_xml", f"{name}-{number}.stock", stock.read_text())


def capture(lab: Workbench) -> None:
    plain = lab.network(average=2000)
    keep_tree("empty", plain.bridge)
    full = lab.network(average=4000, peak=8000, burst=64, outbound={"average": 1000, "peak": 2000, "burst": 128})
    nat = lab.network(average=2000, forward="nat", services=True)
    isolated = lab.network(forward=None)
    for name, network in (("plain", plain), ("full", full), ("nat", nat), ("isolated", isolated)):
        keep_network(name, network)

    lxc = lab.lxc(plain.nic(floor=100), full.nic(average=500, peak=900, floor=300, burst=32))
    qemu = lab.qemu(plain.nic(floor=200), full.nic(), plain.nic(outbound={"average": 50}, average=70))
    for guest in (lxc, qemu):
        keep("domain_status", type(guest).__name__.lower(), guest.status_file.read_text())
    keep_ports("plain", plain)
    keep_ports("full", full)
    keep("port_xml", "asked", full.port_xml(full.nic(floor=10)))
    keep("port_xml", "reclaimed", full.port_xml(full.nic(floor=10), class_id=9, reclaim=True))
    for network in (plain, full):
        keep("status_file", network.name, status.network_file(network.name).read_text())
        keep_tree(network.name, network.bridge)

    # Addresses that share their last byte: a table of their own, and more records.
    for number in range(9):
        plain.create_port(plain.nic(mac=f"52:54:00:01:{number:02x}:0b", floor=10))
    keep("status_file", "grown", status.network_file(plain.name).read_text())
    keep_tree("split-bucket", plain.bridge)

    # Others' work.
    run("tc", "filter", "add", "dev", full.bridge, "parent", "1:", "pref", "5", "protocol", "ip", "u32",
        "match", "ip", "dst", "10.0.0.1", "flowid", "1:3")
    keep_tree("foreign-filter", full.bridge)
    run("tc", "qdisc", "del", "dev", full.bridge, "root")
    run("tc", "qdisc", "add", "dev", full.bridge, "root", "handle", "1:", "htb", "default", "7")
    keep_tree("other-default", full.bridge)
    run("tc", "qdisc", "replace", "dev", full.bridge, "root", "pfifo")
    keep_tree("other-root", full.bridge)


daemon.restart("--tc-shim")  # for kernels that cannot do <outbound>
with workbench() as bench:
    capture(bench)
