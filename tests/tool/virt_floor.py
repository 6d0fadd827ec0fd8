# SPDX-License-Identifier: LGPL-2.1-or-later
"""Running virt-floor."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any, Optional

UNPRIVILEGED = 65534


class Outcome:
    """What a command printed, and its exit status."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.status, self.output, self.error = done.returncode, done.stdout, done.stderr

    def __repr__(self) -> str:
        return f"exit status {self.status}\n{self.output}{self.error}"


def outcome(*args: str, user: Optional[int] = None, stdin: str = "", **environment: str) -> Outcome:
    """Runs virt-floor, as another user if one is given, and in English unless the environment says otherwise."""
    return Outcome(
        subprocess.run(
            ["virt-floor", *args],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            env={**os.environ, "LC_ALL": "C.UTF-8", **environment},
        )
    )


def prints(*args: str, **options: Any) -> str:
    """What it prints, where it must succeed without a word on stderr."""
    done = outcome(*args, **options)
    assert (done.status, done.error) == (0, ""), done
    return done.output


def tells(*args: str, **options: Any) -> Any:
    """The JSON that it prints, where it must succeed."""
    return json.loads(prints(*args, "--json", **options))


def fails(status: int, *args: str, **options: Any) -> str:
    """The one sentence that it says on stderr, where it must end with this status."""
    done = outcome(*args, **options)
    assert (done.status, done.output) == (status, ""), done
    (line,) = done.error.splitlines()
    assert line.startswith("virt-floor: "), done
    return line
