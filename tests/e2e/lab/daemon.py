# SPDX-License-Identifier: LGPL-2.1-or-later
"""The sandbox's libvirtd. Each function returns when what it asked for is so (see sandbox-libvirtd)."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import signal
from typing import Iterator

from .commands import CommandFailed, run

LOG = pathlib.Path("/var/log/libvirt/libvirtd.log")

options: tuple[str, ...] = ()  # what it was started with last: --stock, --tc-shim


def start(*new_options: str) -> None:
    global options
    run("sandbox-libvirtd", "start", *new_options)
    options = new_options


def start_if_dead() -> None:
    """Starts it with our module if it does not run."""
    if pid() is None:
        start()


def stop() -> None:
    run("sandbox-libvirtd", "stop")


def restart(*new_options: str) -> None:
    stop()
    start(*new_options)


def kill9() -> None:
    run("sandbox-libvirtd", "kill9")


def crash() -> None:
    """It is killed, and started again."""
    kill9()
    start()


def reload() -> None:
    """Sends SIGHUP; the reload itself goes on in the background."""
    run("sandbox-libvirtd", "reload")


def pid() -> int | None:
    try:
        return int(run("sandbox-libvirtd", "pid"))
    except CommandFailed:
        return None


@contextlib.contextmanager
def frozen() -> Iterator[None]:
    """It does nothing while the block lasts."""
    process = pid()
    assert process, "it does not run"
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def cpu_seconds() -> float:
    """The processor's time that it has used."""
    fields = _proc("stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_kib() -> int:
    """Its own memory, without what it has mapped of files."""
    return int(re.search(r"^RssAnon:\s+(\d+) kB", _proc("status").read_text(), re.MULTILINE)[1])


def descriptors() -> list[str]:
    """What it has open."""
    found = []
    for path in _proc("fd").iterdir():
        try:
            found.append(os.readlink(path))
        except FileNotFoundError:
            pass  # closed meanwhile
    return found


def _proc(name: str) -> pathlib.Path:
    return pathlib.Path(f"/proc/{pid()}/{name}")


def log_size() -> int:
    return LOG.stat().st_size if LOG.exists() else 0


def log_since(offset: int) -> str:
    """What libvirtd logged since log_size() was offset."""
    if not LOG.exists():
        return ""
    with LOG.open("rb") as log:
        log.seek(offset)
        return log.read().decode(errors="replace")
