# SPDX-License-Identifier: LGPL-2.1-or-later
"""A second host: a sandbox in the sandbox, with a libvirtd, bridges and files of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import socket
import struct
import subprocess
import tempfile
from collections.abc import Iterator

import page
from lab import run

_DEADLINE_S = 60

# What keeps the second host alive: a connection to us, by which we also learn of its process ID.
_KEEPER = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.recv(1)"


@dataclasses.dataclass(frozen=True)
class Host:
    pid: int  # a process on it
    folder: pathlib.Path  # one that both hosts see

    @property
    def uri(self) -> str:
        """Where its libvirtd is reached from here."""
        return f"qemu+unix:///system?socket=/proc/{self.pid}/root/run/libvirt/libvirt-sock"

    @property
    def migration_uri(self) -> str:
        """Where its QEMU listens for a guest that comes from here."""
        return f"unix://{self.folder}/migration.sock"

    def on_it(self, *command: str) -> list[str]:
        """The command that runs a command on it, as ssh would."""
        return ["nsenter", f"--target={self.pid}", "--mount", "--net", "--pid", "--", *command]

    def run(self, *command: str) -> str:
        return run(*self.on_it(*command))


@contextlib.contextmanager
def second_host() -> Iterator[Host]:
    # Not in the sandbox's own folder for such things, which the other one does not see.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, socket.socket(socket.AF_UNIX) as door:
        door.bind(f"{folder}/door")
        door.listen()
        door.settimeout(_DEADLINE_S)
        drivers = pathlib.Path(os.environ["BUILD_DIR"]) / "stage"
        process = subprocess.Popen(
            [page.ROOT / "tests/sandbox/enter", "--driver-dir", drivers, "--",
             "/usr/bin/python3", "-c", _KEEPER, f"{folder}/door"],
            stdin=subprocess.DEVNULL,
        )
        try:
            keeper, _ = door.accept()
            with keeper:
                pid, _, _ = struct.unpack("3i", keeper.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
                yield Host(pid, pathlib.Path(folder))
            assert process.wait(_DEADLINE_S) == 0
        finally:
            process.terminate()
            process.wait(_DEADLINE_S)
