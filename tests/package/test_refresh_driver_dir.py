# SPDX-License-Identifier: LGPL-2.1-or-later
"""The folder of drivers is whole, or the daemon is not told of it."""

from __future__ import annotations

import os
import pathlib
import subprocess

import pytest

PROGRAM = pathlib.Path(__file__).parents[2] / "packaging" / "refresh-driver-dir"
NAME = "libvirt_driver_network.so"


class Drivers:
    """Stock modules, ours, and the place where both go. Ours is compiled, as the dynamic linker looks at it."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.stock, self.dir = folder / "stock", folder / "run" / "drivers"
        self.module, self.environment = folder / "ours" / NAME, folder / "run" / "environment"
        for made in (self.stock, self.module.parent):
            made.mkdir()
        for name in (NAME, "libvirt_driver_qemu.so", "libvirt_driver_lxc.so"):
            (self.stock / name).write_text("stock")
        self.compile("int network(void) { return 1; }")

    def compile(self, source: str, *options: str) -> None:
        self.module.unlink(missing_ok=True)
        argv = ["gcc", "-shared", "-fPIC", "-o", str(self.module), "-x", "c", "-", *options]
        subprocess.run(argv, input=source, text=True, check=True)

    def refresh(self, *options: str) -> subprocess.CompletedProcess[str]:
        argv = [str(PROGRAM), "--module", str(self.module), "--stock", str(self.stock), *options]
        argv += ["--environment", str(self.environment), str(self.dir)]
        return subprocess.run(argv, capture_output=True, text=True)

    def is_whole(self) -> bool:
        wanted = {path.name: path for path in self.stock.iterdir()} | {NAME: self.module}
        return {path.name: path.resolve() for path in self.dir.iterdir()} == wanted


@pytest.fixture
def drivers(tmp_path: pathlib.Path) -> Drivers:
    return Drivers(tmp_path)


def test_folder_has_our_module_and_links_to_the_others(drivers: Drivers) -> None:
    done = drivers.refresh()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert drivers.is_whole()
    assert drivers.environment.read_text() == f'LIBVIRT_DRIVER_DIR="{drivers.dir}"\n'


def test_drivers_that_come_and_go_are_followed(drivers: Drivers) -> None:
    drivers.refresh()
    (drivers.stock / "libvirt_driver_vbox.so").write_text("stock")
    (drivers.stock / "libvirt_driver_lxc.so").unlink()
    assert drivers.refresh().returncode == 0
    assert drivers.is_whole()


def test_copy_outlives_the_module_and_gives_way_to_another_file(drivers: Drivers) -> None:
    copy = drivers.dir / NAME
    assert drivers.refresh("--copy").returncode == 0
    assert not copy.is_symlink()
    with copy.open("rb") as loaded:
        before = loaded.read()
        drivers.compile("int network(void) { return 2; }")
        assert drivers.refresh("--copy").returncode == 0
        loaded.seek(0)
        assert loaded.read() == before != copy.read_bytes() == drivers.module.read_bytes()


@pytest.mark.parametrize("trouble", ["gone", "dangling", "text", "cut", "symbol", "library", "no stock"])
def test_daemon_is_not_told_of_a_module_that_it_cannot_use(
    drivers: Drivers, trouble: str, tmp_path: pathlib.Path
) -> None:
    assert drivers.refresh().returncode == 0
    if trouble in ("gone", "dangling"):
        drivers.module.unlink()
        if trouble == "dangling":
            drivers.module.symlink_to("nowhere")
    elif trouble == "text":
        drivers.module.write_text("#!/bin/sh\n")
    elif trouble == "cut":
        os.truncate(drivers.module, 3000)
    elif trouble == "symbol":
        drivers.compile("int nowhere(void); int network(void) { return nowhere(); }")
    elif trouble == "library":
        subprocess.run(["gcc", "-shared", "-o", str(tmp_path / "libgone.so"), "-x", "c", "/dev/null"], check=True)
        drivers.compile("", "-Wl,--no-as-needed", f"-L{tmp_path}", "-lgone")
        (tmp_path / "libgone.so").unlink()
    elif trouble == "no stock":
        (drivers.stock / NAME).unlink()
    done = drivers.refresh()
    assert done.returncode == 1 and done.stderr.startswith("refresh-driver-dir: ")
    assert not drivers.environment.exists()


def test_daemon_is_not_told_of_a_folder_that_cannot_be_made(drivers: Drivers) -> None:
    drivers.refresh()
    for path in drivers.dir.iterdir():
        path.unlink()
    drivers.dir.rmdir()
    drivers.dir.write_text("a file where the folder belongs")
    assert drivers.refresh().returncode != 0
    assert not drivers.environment.exists()


def test_half_of_a_refresh_is_completed_by_the_next(drivers: Drivers) -> None:
    drivers.refresh()
    (drivers.dir / NAME).unlink()
    (drivers.dir / "libvirt_driver_qemu.so").unlink()
    (drivers.dir / "libvirt_driver_lxc.so").unlink()
    (drivers.dir / "libvirt_driver_lxc.so").symlink_to("nowhere")
    drivers.environment.unlink()
    assert drivers.refresh().returncode == 0
    assert drivers.is_whole()


@pytest.mark.parametrize("arguments", [[], ["--module"], ["--nonsense", "dir"], ["--module", "a", "dir"]])
def test_wrong_arguments_are_refused(arguments: list[str]) -> None:
    done = subprocess.run([str(PROGRAM), *arguments], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("refresh-driver-dir: ")
