# SPDX-License-Identifier: LGPL-2.1-or-later
"""docs/commands.md: each command on the page is run, in order, and prints what the page says.

What varies from run to run (rates, counters, UUIDs) is left out of the comparison: see `normal`. With
VIRFLOOR_REFRESH_DOCS in the environment (./run docs refresh), what is printed is written into the page instead.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import threading
from collections.abc import Iterable

import page
from lab import Workbench

PAGE = page.DOCS / "commands.md"

# Messages are those of the source, whatever the language of who runs the tests.
ENGLISH = {"LC_ALL": "C.UTF-8", "LANGUAGE": ""}

# Columns of tables, and members of JSON objects, that are measured or counted.
MEASURED_COLUMNS = {"NOW kB/s", "SHARE", "DROPS", "BACKLOG"}
MEASURED_MEMBERS = "rate_bytes_per_second|share_percent|bytes|packets|drops|backlog_bytes|backlog_packets"

# How a line is told to be alike for the comparison, in this order.
ALIKE = [
    (re.compile(rf'"({MEASURED_MEMBERS})": [-+.e\d]+'), r'"\1": MEASURED'),
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "UUID"),
    # virt-floor top: what an interface gets, the bar of it, drops a second, and the last rates.
    (re.compile(r" *\d+ +\[[^]]*\] +\d+( +[▁-█ ]+)?$"), " MEASURED"),
    (re.compile(r"^(virt-floor top) [\d:]{8}"), r"\1 TIME"),
    # Metrics.
    (re.compile(r"^(virt_floor_\w*_(sent|dropped|backlog|timestamp|duration)_[^ ]+) [-+.e\d]+$"), r"\1 MEASURED"),
    # The best queue that the kernel has.
    (re.compile(r"\b(fq_codel|sfq|pfifo)\b"), "QUEUE"),
]

# Files that commands on the page make, and the picture that each is on the page.
PICTURES = {"tree.svg": page.DOCS / "pictures" / "virt-floor-tree.svg"}

DEADLINE_S = 60


class Shell:
    """A shell that keeps what it is told, as the reader's does: its folder, its jobs."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._bash = subprocess.Popen(
            ["bash"],
            cwd=folder,
            env={**os.environ, **ENGLISH},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command: str) -> list[str]:
        """What a command prints, without empty lines at the end."""
        mark = "--- that was it ---"
        watchdog = threading.Timer(DEADLINE_S, self._bash.kill)
        watchdog.start()
        self._bash.stdin.write(f"{command}\necho; echo '{mark}'\n")
        self._bash.stdin.flush()
        printed = []
        for line in self._bash.stdout:
            if line == f"{mark}\n":
                break
            printed.append(line.rstrip("\n"))
        else:
            raise AssertionError(f"{command}: still running after {DEADLINE_S} s, or it ended the shell")
        watchdog.cancel()
        while printed and not printed[-1]:
            printed.pop()
        return printed

    def close(self) -> None:
        """Ends it, with the jobs that the page has left running."""
        self._bash.stdin.write("kill $(jobs -p) 2>/dev/null; wait\n")
        self._bash.stdin.close()
        self._bash.wait(DEADLINE_S)


def cells(line: str) -> list[str]:
    return re.split(r"\s{2,}", line.strip())


def normal(lines: Iterable[str]) -> list[str]:
    """Lines without what varies."""
    heads: list[str] = []
    found = []
    for line in lines:
        for pattern, replacement in ALIKE:
            line = pattern.sub(replacement, line)
        values = cells(line)
        if MEASURED_COLUMNS & set(values):
            heads = values
            line = "  ".join(values)
        elif len(values) == len(heads):
            line = "  ".join(
                "MEASURED" if head in MEASURED_COLUMNS and re.fullmatch(r"[\d.]+%?", value) else value
                for head, value in zip(heads, values)
            )
        else:
            heads = []
        found.append(line)
    return found


def rewritten(text: str, printed: list[tuple[page.Step, list[str]]]) -> str:
    """The page with what was printed in place of what it says, where more than the measured differs."""
    lines = text.split("\n")
    for step, output in reversed(printed):
        if normal(output) != normal(step.output):
            lines[step.start : step.start + len(step.output)] = output
    return "\n".join(lines)


def test_page_shows_what_commands_print(lab: Workbench, libvirtd: object, tmp_path: pathlib.Path) -> None:
    libvirtd.restart()  # it numbers guests' devices anew
    folder = tmp_path / "examples"
    shutil.copytree(page.DOCS / "examples", folder)
    text = PAGE.read_text()
    shell = Shell(folder)
    try:
        printed = [(step, shell.run(step.command)) for step in page.steps(text)]
    finally:
        shell.close()
    if os.environ.get("VIRFLOOR_REFRESH_DOCS"):
        PAGE.write_text(rewritten(text, printed))
        for name, picture in PICTURES.items():
            shutil.copyfile(folder / name, picture)
        return
    for step, output in printed:
        assert normal(output) == normal(step.output), f"line {step.start}: {step.command}"
    for name, picture in PICTURES.items():
        assert picture.name in text
        assert (folder / name).read_text() == picture.read_text()


def test_every_command_is_on_the_page() -> None:
    """Each command has its part, and in it its --help."""
    usage = subprocess.run(["virt-floor", "--help"], env={**os.environ, **ENGLISH}, capture_output=True, text=True)
    names = re.findall(r"^  ([a-z]+) {2,}", usage.stdout, re.MULTILINE)
    assert names
    text = PAGE.read_text()
    typed = [step.command for step in page.steps(text)]
    for name in names:
        assert f"virt-floor {name} --help" in typed
        assert re.search(rf"^## virt-floor {name}$", text, re.MULTILINE)


def test_what_is_alike() -> None:
    assert normal(["A  NOW kB/s", "x  12", "y  -"]) == normal(["A   NOW kB/s", "x      7", "y  -"])
    assert normal(["A  NOW kB/s", "x  12"]) != normal(["A  NOW kB/s", "z  12"])
    assert normal(["A  NOW kB/s", "x  12"]) != normal(["A  NOW kB/s", "x  -"])
    assert normal(['"drops": 1']) == normal(['"drops": 2']) != normal(['"class_id": 2'])


def test_page_is_rewritten_in_place() -> None:
    text = '```console\n# echo a\nold\n# true\n# echo b\n# list\n"drops": 1\n```\n'
    outputs = [["a", "a"], [], ["b"], ['"drops": 2']]
    assert rewritten(text, list(zip(page.steps(text), outputs))) == (
        '```console\n# echo a\na\na\n# true\n# echo b\nb\n# list\n"drops": 1\n```\n'
    )
