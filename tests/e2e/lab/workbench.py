# SPDX-License-Identifier: LGPL-2.1-or-later
"""A test's workbench: makes networks and guests, knows them all, and clears them away."""

from __future__ import annotations

import contextlib
import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Iterator, Optional

import libvirt

from . import daemon, kernel, status
from .bandwidth import Values
from .commands import LXC, QEMU, connection, virsh, wait_until
from .guest import LxcGuest, QemuGuest
from .machine import Machine
from .network import PERSISTENT_DIR, Network, Nic

_network_indices = itertools.cycle(range(1, 250))


class Workbench:
    def __init__(self) -> None:
        self._devices = kernel.devices()
        self._guest_numbers = itertools.count(1)

    # Making things.

    def defined_network(self, inbound: Optional[Values] = None, **options: object) -> Network:
        """A network that is defined, and not started."""
        network = self.described_network(inbound, **options)
        network.define()
        return network

    def network(self, average: int = 4000, peak: Optional[int] = 8000, **options: object) -> Network:
        """A network that is defined and runs, with inbound bandwidth; peak=None for none."""
        inbound = {"average": average, **({"peak": peak} if peak else {}), "burst": options.pop("burst", 64)}
        network = self.defined_network(inbound, **options)
        network.start()
        return network

    def plain_network(self, **options: object) -> Network:
        """A network that is defined and runs, without bandwidth."""
        network = self.defined_network(None, **options)
        network.start()
        return network

    def described_network(self, inbound: Optional[Values] = None, **options: object) -> Network:
        """A network that libvirt does not know of yet."""
        return Network(next(_network_indices), inbound or {}, **options)

    def lxc(self, *nics: Nic) -> LxcGuest:
        """An LXC guest that runs."""
        guest = self.described_lxc(*nics)
        guest.create()
        return guest

    def qemu(self, *nics: Nic) -> QemuGuest:
        """A QEMU guest that is plugged in (and paused)."""
        guest = self.described_qemu(*nics)
        guest.create()
        return guest

    def machine(self, nic: Nic) -> Machine:
        """A QEMU guest that runs Linux, and answers."""
        guest = Machine(f"test-machine-{next(self._guest_numbers)}", [nic])
        guest.create()
        return guest

    def described_lxc(self, *nics: Nic) -> LxcGuest:
        return LxcGuest(f"test-lxc-{next(self._guest_numbers)}", list(nics))

    def described_qemu(self, *nics: Nic) -> QemuGuest:
        return QemuGuest(f"test-qemu-{next(self._guest_numbers)}", list(nics))

    # Clearing up.

    def clear_guests(self) -> None:
        """Takes away all guests, in the way a user would."""
        for uri in (QEMU, LXC):
            with connection(uri) as conn, ThreadPoolExecutor(4) as pool:
                list(pool.map(_take_away, conn.listAllDomains()))

    def clear(self) -> None:
        """Takes away all guests and networks."""
        self.clear_guests()
        with connection() as conn:
            for network in conn.listAllNetworks():
                _take_away(network)

    def leftovers(self) -> list[str]:
        """What is still there when everything was cleared, in words."""
        found = [f"status file {name}" for name in sorted(status.files())]
        found += [f"device {name}" for name in sorted(kernel.devices() - self._devices)]
        found += [f"network file {path}" for path in PERSISTENT_DIR.rglob("*.xml")]
        found += [f"domain status {path}" for folder in status.DOMAIN_DIRS for path in folder.glob("*.xml")]
        for uri, what in ((QEMU, "QEMU"), (LXC, "LXC")):
            found += [f"{what} guest {name}" for name in virsh("list", "--all", "--name", uri=uri).split()]
        found += [f"network {name}" for name in virsh("net-list", "--all", "--name").split()]
        return found

    def is_clean(self) -> bool:
        """Guests' devices go a moment after they do; all else must be gone by now."""
        with contextlib.suppress(AssertionError):
            wait_until("devices are gone", lambda: kernel.devices() <= self._devices, seconds=5)
        return not self.leftovers()

    def assert_clean(self) -> None:
        assert self.is_clean(), self.leftovers()

    def scrub(self) -> None:
        """After a failure: what clear() could not take away must not fail the next test."""
        for path in status.STATUS_DIR.glob("*"):
            path.unlink()


def _take_away(thing: libvirt.virDomain | libvirt.virNetwork) -> None:
    """Destroys and undefines what may end by itself meanwhile."""
    with contextlib.suppress(libvirt.libvirtError):
        persistent = thing.isPersistent()
        if thing.isActive():
            thing.destroy()
        if persistent:
            thing.undefine()


@contextlib.contextmanager
def workbench() -> Iterator[Workbench]:
    """A workbench whose daemon is running with our module when the block begins and when it ends."""
    daemon.start_if_dead()
    bench = Workbench()
    try:
        yield bench
    finally:
        daemon.start_if_dead()
        bench.clear()


