# SPDX-License-Identifier: LGPL-2.1-or-later
"""The page "Getting started", command by command, as its reader types them."""

from __future__ import annotations

import pathlib
import re
import subprocess

import page

TEXT = (page.DOCS / "getting-started.md").read_text()


def typed(command: str, replacements: dict[str, str], folder: pathlib.Path) -> str:
    """What a command prints, on stdout and stderr. What begins as a replacement's key is done as that says."""
    done = subprocess.run(
        ["bash", "-c", next((new for start, new in replacements.items() if command.startswith(start)), command)],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}"
    return done.stdout


def follow(replacements: dict[str, str], folder: pathlib.Path) -> None:
    """Types all commands of the page, in that folder, and holds what they print against the page's words."""
    commands = [step.command for step in page.steps(TEXT)]
    for start in replacements:
        assert any(command.startswith(start) for command in commands), f"nothing begins with: {start}"
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
                said[step.command] = typed(step.command, replacements, folder)
    assert quoted == 1
    assert re.search(r"52:54:00:80:00:0b.*\b4000\b", said["virt-floor list"])
    assert re.search(r"\blab\b.*\b10000\b.*\b4000\b.*\b6000\b", said["virt-floor capacity"])
    assert re.search(r"class htb 1:3 .*rate 32Mbit", said["tc class show dev virbr10"])
