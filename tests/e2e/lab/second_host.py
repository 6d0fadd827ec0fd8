# SPDX-License-Identifier: LGPL-2.1-or-later
"""A second host: a sandbox in the sandbox, with a libvirtd, bridges and state of its own.

Both hosts have TMPDIR in common, as hosts have storage. What is to be done over there is called there: in a
process of this Python that has moved to the other's namespaces, where all of the lab does what it does here.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import pathlib
import shutil
import subprocess
import tempfile
import traceback
import uuid
from multiprocessing.connection import Connection
from typing import Callable, Iterator, TypeVar

from .commands import run

T = TypeVar("T")

ENTER = pathlib.Path(__file__).parents[2] / "sandbox" / "enter"
DRIVERS = pathlib.Path("/run/sandbox/drivers")
COMMON = pathlib.Path("/mnt")  # seen by the inner sandbox, which has a /run of its own
CALL_SECONDS = 120
NAMESPACES = ("net", "uts", "ipc", "mnt")

# Two hosts that libvirt takes for one refuse to migrate. It ends with its input.
HOST = """
set -e
hostname second-host
mount --bind "$1" "$TMPDIR"
echo "host_uuid = '$2'" >>/etc/libvirt/libvirtd.conf
sandbox-libvirtd restart
readlink /proc/self/ns/pid
read -r _ || true
"""


class SecondHost:
    def __init__(self, pid: int, worker: Connection) -> None:
        self._pid = pid
        self._worker = worker

    @property
    def uri(self) -> str:
        """Of its QEMU driver, for who is here."""
        return f"qemu+unix:///system?socket=/proc/{self._pid}/root/run/libvirt/libvirt-sock"

    @property
    def migration_uri(self) -> str:
        """Where its QEMU listens for a guest that comes from here."""
        return f"unix://{tempfile.gettempdir()}/migration"

    def on_it(self, *command: str) -> list[str]:
        """The command that runs a command on it, as ssh would."""
        return ["nsenter", f"--target={self._pid}", "--mount", "--net", "--uts", "--pid", "--", *command]

    def run(self, *command: str) -> str:
        return run(*self.on_it(*command))

    def call(self, function: Callable[..., T], *args: object) -> T:
        """Calls the function on that host. It and its arguments are pickled, and so is what it returns or raises."""
        self._worker.send((function, args))
        assert self._worker.poll(CALL_SECONDS), f"{function} has not returned in {CALL_SECONDS} s"
        result, error = self._worker.recv()
        if error:
            raise error
        return result


def _work(orders: Connection, namespaces: list[str]) -> None:
    """Does what it is told, until it is ended."""
    _enter(namespaces)
    while True:
        function, args = orders.recv()
        try:
            answer = function(*args), None
        except Exception as error:
            error.add_note(f"On the second host: {traceback.format_exc()}")
            answer = None, error
        orders.send(answer)


def _enter(namespaces: list[str]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    # All at once: in another mount namespace, they have other paths.
    files = [os.open(namespace, os.O_RDONLY) for namespace in namespaces]
    for file in files:
        if libc.setns(file, 0) < 0:
            raise OSError(ctypes.get_errno(), f"cannot enter {namespaces}")
        os.close(file)


@contextlib.contextmanager
def _children_beside(pid: int) -> Iterator[None]:
    """Processes that are started in the block are in the PID namespace of that process."""
    _enter([f"/proc/{pid}/ns/pid"])
    try:
        yield
    finally:
        _enter(["/proc/self/ns/pid"])


def _process_in(namespace: str) -> int:
    """A process of that PID namespace, by its number here."""
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(process / "ns/pid") == namespace:
                return int(process.name)
    raise AssertionError(f"no process in {namespace}")


@contextlib.contextmanager
def _common_folder() -> Iterator[None]:
    run("mount", "--bind", tempfile.gettempdir(), str(COMMON))
    try:
        yield
    finally:
        run("umount", str(COMMON))


@contextlib.contextmanager
def second_host() -> Iterator[SecondHost]:
    with _common_folder(), tempfile.TemporaryDirectory(dir=COMMON) as folder:
        drivers = shutil.copytree(DRIVERS, f"{folder}/drivers", symlinks=True)
        command = [ENTER, "--driver-dir", drivers, "--", "bash", "-c", HOST, "host", COMMON, str(uuid.uuid4())]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as host:
            namespace = host.stdout.readline().strip()
            assert namespace, "the second host did not start"
            pid = _process_in(namespace)
            fork = multiprocessing.get_context("fork")
            orders, worker = fork.Pipe()
            namespaces = [f"/proc/{pid}/ns/{kind}" for kind in NAMESPACES]
            process = fork.Process(target=_work, args=(orders, namespaces))
            with _children_beside(pid):
                process.start()
            try:
                yield SecondHost(pid, worker)
            finally:
                process.terminate()  # it has the host's input open, too
                process.join()
