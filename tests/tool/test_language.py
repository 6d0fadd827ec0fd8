# SPDX-License-Identifier: LGPL-2.1-or-later
"""virt-floor speaks the language of who runs it, whatever libvirtd's is."""

from __future__ import annotations

import unicodedata

import pytest
from lab import Workbench
from virt_floor import fails, outcome, prints


@pytest.mark.parametrize(
    "language, heading, answer",
    [
        ("de", "NETZWERK", "Eine Untergrenze von 2501 kB/s passt nicht in das Netzwerk »{}«: 2500 von 4000 kB/s sind frei."),
        ("ja", "ネットワーク", "2501 kB/s の最低保証帯域はネットワーク「{}」に収まりません: 4000 kB/s のうち空きは 2500 kB/s です。"),
        ("", "NETWORK", "A floor of 2501 kB/s does not fit network '{}': 2500 of 4000 kB/s are free."),
    ],
)
def test_answers_come_in_the_users_language(lab: Workbench, language: str, heading: str, answer: str) -> None:
    network = lab.network(average=4000, peak=None)
    lab.qemu(network.nic(floor=1500))
    assert prints("capacity", LANGUAGE=language).split()[0] == heading
    done = outcome("capacity", network.name, "--would-fit", "2501", LANGUAGE=language)
    assert (done.status, done.output) == (1, answer.format(network.name) + "\n")


def test_errors_come_in_the_users_language() -> None:
    said = fails(2, "capacity", "--would-fit", "0", LANGUAGE="de")
    assert "--would-fit braucht eine Untergrenze von 1 bis" in said, said


def test_columns_line_up_where_characters_are_wide(lab: Workbench) -> None:
    network = lab.network(average=4000, peak=None)
    heading, row = prints("capacity", network.name, LANGUAGE="ja").splitlines()

    def width(text: str) -> int:
        return sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text)

    assert width(heading) == width(row), f"{heading}\n{row}"
