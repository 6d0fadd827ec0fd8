#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether each link of built HTML pages leads to a file and an anchor that are there.

    check_links.py FOLDER

Prints those that do not, and exits 1 if there are any. Links to other hosts are not tried. Sphinx sees to
links from one page to another, but not to folders, nor to anchors inside of a page.
"""

from __future__ import annotations

import functools
import html.parser
import pathlib
import sys
import urllib.parse


class Page(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.anchors |= {values[key] for key in ("id", "name") if values.get(key)}
        self.links += [values[key] for key in ("href", "src") if values.get(key) is not None]


@functools.cache
def page(path: pathlib.Path) -> Page:
    return Page(path.read_text())


def trouble(path: pathlib.Path, link: str) -> str | None:
    """What is wrong with a link on a page, if anything is."""
    parts = urllib.parse.urlsplit(link)
    if parts.scheme or parts.netloc:
        return None
    target = path.parent / urllib.parse.unquote(parts.path) if parts.path else path
    if not target.is_file():
        return "no such file"
    if parts.fragment and target.suffix == ".html":
        if urllib.parse.unquote(parts.fragment) not in page(target).anchors:
            return "no such anchor"
    return None


def main(folder: str) -> int:
    bad = links = 0
    for path in sorted(pathlib.Path(folder).resolve().rglob("*.html")):
        for link in page(path).links:
            links += 1
            found = trouble(path, link)
            if found:
                bad += 1
                print(f"{path.relative_to(pathlib.Path(folder).resolve())}: {link}: {found}", file=sys.stderr)
    if not links:
        print(f"no links in {folder}", file=sys.stderr)
    return 1 if bad or not links else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
