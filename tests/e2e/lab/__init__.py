# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the e2e tests and the demo stand on: networks, guests, the daemon, and the kernel as witness.

Everything here runs inside the sandbox (./run sandbox). Actions go the way a user's do, through
virsh; what came of them is read from the kernel and from files, never from our own module's word
alone.
"""

from . import daemon, kernel, status, traffic
from .churn import plug_and_unplug
from .commands import (
    CommandFailed,
    connection,
    file_of,
    run,
    virsh,
    virsh_fails,
    wait_until,
    wait_until_passes,
)
from .guest import Guest, LxcGuest, QemuGuest
from .invariants import CATCHMENT, ROOT, check_no_tree, check_static, check_steering, check_tables, check_tree
from .network import Network, Nic, Port
from .workbench import Workbench, workbench

__all__ = [
    "CATCHMENT",
    "ROOT",
    "CommandFailed",
    "Guest",
    "LxcGuest",
    "Network",
    "Nic",
    "Port",
    "QemuGuest",
    "Workbench",
    "check_no_tree",
    "check_static",
    "check_steering",
    "check_tables",
    "check_tree",
    "connection",
    "daemon",
    "file_of",
    "kernel",
    "plug_and_unplug",
    "run",
    "status",
    "traffic",
    "virsh",
    "virsh_fails",
    "wait_until",
    "wait_until_passes",
    "workbench",
]
