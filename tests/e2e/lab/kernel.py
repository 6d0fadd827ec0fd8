# SPDX-License-Identifier: LGPL-2.1-or-later
"""Traffic control as the kernel has it.

Classes are read over a raw netlink socket, because tc(8) rounds the rates it prints and has no JSON
for HTB's; qdiscs and filters come from tc(8).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import socket
import struct
from typing import Iterator, Optional

from .commands import CommandFailed, run

RTM_GETTCLASS = 42
NLM_F_REQUEST_DUMP = 0x301
NLMSG_ERROR, NLMSG_DONE = 2, 3
TCA_KIND, TCA_OPTIONS, TCA_STATS2 = 1, 2, 7
TCA_HTB_PARMS, TCA_HTB_RATE64, TCA_HTB_CEIL64 = 1, 6, 7
TCA_STATS_BASIC, TCA_STATS_QUEUE = 1, 3

RTMGRP_TC = 8
SO_RCVBUFFORCE = 33
RECEIVE_BUFFER = 64 << 20  # for all that happens between two counts
TC_MESSAGES = range(36, 47)  # RTM_NEWQDISC … RTM_GETTFILTER

FLOOR_PREFERENCE = 10
RESERVED_PREFERENCE = 2
FIRST_ROOT_TABLE = 0x800  # a preference's own


@dataclasses.dataclass(frozen=True)
class Class:
    """An HTB class: class_id is the N of 1:N, rates are in bytes per second."""

    class_id: int
    parent: int
    rate: int
    ceil: int
    burst: int  # this and cburst: in the kernel's ticks
    cburst: int
    quantum: int
    bytes: int
    packets: int
    waiting: int  # packets in its queue

    def shape(self) -> tuple[int, ...]:
        """All but the counters."""
        return (self.class_id, self.parent, self.rate, self.ceil, self.burst, self.cburst, self.quantum)


@dataclasses.dataclass(frozen=True)
class Filter:
    preference: int
    protocol: str
    handle: str
    class_id: int
    mac: str  # that it matches; empty if it does not match one whole address and nothing else but IPv4

    @property
    def is_for_guest(self) -> bool:
        """libvirt's own, for an address that a guest took; for IPv4 alone."""
        return self.preference == RESERVED_PREFERENCE and self.mac != ""


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        yield kind & 0x3FFF, data[4:length]
        data = data[(length + 3) & ~3 :]


def _messages(ifindex: int) -> Iterator[bytes]:
    """The messages of a dump of all classes of a device, without their netlink headers."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as link:
        request = struct.pack("=BxHiIII", socket.AF_UNSPEC, 0, ifindex, 0, 0, 0)
        link.send(struct.pack("=IHHII", 16 + len(request), RTM_GETTCLASS, NLM_F_REQUEST_DUMP, 1, 0) + request)
        while True:
            data = link.recv(1 << 20)
            while data:
                length, kind = struct.unpack_from("=IH", data)
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    code = -struct.unpack_from("=i", data, 16)[0]
                    raise OSError(code, os.strerror(code))
                yield data[16:length]
                data = data[(length + 3) & ~3 :]


def _class_of(message: bytes) -> Class | None:
    handle, parent = struct.unpack_from("=II", message, 8)
    attributes = dict(_attributes(message[20:]))
    if attributes[TCA_KIND].rstrip(b"\0") != b"htb":
        return None
    options = dict(_attributes(attributes[TCA_OPTIONS]))
    parameters = options[TCA_HTB_PARMS]
    rate = struct.unpack_from("=I", parameters, 8)[0]
    ceil = struct.unpack_from("=I", parameters, 20)[0]
    burst, cburst, quantum = struct.unpack_from("=III", parameters, 24)
    if TCA_HTB_RATE64 in options:
        rate = struct.unpack("=Q", options[TCA_HTB_RATE64])[0]
    if TCA_HTB_CEIL64 in options:
        ceil = struct.unpack("=Q", options[TCA_HTB_CEIL64])[0]
    counters = dict(_attributes(attributes[TCA_STATS2]))
    sent_bytes, sent_packets = struct.unpack_from("=QI", counters[TCA_STATS_BASIC])
    waiting = struct.unpack_from("=I", counters[TCA_STATS_QUEUE])[0]
    root = parent == 0xFFFFFFFF
    return Class(
        handle & 0xFFFF, 0 if root else parent & 0xFFFF, rate, ceil, burst, cburst, quantum, sent_bytes, sent_packets,
        waiting,
    )  # fmt: skip


def tc_classes(device: str) -> dict[int, Class]:
    """The HTB classes of a device, by class ID."""
    found = map(_class_of, _messages(socket.if_nametoindex(device)))
    return {each.class_id: each for each in found if each}


def tc_qdiscs(device: str) -> list[dict]:
    """The qdiscs of a device, as `tc -j qdisc show` gives them."""
    return json.loads(run("tc", "-j", "qdisc", "show", "dev", device))


def tc_root(device: str) -> dict | None:
    """The HTB root qdisc of a device, if that is what it has."""
    for qdisc in tc_qdiscs(device):
        if qdisc.get("root") and qdisc["kind"] == "htb":
            return qdisc
    return None


def tc_leaves(device: str) -> dict[int, str]:
    """The kind of the leaf qdisc of each class that has one."""
    leaves = {}
    for qdisc in tc_qdiscs(device):
        parent = re.fullmatch(r"1:([0-9a-f]+)", qdisc.get("parent", ""))
        if parent:
            leaves[int(parent[1], 16)] = qdisc["kind"]
    return leaves


def tc_filters_text(device: str) -> str:
    """All filters at a device's root, in tc(8)'s words. Its JSON of u32 is no JSON."""
    try:
        return run("tc", "filter", "show", "dev", device)
    except CommandFailed:
        return ""


def tc_filters(device: str) -> list[Filter]:
    """The filters at a device's root that direct packets into a class 1:N."""
    pattern = re.compile(
        r"^filter parent 1: protocol (\S+) pref (\d+) \S+.*?(?:fh|handle) (\S+).*?flowid 1:([0-9a-f]+)"
    )
    found = []
    for each in re.split(r"^(?=filter )", tc_filters_text(device), flags=re.MULTILINE):
        head = pattern.match(each)
        if head:
            found.append(Filter(int(head[2]), head[1], head[3], int(head[4], 16), _matched_mac(each)))
    return found


