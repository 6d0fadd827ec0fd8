# SPDX-License-Identifier: LGPL-2.1-or-later
"""A QEMU guest that really runs: Debian's kernel and a shell, under TCG.

`./run` puts kernel, modules and shell into the build folder.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import socket
import tempfile
from typing import Iterator

from . import traffic
from .commands import wait_until
from .guest import QemuGuest

FILES = pathlib.Path(os.environ.get("BUILD_DIR", "build")).absolute() / "guest"
BOOT_SECONDS = 120

INIT = """#!/bin/busybox sh
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
for module in virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci failover net_failover virtio_net; do
    insmod /modules/$module.ko
done
echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad
ip address add {ip4}/24 dev eth0
ip address add {ip6}/64 dev eth0
ip link set eth0 up
while read -r line; do eval "$line"; done
"""
COMMANDS = ("sh", "mount", "insmod", "ip")


def _entries(init: str) -> Iterator[tuple[str, int, bytes]]:
    """Of the initial file system: name, mode, content."""
    for folder in ("bin", "dev", "modules", "proc", "sys"):
        yield folder, 0o040755, b""
    yield "init", 0o100755, init.encode()
    yield "bin/busybox", 0o100755, (FILES / "busybox").read_bytes()
    for command in COMMANDS:
        yield f"bin/{command}", 0o120777, b"busybox"
    for module in sorted((FILES / "modules").iterdir()):
        yield f"modules/{module.name}", 0o100644, module.read_bytes()
    yield "TRAILER!!!", 0, b""


def initial_file_system(init: str) -> bytes:
    """In cpio's "newc" format: a header of hexadecimal numbers, name and content padded to words."""
    archive = bytearray()
    for number, (name, mode, content) in enumerate(_entries(init)):
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        for part in (b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0", content):
            archive += part
            archive += bytes(-len(archive) % 4)
    return bytes(archive)


@dataclasses.dataclass
class Machine(QemuGuest):
    """Answers ARP, ping and ping6, and does what it is told."""

    def __post_init__(self) -> None:
        self._folder = pathlib.Path(tempfile.mkdtemp())

    def create_options(self) -> list[str]:
        return []

    def create(self) -> None:
        init = INIT.format(ip4=self.nic.ip4, ip6=self.nic.ip6)
        (self._folder / "initrd").write_bytes(initial_file_system(init))
        super().create()
        wait_until(f"{self.name} answers", self.answers, seconds=BOOT_SECONDS)

    def answers(self) -> bool:
        return all(map(traffic.answers_ping, (self.nic.ip4, self.nic.ip6)))

    def tell(self, command: str) -> None:
        """A line for its shell, which has done it when this returns."""
        said = b""
        with socket.socket(socket.AF_UNIX) as serial:
            serial.settimeout(10)
            serial.connect(str(self._folder / "serial"))
            serial.sendall(f"{command}; echo done-$((1 + 1))\n".encode())
            while b"done-2" not in said:  # the line itself comes back as well
                said += serial.recv(4096)

    def change_mac(self, mac: str) -> None:
        self.tell(f"ip link set eth0 address {mac}")

    def xml(self) -> str:
        return (
            f"<domain type='qemu'><name>{self.name}</name><memory unit='MiB'>160</memory>"
            f"<os><type arch='x86_64' machine='pc'>hvm</type><kernel>{FILES}/vmlinuz</kernel>"
            f"<initrd>{self._folder}/initrd</initrd><cmdline>console=ttyS0 quiet</cmdline></os><features><acpi/></features>"
            f"<devices>{self.nic_xml(self.nic)}<controller type='usb' model='none'/><memballoon model='none'/>"
            f"<serial type='unix'><source mode='bind' path='{self._folder}/serial'/></serial></devices></domain>"
        )
