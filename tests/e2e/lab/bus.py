# SPDX-License-Identifier: LGPL-2.1-or-later
"""A private system D-Bus, where everybody may do everything."""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
import tempfile
from typing import Iterator

from .commands import run, wait_until

SOCKET = pathlib.Path("/run/dbus/system_bus_socket")

CONFIG = f"""<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={SOCKET}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
  </policy>
</busconfig>
"""


@contextlib.contextmanager
def running(*argv: str) -> Iterator[None]:
    """A process that is there while the block lasts."""
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def system_bus() -> Iterator[None]:
    """A daemon that is started inside the block uses it. libvirtd ends with its bus."""
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as config:
        config.write(CONFIG)
        config.flush()
        SOCKET.parent.mkdir(exist_ok=True)
        try:
            with running("dbus-daemon", f"--config-file={config.name}", "--nofork", "--nopidfile", "--nosyslog"):
                wait_until("the bus listens", SOCKET.exists)
                yield
        finally:
            SOCKET.unlink(missing_ok=True)


def has_owner(name: str) -> bool:
    """Whether there is a process of that name on the bus."""
    call = ("--system", "--print-reply", "--dest=org.freedesktop.DBus", "/", "org.freedesktop.DBus.NameHasOwner")
    return "true" in run("dbus-send", *call, f"string:{name}")
