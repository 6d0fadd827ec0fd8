# SPDX-License-Identifier: LGPL-2.1-or-later
"""What happens where the module cannot work: the stock driver does, and the log says why."""

import os
import pathlib

import pytest

from lab import CommandFailed, Workbench, check_no_tree, daemon
from lab.commands import run

BUILD = pathlib.Path(os.environ.get("BUILD_DIR", "build")).absolute()
MODULE = BUILD / "src/plugin/libvirt_driver_network.so"
FAKE_VERSION = BUILD / "tests/e2e/fake_version.so"


def test_unknown_version_leaves_the_stock_driver_as_it_is(lab: Workbench, libvirtd) -> None:
    libvirtd.stop()
    start_of_log = daemon.log_size()
    run("env", f"LD_PRELOAD={FAKE_VERSION}", "sandbox-libvirtd", "start")
    try:
        network = lab.plain_network()
        network.create_port(network.nic())
        check_no_tree(network)
        with pytest.raises(Exception, match="Invalid use of 'floor'"):  # the stock driver's words
            network.create_port(network.nic(floor=100))
        ours = [line for line in daemon.log_since(start_of_log).splitlines() if "libvirt-floor" in line]
        assert len(ours) == 1, ours
        assert "error" in ours[0] and "99.1.2" in ours[0] and "7.8 to 12.8" in ours[0], ours[0]
    finally:
        libvirtd.restart()


def test_module_has_one_door_and_no_tie_to_a_version() -> None:
    exported = run("nm", "--dynamic", "--defined-only", str(MODULE)).split()[2::3]
    assert exported == ["networkRegister"], exported
    assert "LIBVIRT_PRIVATE" not in run("nm", "--dynamic", "--with-symbol-versions", str(MODULE))


def test_stock_module_that_is_missing_is_named(lab: Workbench, libvirtd) -> None:
    libvirtd.stop()
    try:
        with pytest.raises(CommandFailed, match="/nowhere.so"):
            run("env", "VIRFLOOR_STOCK_MODULE=/nowhere.so", "sandbox-libvirtd", "start")
    finally:
        if libvirtd.pid() is None:
            libvirtd.start()
