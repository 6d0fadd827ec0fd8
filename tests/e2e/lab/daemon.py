# SPDX-License-Identifier: LGPL-2.1-or-later
"""The sandbox's libvirtd. Each function returns when what it asked for is so (see sandbox-libvirtd)."""

from __future__ import annotations

import pathlib

from .commands import CommandFailed, run

LOG = pathlib.Path("/var/log/libvirt/libvirtd.log")

options: tuple[str, ...] = ()  # what it was started with last: --stock, --tc-shim


def start(*new_options: str) -> None:
    global options
    run("sandbox-libvirtd", "start", *new_options)
    options = new_options


def stop() -> None:
    run("sandbox-libvirtd", "stop")


def restart(*new_options: str) -> None:
    stop()
    start(*new_options)


def kill9() -> None:
    run("sandbox-libvirtd", "kill9")


def reload() -> None:
    """Sends SIGHUP; the reload itself goes on in the background."""
    run("sandbox-libvirtd", "reload")


def pid() -> int | None:
    try:
        return int(run("sandbox-libvirtd", "pid"))
    except CommandFailed:
        return None


def log_size() -> int:
    return LOG.stat().st_size if LOG.exists() else 0


def log_since(offset: int) -> str:
    """What libvirtd logged since log_size() was offset."""
    if not LOG.exists():
        return ""
    with LOG.open("rb") as log:
        log.seek(offset)
        return log.read().decode(errors="replace")
