# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tests' half of interposer.cc: says what is to happen at which point, and reads what was passed."""

from __future__ import annotations

import dataclasses
import enum
import errno
import mmap
import os
import pathlib
import re
import struct
from typing import Iterator

CONTROL = pathlib.Path("/run/sandbox/interposer")
LIBRARY = pathlib.Path(os.environ.get("BUILD_DIR", pathlib.Path(__file__).parents[2] / "build")) / (
    "tests/faults/interposer.so"
)
EXTENDED_TEXT = "refused by the test"  # what the kernel's answer says, where it is an error

HEADER = struct.Struct("=8I")  # mode, scope, target, fault, error, quick, passed, hits
TRACE = struct.Struct("=I252s")
MOST_TRACED = 4096
IS_WRITE, IS_NETLINK = 1, 2

MESSAGES = {
    16: "NEWLINK", 17: "DELLINK", 18: "GETLINK", 19: "SETLINK", 20: "NEWADDR", 21: "DELADDR",
    24: "NEWROUTE", 25: "DELROUTE",
    36: "NEWQDISC", 37: "DELQDISC", 38: "GETQDISC", 40: "NEWTCLASS", 41: "DELTCLASS", 42: "GETTCLASS",
    44: "NEWTFILTER", 45: "DELTFILTER", 46: "GETTFILTER",
}  # fmt: skip


class Mode(enum.IntEnum):
    IDLE, RECORD, KILL_BEFORE, KILL_AFTER, KILL_TORN, FAULT = range(6)


class Scope(enum.IntEnum):
    CHANGES, OURS, WATCH = range(3)


class Fault(enum.IntEnum):
    ERROR, TORN, SHORT_COUNT, CUT, WRONG_SEQUENCE, SILENCE, OVERRUN = range(7)


@dataclasses.dataclass(frozen=True)
class Point:
    number: int
    text: str  # the same for each run
    is_write: bool
    is_netlink: bool


def _text(raw: str) -> str:
    """Names that are random, or another each time, are left out."""
    if raw.startswith(("netlink ", "ioctl ")):
        return re.sub(r"(?<= )\d+", lambda number: MESSAGES.get(int(number[0]), number[0]), raw)
    raw = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID", raw)
    raw = re.sub(r"\.xml\.[A-Za-z0-9]{6}$", ".xml.TEMPORARY", raw)
    return re.sub(r"test-net-\d+", "NAME", re.sub(r"\bbrt\d+", "BRIDGE", raw))


class Interposer:
    def __init__(self) -> None:
        self._size = HEADER.size + MOST_TRACED * TRACE.size
        with CONTROL.open("wb") as file:
            file.truncate(self._size)
        with CONTROL.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), self._size)

    def close(self) -> None:
        self.disarm()
        self._map.close()
        CONTROL.unlink()

    def arm(
        self,
        mode: Mode,
        scope: Scope = Scope.CHANGES,
        target: int = 0,
        fault: Fault = Fault.ERROR,
        error: int = errno.EIO,
        quick: bool = True,
    ) -> None:
        self.disarm()
        HEADER.pack_into(self._map, 0, Mode.IDLE, scope, target, fault, error, quick, 0, 0)
        struct.pack_into("=I", self._map, 0, mode)

    def disarm(self) -> None:
        struct.pack_into("=I", self._map, 0, Mode.IDLE)

    @property
    def hits(self) -> int:
        """How often what was armed has happened."""
        return HEADER.unpack_from(self._map)[7]

    @property
    def passed(self) -> int:
        return HEADER.unpack_from(self._map)[6]

    def points(self) -> Iterator[Point]:
        """Those passed since it was armed."""
        count = self.passed
        assert count <= MOST_TRACED, f"{count} points"
        for number in range(count):
            flags, text = TRACE.unpack_from(self._map, HEADER.size + number * TRACE.size)
            raw = text.split(b"\0", 1)[0].decode(errors="replace")
            yield Point(number, _text(raw), bool(flags & IS_WRITE), bool(flags & IS_NETLINK))
