# SPDX-License-Identifier: LGPL-2.1-or-later
"""Traffic through a network's bridge to its guests, and what arrives."""

from __future__ import annotations

import fcntl
import pathlib
import socket
import struct
import subprocess
import termios
import threading
import time
from types import TracebackType
from typing import Callable, Iterable, Optional, Type

from .commands import wait_until

ETHERTYPES = {"IPv4": 0x0800, "ARP": 0x0806, "IPv6": 0x86DD}


def send_frames(device: str, mac: str, count: int = 1, ethertypes: Iterable[int] = ETHERTYPES.values()) -> int:
    """Sends count frames of each type out of a device to a MAC, and returns how many."""
    sent = 0
    destination = bytes.fromhex(mac.replace(":", ""))
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        for kind in ethertypes:
            frame = destination + b"\x02\0\0\0\0\x01" + kind.to_bytes(2, "big") + bytes(46)
            for _ in range(count):
                raw.sendto(frame, (device, kind))
                sent += 1
    return sent


def answers_ping(address: str) -> bool:
    """One echo request, IPv4 or IPv6."""
    argv = ["ping", "-q", "-n", "-c", "1", "-W", "0.3", address]
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0


def answers_arp(device: str, mac: str, address: str, own_address: str) -> bool:
    """One ARP request sent to the guest's own MAC, as a host sends it to renew an entry."""
    own_mac = bytes.fromhex(pathlib.Path(f"/sys/class/net/{device}/address").read_text().strip().replace(":", ""))
    guest_mac = bytes.fromhex(mac.replace(":", ""))
    request = (
        guest_mac + own_mac + b"\x08\x06" + b"\0\x01\x08\0\x06\x04\0\x01"
        + own_mac + socket.inet_aton(own_address) + bytes(6) + socket.inet_aton(address)
    )  # fmt: skip
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPES["ARP"])) as raw:
        raw.bind((device, ETHERTYPES["ARP"]))
        raw.settimeout(1)
        raw.send(request)
        try:
            while True:
                reply = raw.recv(2048)
                if reply[6:12] == guest_mac and reply[20:22] == b"\0\x02":
                    return True
        except TimeoutError:
            return False


class Flood:
    """Sends UDP to each address, as much as is offered, for as long as the block lasts.

    Each address has a socket of its own: a full queue in front of one guest does not hold up the
    packets to another.
    """

    PAYLOAD = 1400
    PORT = 9
    TICK = 0.002

    def __init__(self, addresses: Iterable[str], bytes_per_second: int) -> None:
        self._addresses = list(addresses)
        self._packets_per_tick = max(1, round(bytes_per_second * self.TICK / self.PAYLOAD))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send)

    def __enter__(self) -> Flood:
        self._thread.start()
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _send(self) -> None:
        targets = []
        for address in self._addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            sender = socket.socket(family, socket.SOCK_DGRAM)
            sender.setblocking(False)
            targets.append((sender, (address, self.PORT)))
        payload = bytes(self.PAYLOAD)
        while not self._stop.wait(self.TICK):
            for sender, target in targets:
                try:
                    for _ in range(self._packets_per_tick):
                        sender.sendto(payload, target)
                except OSError:
                    pass  # its queue is full
        for sender, _ in targets:
            wait_until("its queue is empty", lambda: _unsent_bytes(sender) == 0)
            sender.close()


def _unsent_bytes(sender: socket.socket) -> int:
    return struct.unpack("=i", fcntl.ioctl(sender, termios.TIOCOUTQ, bytes(4)))[0]


def rates(counters: Callable[[], dict[str, int]], seconds: float) -> dict[str, float]:
    """Bytes per second by which counters rise, over an interval."""
    start, before = time.monotonic(), counters()
    time.sleep(seconds)  # an interval to measure over, not something to wait for
    end, after = time.monotonic(), counters()
    return {key: (after[key] - before[key]) / (end - start) for key in before}


def received_bytes(device: str) -> int:
    """What a guest got through its tap or veth: sent, from the host's side."""
    return int(pathlib.Path(f"/sys/class/net/{device}/statistics/tx_bytes").read_text())