def guest_filters(device: str) -> list[tuple[str, int]]:
    """Address and class of libvirt's own."""
    return [(each.mac, each.class_id) for each in tc_filters(device) if each.is_for_guest]


def _matched_mac(filter_text: str) -> str:
    matches = {(mask, at): value for value, mask, at in re.findall(r"match (\w+)/(\w+) at (-?\d+)", filter_text)}
    if matches.get(("0000ffff", "-4")) == "00000800":
        del matches["0000ffff", "-4"]
    if set(matches) != {("0000ffff", "-16"), ("ffffffff", "-12")}:
        return ""
    return bytes.fromhex(matches["0000ffff", "-16"][4:] + matches["ffffffff", "-12"]).hex(":")


def u32_tables(device: str) -> tuple[set[str], set[str]]:
    """The u32 tables at our preference but for its root table, and those that a node leads to."""
    lines = [
        line
        for line in tc_filters_text(device).splitlines()
        if line.startswith(f"filter parent 1: protocol all pref {FLOOR_PREFERENCE} u32 ")
    ]
    tables = {found[1] for line in lines if (found := re.search(r" fh ([0-9a-f]+): ht divisor ", line))}
    links = {found[1] for line in lines if (found := re.search(r" link ([0-9a-f]+): ", line))}
    return {table for table in tables if int(table, 16) < FIRST_ROOT_TABLE}, links


def has_reservation(device: str) -> bool:
    """Whether QEMU's u32 table 800: is kept free (see docs): 7fe: holds its preference."""
    return bool(
        re.search(
            rf"^filter parent 1: protocol ip pref {RESERVED_PREFERENCE} u32 .*fh 7fe: ht divisor 1",
            tc_filters_text(device),
            re.MULTILINE,
        )
    )


class ChangeMonitor:
    """Counts the changes to a device's qdiscs, classes and filters while the block lasts: all, or
    those that one process asked for."""

    def __init__(self, device: str, by_pid: Optional[int] = None) -> None:
        self._by_pid = by_pid
        self._ifindex = socket.if_nametoindex(device)
        self._link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._link.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
        self._link.bind((0, RTMGRP_TC))
        self._link.setblocking(False)
        self.changes = 0

    def __enter__(self) -> ChangeMonitor:
        return self

    def __exit__(self, *_error: object) -> None:
        self.count()
        self._link.close()

    def count(self) -> int:
        """The changes so far. The kernel sends them before it answers who asked for them."""
        with contextlib.suppress(BlockingIOError):
            while True:
                data = self._link.recv(1 << 20)
                while data:
                    length, kind, _, _, port = struct.unpack_from("=IHHII", data)
                    about_it = kind in TC_MESSAGES and struct.unpack_from("=i", data, 20)[0] == self._ifindex
                    # A socket's address is its owner's process ID, with the number of the socket above.
                    if about_it and self._by_pid in (None, port & 0x3FFFFF):
                        self.changes += 1
                    data = data[(length + 3) & ~3 :]
        return self.changes


def devices() -> set[str]:
    """Names of the network devices here."""
    return {name for _, name in socket.if_nameindex()}


def kernel_has_qdisc(kind: str) -> bool:
    """Whether a leaf of this kind can be made."""
    try:
        run("tc", "qdisc", "add", "dev", "lo", "root", kind)
    except CommandFailed:
        return False
    run("tc", "qdisc", "del", "dev", "lo", "root")
    return True
