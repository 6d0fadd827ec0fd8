# SPDX-License-Identifier: LGPL-2.1-or-later
"""A terminal with a shell in it, by tmux."""

from __future__ import annotations

import contextlib
import itertools
import pathlib
import shlex
import tempfile
from typing import Iterator

from lab.commands import is_so_within, run, wait_until

_numbers = itertools.count(1)
PROMPT = "ready> "


class Terminal:
    """What a person types into a terminal, and sees there."""

    def __init__(self, socket: pathlib.Path, width: int, height: int, environment: dict[str, str]) -> None:
        self._socket = socket
        settings = [f"{name}={value}" for name, value in {"LC_ALL": "C.UTF-8", "PS1": PROMPT, **environment}.items()]
        self._tmux("start-server", ";", "set", "-g", "default-terminal", "tmux-256color", ";", "set", "-g", "status", "off",
                   ";", "new-session", "-d", "-x", str(width), "-y", str(height),
                   shlex.join(["env", *settings, "bash", "--norc", "--noprofile"]))  # fmt: skip
        wait_until("there is a shell", lambda: self.text().startswith(PROMPT.strip()))

    def _tmux(self, *args: str) -> str:
        return run("tmux", "-u", "-f", "/dev/null", "-S", str(self._socket), *args)

    def close(self) -> None:
        self._tmux("kill-server")

    def type(self, *keys: str) -> None:
        """Keys as tmux names them: a, Enter, Up, NPage, C-z."""
        self._tmux("send-keys", *keys)

    def type_text(self, text: str) -> None:
        self._tmux("send-keys", "-l", text)

    def shell(self, command: str) -> None:
        """A command for the shell, which need not end."""
        self.type_text(command)
        self.type("Enter")

    def lines(self, *options: str) -> list[str]:
        """What it shows, without blanks at the ends of lines."""
        return self._tmux("capture-pane", "-p", *options).splitlines()

    def text(self, *options: str) -> str:
        return "\n".join(self.lines(*options))

    def resize(self, width: int, height: int) -> None:
        self._tmux("resize-window", "-x", str(width), "-y", str(height))

    def shows(self, text: str, seconds: float = 15) -> None:
        """Waits until it does."""
        if not is_so_within(seconds, lambda: text in self.text()):
            raise AssertionError(f"after {seconds} s, {text!r} is not to be seen:\n{self.text()}")

    def hides(self, text: str, seconds: float = 15) -> None:
        """Waits until the text is not to be seen."""
        if not is_so_within(seconds, lambda: text not in self.text()):
            raise AssertionError(f"after {seconds} s, {text!r} is still to be seen:\n{self.text()}")

    @property
    def in_alternate_screen(self) -> bool:
        return self._tmux("display", "-p", "#{alternate_on}").strip() == "1"

    @property
    def has_cursor(self) -> bool:
        return self._tmux("display", "-p", "#{cursor_flag}").strip() == "1"

    def settings(self) -> str:
        """What stty tells of it."""
        device = self._tmux("display", "-p", "#{pane_tty}").strip()
        return run("stty", "-F", device, "-a")


@contextlib.contextmanager
def terminal(width: int = 80, height: int = 24, **environment: str) -> Iterator[Terminal]:
    with tempfile.TemporaryDirectory() as folder:
        shown = Terminal(pathlib.Path(folder) / f"tmux-{next(_numbers)}", width, height, environment)
        try:
            yield shown
        finally:
            shown.close()
