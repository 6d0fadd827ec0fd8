# SPDX-License-Identifier: LGPL-2.1-or-later
"""The page "Getting started", command by command, as its reader types them.

What needs a real host is done the sandbox's way, by a table: the sandbox is what the package and systemd make of a
real one. (The package itself is tested where it is built.)
"""

from __future__ import annotations

import pathlib
import re
import subprocess

import page
from lab import Workbench

# What begins so is replaced; "" for nothing to do.
IN_THE_SANDBOX = {
    "apt-get update": "",
    "apt-get install --yes ./libvirt-floor_": "",
    "systemctl restart libvirtd": "sandbox-libvirtd restart",
    # The module has another path here.
    "grep -c libvirt-floor /proc/": "grep -c /libvirt_driver_network.so /proc/$(pidof libvirtd)/maps",
    "ping -q -f -s 8000 -w 10 ": "ping -q -f -s 8000 -w 1 10.80.0.11",
}

TEXT = (page.DOCS / "getting-started.md").read_text()


def in_the_sandbox(command: str) -> str:
    for start, replacement in IN_THE_SANDBOX.items():
        if command.startswith(start):
            return replacement
    return command


def typed(command: str, folder: pathlib.Path) -> str:
    """What a command prints, on stdout and stderr."""
    done = subprocess.run(
        ["bash", "-c", in_the_sandbox(command)],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}"
    return done.stdout


def test_page_leads_to_a_guest_with_a_floor(lab: Workbench, libvirtd: object, tmp_path: pathlib.Path) -> None:
    said: dict[str, str] = {}
    quoted = 0
    for block in page.blocks(TEXT):
        if block.kind == "text":
            # A message stands right behind the command that it comes from.
            assert "\n".join(block.lines) in list(said.values())[-1]
            quoted += 1
        elif block.kind == "console":
            for step in page.steps_of(block):
                assert not step.output, "outputs stand in commands.md, where they are compared"
                said[step.command] = typed(step.command, tmp_path)
    assert quoted == 1
    assert re.search(r"52:54:00:80:00:0b.*\b4000\b", said["virt-floor list"])
    assert re.search(r"\blab\b.*\b10000\b.*\b4000\b.*\b6000\b", said["virt-floor capacity"])
    assert re.search(r"class htb 1:3 .*rate 32Mbit", said["tc class show dev virbr10"])


def test_every_replacement_is_of_use() -> None:
    commands = [step.command for step in page.steps(TEXT)]
    for start in IN_THE_SANDBOX:
        assert any(command.startswith(start) for command in commands), start


def test_package_of_this_version() -> None:
    version = re.search(r"version: '([^']+)'", (page.ROOT / "meson.build").read_text())[1]
    named = set(re.findall(r"libvirt-floor_([\d.]+)_amd64\.deb", TEXT))
    assert named == {version}
