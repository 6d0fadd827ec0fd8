# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a page of the documentation tells its reader to type, and what it says comes of it.

Commands stand in blocks marked ```console. A line that begins with the prompt of its block's first line, "# " or
"$ ", is a command; lines behind it, up to the next, are what it prints. A command with a here document goes on to the
document's end. So a block whose output has lines that begin with "# " needs the prompt "$ ".
"""

from __future__ import annotations

import dataclasses
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^```(.*)$")
_HERE_DOCUMENT = re.compile(r"<<'?(\w+)'?")


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block: its kind, and its lines, whose first is line number `start` of the page, from 0."""

    kind: str
    start: int
    lines: list[str]


@dataclasses.dataclass(frozen=True)
class Step:
    """A command, and what the page says that it prints, from line number `start` of the page on."""

    command: str
    start: int
    output: list[str]


def blocks(text: str) -> list[Block]:
    found: list[Block] = []
    lines = text.split("\n")
    opened = None
    for number, line in enumerate(lines):
        fence = _FENCE.match(line)
        if not fence:
            continue
        if opened is None:
            opened = number
        else:
            found.append(Block(_FENCE.match(lines[opened])[1], opened + 1, lines[opened + 1 : number]))
            opened = None
    assert opened is None, f"the block that begins in line {opened + 1} does not end"
    return found


def steps_of(block: Block) -> list[Step]:
    """The commands of a console block."""
    prompt = block.lines[0][:2]
    assert prompt in ("# ", "$ "), f"line {block.start + 1}: a console block begins with a prompt"
    found: list[Step] = []
    number = 0
    while number < len(block.lines):
        line = block.lines[number]
        number += 1
        if not line.startswith(prompt):
            found[-1].output.append(line)
            continue
        command = [line[2:]]
        if end := _HERE_DOCUMENT.search(line):
            while command[-1] != end[1]:
                command.append(block.lines[number])
                number += 1
        found.append(Step("\n".join(command), block.start + number, []))
    return found


def steps(text: str) -> list[Step]:
    """All commands of a page, in order."""
    return [step for block in blocks(text) if block.kind == "console" for step in steps_of(block)]
