# SPDX-License-Identifier: LGPL-2.1-or-later
"""What we say comes in the language that libvirtd was started in, and in no other."""

import pathlib

import pytest
from lab import Workbench, check_tree, run


@pytest.mark.parametrize(
    "locale, says",
    [
        ("de_DE", "nicht garantiert werden: Die Summe der eingehenden Untergrenzen, floor=1001, überstiege average=1000"),
        ("ja_JP", "受信方向の最低保証帯域の合計 floor=1001 が average=1000 を超えてしまいます"),
        ("fr_FR", "combined inbound floor=1001 would overcommit average=1000"),  # there is no such catalog
    ],
)
def test_refusal_comes_in_the_daemons_language(
    lab: Workbench, libvirtd: object, tmp_path: pathlib.Path, locale: str, says: str
) -> None:
    run("localedef", "-i", locale, "-f", "UTF-8", str(tmp_path / f"{locale}.UTF-8"))
    libvirtd.stop()
    refuse(libvirtd, f"LOCPATH={tmp_path}", f"LC_ALL={locale}.UTF-8", lab=lab, says=says)


def test_the_daemons_locale_is_not_changed(lab: Workbench, libvirtd: object) -> None:
    libvirtd.stop()
    refuse(libvirtd, "LANGUAGE=de", "LC_ALL=C", lab=lab, says="combined inbound floor=1001 would overcommit average=1000")


def refuse(libvirtd: object, *environment: str, lab: Workbench, says: str) -> None:
    """Starts the daemon so, and has a guest refused."""
    run("env", *environment, "sandbox-libvirtd", "start")
    try:
        network = lab.network(average=1000, peak=None)
        guest = lab.described_lxc(network.nic(floor=1001))
        error = guest.create_fails()
        for part in (says, network.name, network.bridge, guest.nic.mac):
            assert part in error, error
        check_tree(network)
    finally:
        libvirtd.stop()  # the next test's is started as always
