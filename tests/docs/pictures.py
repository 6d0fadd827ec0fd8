#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The pictures of the documentation: NAME.svg is what Graphviz's dot makes of NAME.dot beside it.

    pictures.py FOLDER           whether they are; exits 1 and names those that are not
    pictures.py --draw FOLDER    makes them

Both stand in the repository, so that a Git host shows the pages as they are. Compared are the names, links
and texts in a picture: coordinates depend on the fonts of the machine that drew it.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys
from xml.etree import ElementTree


def drawing(source: pathlib.Path) -> str:
    done = subprocess.run(["dot", "-Tsvg", source], capture_output=True, text=True, check=True)
    return "\n".join(line.rstrip() for line in done.stdout.splitlines()) + "\n"


def contents(svg: str) -> list[tuple[str, str]]:
    """What is said in it, in order: titles (nodes, and edges as a->b) and texts."""
    wanted = {"title", "text"}
    named = ((node.tag.rpartition("}")[2], (node.text or "").strip()) for node in ElementTree.fromstring(svg).iter())
    return [(tag, text) for tag, text in named if tag in wanted]


def is_drawn(source: pathlib.Path) -> bool:
    picture = source.with_suffix(".svg")
    return picture.exists() and contents(picture.read_text()) == contents(drawing(source))


def main(*arguments: str) -> int:
    *options, folder = arguments
    sources = sorted(pathlib.Path(folder).glob("*.dot"))
    assert sources, f"no pictures in {folder}"
    if options == ["--draw"]:
        for source in sources:
            source.with_suffix(".svg").write_text(drawing(source))
        return 0
    stale = [source.with_suffix(".svg").name for source in sources if not is_drawn(source)]
    for name in stale:
        print(f"{name} is not what its source says; ./run docs refresh draws it", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
