# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether messages that pages quote are those of the source.

Each line of a block marked ```text is a message. It is one if it has the form of a format string in `_("…")`, where
each value in it is a word, or a message again, or what others say (the kernel, libvirt).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

import pytest

import page

SAID_BY_OTHERS = {
    "No such device",
    "No such file or directory",
    "No space left on device",
    "Failed to connect socket to '/run/polkit/agent': No such file or directory",
}

# What was asked of the kernel, as tc's words for it, and what the kernel answered.
_ASKED_OF_THE_KERNEL = re.compile(r"tc (qdisc|class|filter) (add|change|del) dev .+: .+ \(.+\)")

_TEXT = r'(?:(?:"(?:[^"\\]|\\.)*"|PRI[a-zA-Z]\w*)\s*)+'
_TRANSLATED = re.compile(rf"\b_\(\s*({_TEXT})\)|\bplural\(\s*({_TEXT}),\s*({_TEXT}),")
_LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"|PRI\w+')
_DIRECTIVE = re.compile(r"%(?:\d+\$)?[-#0 +']*\d*(?:\.\d+)?(?:hh|h|ll|l|z|j|t)?[diuoxXcsfFgGeE]")


def literal(source: str) -> str:
    """A string as C++ puts it together from its pieces. All number formats are alike here."""
    pieces = (found[1] if found[1] is not None else "u" for found in _LITERAL.finditer(source))
    return re.sub(r"\\(.)", lambda escaped: {"n": "\n"}.get(escaped[1], escaped[1]), "".join(pieces))


def formats_in(source: str) -> Iterator[str]:
    for found in _TRANSLATED.finditer(source):
        for text in found.groups():
            if text:
                yield literal(text)


@functools.cache
def formats() -> list[re.Pattern[str]]:
    found = set()
    for folder in ("src", "status", "include"):
        for path in sorted((page.ROOT / folder).rglob("*")):
            if path.suffix in (".cc", ".h"):
                found |= set(formats_in(path.read_text()))
    assert len(found) > 50, "messages are looked for in the wrong way"
    return [
        re.compile("(.+?)".join(re.escape(piece.replace("%%", "%")) for piece in _DIRECTIVE.split(text)))
        for text in sorted(found)
        if re.search(r"[a-z]", _DIRECTIVE.sub("", text))  # "%s: %s" would match anything
    ]


def is_value(text: str) -> bool:
    """A name, number or path; what a format takes without more words."""
    return " " not in text or text in SAID_BY_OTHERS or bool(_ASKED_OF_THE_KERNEL.fullmatch(text)) or is_message(text)


def is_message(text: str) -> bool:
    if any((found := each.fullmatch(text)) and all(map(is_value, found.groups())) for each in formats()):
        return True
    # What failed, or where, and then why.
    splits = (text.split(": ", count + 1) for count in range(text.count(": ")))
    pairs = ((": ".join(parts[:-1]), parts[-1]) for parts in splits)
    return any(is_value(what) and is_message(why) for what, why in pairs)


def quoted() -> list[tuple[str, str]]:
    return [
        (str(path.relative_to(page.DOCS)), line)
        for path in sorted(page.DOCS.rglob("*.md"))
        for block in page.blocks(path.read_text())
        if block.kind == "text"
        for line in block.lines
    ]


@pytest.mark.parametrize("place, message", quoted())
def test_message_is_in_the_source(place: str, message: str) -> None:
    assert is_message(message), f"{place} quotes what the program does not say: {message}"


def test_what_is_taken_for_a_message() -> None:
    source = 'log(_("network \'%s\': " "%" PRIu64 " floors")); plural("%lu change", "%lu changes", n); "not %s this"'
    assert list(formats_in(source)) == ["network '%s': %u floors", "%lu change", "%lu changes"]
    assert not is_message("the network is made of cheese")
