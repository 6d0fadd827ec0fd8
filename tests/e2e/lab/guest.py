# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guests: small LXC containers, which answer, and small QEMU machines, which are just there."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from typing import ClassVar
from xml.etree import ElementTree

from .commands import LXC, QEMU, file_of, is_so_within, virsh, virsh_fails, wait_until
from .network import Nic


@dataclasses.dataclass
class Guest:
    name: str
    nics: list[Nic]

    uri: ClassVar[str]
    status_dir: ClassVar[pathlib.Path]

    def xml(self) -> str:
        raise NotImplementedError

    def nic_xml(self, nic: Nic) -> str:
        raise NotImplementedError

    @property
    def nic(self) -> Nic:
        """The only interface."""
        (nic,) = self.nics
        return nic

    @property
    def status_file(self) -> pathlib.Path:
        return self.status_dir / f"{self.name}.xml"

    def virsh(self, *args: str) -> str:
        return virsh(*args, uri=self.uri)

    def create_options(self) -> list[str]:
        return []

    # What a user does.

    def create(self) -> None:
        with file_of(self.xml()) as path:
            self.virsh("create", *self.create_options(), path)

    def create_fails(self) -> str:
        with file_of(self.xml()) as path:
            return virsh_fails("create", *self.create_options(), path, uri=self.uri)

    def define(self) -> None:
        with file_of(self.xml()) as path:
            self.virsh("define", path)

    def start(self) -> None:
        self.virsh("start", *self.create_options(), self.name)

    def destroy(self) -> None:
        self.virsh("destroy", self.name)

    def undefine(self) -> None:
        self.virsh("undefine", self.name)

    def attach(self, nic: Nic) -> None:
        with file_of(self.nic_xml(nic)) as path:
            self.virsh("attach-device", self.name, path, "--live")
        self.nics.append(nic)

    def attach_fails(self, nic: Nic) -> str:
        with file_of(self.nic_xml(nic)) as path:
            return virsh_fails("attach-device", self.name, path, "--live", uri=self.uri)

    def detach(self, nic: Nic) -> None:
        self.virsh("detach-interface", self.name, "network", "--mac", nic.mac, "--live")
        self.nics.remove(nic)

    # What happens to it.

    def pid(self) -> int:
        """The process that dies when the guest crashes: QEMU, or the LXC controller."""
        return int(ElementTree.parse(self.status_file).getroot().get("pid", ""))

    def is_running(self) -> bool:
        return self.name in self.virsh("list", "--name").split()

    def wait_until_gone(self) -> None:
        wait_until(f"{self.name} does not run", lambda: not self.is_running())

    # What libvirt wrote down about it.

    def status_interface(self, nic: Nic) -> ElementTree.Element:
        """The interface in the domain status XML."""
        for interface in ElementTree.parse(self.status_file).getroot().iter("interface"):
            if interface.find("mac").get("address") == nic.mac:
                return interface
        raise AssertionError(f"{nic.mac} is not in {self.status_file}")

    def device(self, nic: Nic) -> str:
        """The host's end of it: a tap or veth device."""
        return self.status_interface(nic).find("target").get("dev", "")

    def status_class_id(self, nic: Nic) -> int | None:
        found = self.status_interface(nic).find("actual/class")
        return None if found is None else int(found.get("id", ""))


class LxcGuest(Guest):
    """Answers ARP, ping and ping6 at its interfaces' addresses."""

    uri = LXC
    status_dir = pathlib.Path("/run/libvirt/lxc")

    def create(self) -> None:
        """Creates it until the driver knows its init, without which it attaches no device.

        The driver learns of it by a notice, and loses one that comes before it has said who takes
        it: virLXCMonitorNew (src/lxc/lxc_monitor.c) registers the socket first, the program after.
        """
        for _ in range(3):
            super().create()
            if is_so_within(5, self.init_pid):
                return
            self.destroy()
        raise AssertionError(f"{self.name} was created, and its init never known")

    def init_pid(self) -> int:
        """A process in its namespaces; 0 where libvirt's driver does not know it (yet)."""
        found = re.search(r"<init pid='(\d+)'", self.status_file.read_text())
        return int(found[1]) if found else 0

    def nic_xml(self, nic: Nic) -> str:
        return nic.xml(with_addresses=True)

    def xml(self) -> str:
        return (
            f"<domain type='lxc'><name>{self.name}</name><memory unit='MiB'>32</memory>"
            # The trap: as process 1 it would not end by SIGTERM, and destroy would take 2 s.
            f"<os><type>exe</type><init>/bin/sh</init><initarg>-c</initarg>"
            f"<initarg>trap 'exit 0' TERM; sleep infinity &amp; wait</initarg></os>"
            f"<devices>{''.join(map(self.nic_xml, self.nics))}<console type='pty'/></devices></domain>"
        )


class QemuGuest(Guest):
    """A machine without a disk, its processors stopped: plugged in like any other, but at no cost."""

    uri = QEMU
    status_dir = pathlib.Path("/run/libvirt/qemu")

    def create_options(self) -> list[str]:
        return ["--paused"]

    def nic_xml(self, nic: Nic) -> str:
        return nic.xml(model="virtio")

    def xml(self) -> str:
        return (
            f"<domain type='qemu'><name>{self.name}</name><memory unit='MiB'>16</memory>"
            f"<os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features>"
            f"<devices>{''.join(map(self.nic_xml, self.nics))}"
            f"<controller type='usb' model='none'/><memballoon model='none'/></devices></domain>"
        )

    def domiftune(self, nic: Nic, inbound: str) -> None:
        self.virsh("domiftune", self.name, nic.mac, "--inbound", inbound, "--live")

    def domiftune_fails(self, nic: Nic, inbound: str) -> str:
        return virsh_fails("domiftune", self.name, nic.mac, "--inbound", inbound, "--live", uri=self.uri)

    def update(self, nic: Nic) -> None:
        with file_of(self.nic_xml(nic)) as path:
            self.virsh("update-device", self.name, path, "--live")

    def update_fails(self, nic: Nic) -> str:
        with file_of(self.nic_xml(nic)) as path:
            return virsh_fails("update-device", self.name, path, "--live", uri=self.uri)
