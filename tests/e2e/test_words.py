# SPDX-License-Identifier: LGPL-2.1-or-later
"""What we say comes in the language that libvirtd was started in, and in no other."""

import pytest
from lab import Workbench, check_tree, run


@pytest.mark.parametrize(
    "language, locale, says",
    [
        ("de", "C.UTF-8", "nicht garantiert werden: Die Summe der eingehenden Untergrenzen, floor=1001, überstiege average=1000"),
        ("ja", "C.UTF-8", "受信方向の最低保証帯域の合計 floor=1001 が average=1000 を超えてしまいます"),
        ("de", "C", "combined inbound floor=1001 would overcommit average=1000"),
        ("", "C.UTF-8", "combined inbound floor=1001 would overcommit average=1000"),
    ],
)
def test_refusal_comes_in_the_daemons_language(lab: Workbench, libvirtd, language: str, locale: str, says: str) -> None:
    libvirtd.stop()
    run("env", f"LANGUAGE={language}", f"LC_ALL={locale}", "sandbox-libvirtd", "start")
    try:
        network = lab.network(average=1000, peak=None)
        guest = lab.described_lxc(network.nic(floor=1001))
        error = guest.create_fails()
        for part in (says, network.name, network.bridge, guest.nic.mac):
            assert part in error, error
        check_tree(network)
    finally:
        libvirtd.restart()
