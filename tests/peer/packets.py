# SPDX-License-Identifier: LGPL-2.1-or-later
"""Frames into a bridge: as many as its tree lets out, or some and what one of them costs."""

from __future__ import annotations

import contextlib
import mmap
import socket
import struct
import threading
import time
from typing import Iterator, Sequence

from lab import kernel, run

SOL_PACKET, PACKET_VERSION, PACKET_TX_RING, TPACKET_V2 = 263, 10, 13, 1
TP_STATUS_SEND_REQUEST = 1
SLOT, HEADER, BLOCK = 128, 32, 4096  # of the ring: a frame's slot, tpacket2_hdr in front of it, a page
RING_FRAMES = 2048
IPV4 = 0x0800


def frame(mac: str, length: int) -> bytes:
    """One of IPv4, with nothing in it."""
    return (bytes.fromhex(mac.replace(":", "")) + b"\x02\0\0\0\0\x01" + IPV4.to_bytes(2, "big")).ljust(length, b"\0")


@contextlib.contextmanager
def carrier(bridge: str) -> Iterator[None]:
    """A port of the bridge that takes no frames for addresses that it does not know: without any
    port, the bridge would not send at all."""
    run("ip", "link", "add", "peer0", "type", "veth", "peer", "name", "peer1")
    run("ip", "link", "set", "peer1", "up")
    run("ip", "link", "set", "peer0", "up", "master", bridge)
    run("ip", "link", "set", "peer0", "type", "bridge_slave", "flood", "off", "mcast_flood", "off")
    try:
        yield
    finally:
        run("ip", "link", "del", "peer0")


def nanoseconds_per_frame(device: str, mac: str) -> float:
    """Of the kernel's sending, from the packet socket through the tree, for a MAC's frames of 60 bytes."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V2)
        blocks = RING_FRAMES * SLOT // BLOCK
        sender.setsockopt(SOL_PACKET, PACKET_TX_RING, struct.pack("=IIII", BLOCK, blocks, SLOT, RING_FRAMES))
        sender.bind((device, IPV4))
        with mmap.mmap(sender.fileno(), RING_FRAMES * SLOT) as ring:
            sent = frame(mac, 60)
            for start in range(0, RING_FRAMES * SLOT, SLOT):
                ring[start + HEADER : start + HEADER + len(sent)] = sent
                struct.pack_into("=III", ring, start, TP_STATUS_SEND_REQUEST, len(sent), 0)
            begin = time.perf_counter_ns()
            sender.send(b"")
            return (time.perf_counter_ns() - begin) / RING_FRAMES


class Flood:
    """Sends to each MAC, from a socket of its own, as fast as the tree takes it, while the block lasts."""

    LENGTH = 1400

    def __init__(self, device: str, macs: Sequence[str]) -> None:
        self._stop = False
        self._threads = [threading.Thread(target=self._send, args=(device, mac)) for mac in macs]

    def __enter__(self) -> Flood:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop = True
        for thread in self._threads:
            thread.join()

    def _send(self, device: str, mac: str) -> None:
        sent = frame(mac, self.LENGTH)
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind((device, IPV4))
            while not self._stop:
                sender.send(sent)  # waits while its share of the queue is full


def sustained_rate(device: str, macs: Sequence[str], class_id: int, settle: float, seconds: float) -> float:
    """Bytes per second out of a class, while each MAC is sent as much as is let out."""
    with Flood(device, macs):
        time.sleep(settle)  # until what the tree has saved up is spent
        begin, before = time.monotonic(), kernel.tc_classes(device)[class_id].bytes
        time.sleep(seconds)
        sent = kernel.tc_classes(device)[class_id].bytes - before
        return sent / (time.monotonic() - begin)
