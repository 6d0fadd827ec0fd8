# SPDX-License-Identifier: LGPL-2.1-or-later
"""How pages are read."""

from __future__ import annotations

import pytest

import page

TEXT = """
```console
# cat >file <<'END'
# no command
END
# true && echo yes
yes

no
```

```text
# not this
```

```console
$ metrics
# HELP of a metric
```
"""


def test_commands_and_their_output() -> None:
    assert [(step.command, step.output) for step in page.steps(TEXT)] == [
        ("cat >file <<'END'\n# no command\nEND", []),
        ("true && echo yes", ["yes", "", "no"]),
        ("metrics", ["# HELP of a metric"]),
    ]


def test_where_output_stands() -> None:
    lines = TEXT.split("\n")
    assert [lines[step.start] for step in page.steps(TEXT) if step.output] == ["yes", "# HELP of a metric"]


def test_block_without_end_or_prompt() -> None:
    with pytest.raises(AssertionError, match="does not end"):
        page.blocks("```console\n# true\n")
    with pytest.raises(AssertionError, match="prompt"):
        page.steps("```console\ntrue\n```")
