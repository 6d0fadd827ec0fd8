# SPDX-License-Identifier: LGPL-2.1-or-later
"""Running commands, and waiting for conditions."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from typing import Callable, Iterator, Optional, TypeVar

import libvirt

T = TypeVar("T")

QEMU = "qemu:///system"
LXC = "lxc:///system"
NETWORK = "network:///system"  # a daemon without any driver for guests

libvirt.registerErrorHandler(lambda _context, _error: None, None)  # no second copy on stderr


class CommandFailed(Exception):
    """A command ended with an error; str() is what it said on stderr."""


def run(*argv: str) -> str:
    """Runs a command and returns what it printed."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise CommandFailed(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


# Without a URI, libvirt takes LIBVIRT_DEFAULT_URI, which the sandbox has set to QEMU's.


def virsh(*args: str, uri: Optional[str] = None) -> str:
    return run("virsh", "--quiet", *(["--connect", uri] if uri else []), *args)


def virsh_fails(*args: str, uri: Optional[str] = None) -> str:
    """Runs a virsh command that must fail, and returns its error."""
    try:
        output = virsh(*args, uri=uri)
    except CommandFailed as error:
        return str(error)
    raise AssertionError(f"virsh {' '.join(args)} was accepted: {output}")


@contextlib.contextmanager
def connection(uri: Optional[str] = None) -> Iterator[libvirt.virConnect]:
    opened = libvirt.open(uri)
    try:
        yield opened
    finally:
        opened.close()


@contextlib.contextmanager
def file_of(text: str) -> Iterator[str]:
    """The path of a file with this text, for as long as the block lasts."""
    with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
        file.write(text)
        file.flush()
        yield file.name


def is_so_within(seconds: float, condition: Callable[[], T]) -> T:
    """Polls until the condition's value is true, or the time is over, and returns the last value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value or time.monotonic() > deadline:
            return value
        time.sleep(0.02)


def wait_until(what: str, condition: Callable[[], T], seconds: float = 10) -> T:
    """Polls until the condition's value is true, and returns it."""
    value = is_so_within(seconds, condition)
    if not value:
        raise AssertionError(f"still not so after {seconds} s: {what}")
    return value


def wait_until_passes(assertion: Callable[[], None], seconds: float = 10) -> None:
    """Polls until the function raises no AssertionError."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return assertion()
        except AssertionError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.02)
