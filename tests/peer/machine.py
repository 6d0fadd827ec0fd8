#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs a command in a virtual machine: in the sandbox, under Debian's kernel, with one processor whose
clock counts instructions, so that neither the host's speed nor its load shows in a time.

    machine.py SUITE BUILD_DIR RESULTS SECONDS COMMAND…

SUITE is a release of Debian (image.SUITES), BUILD_DIR where the driver module was built, RESULTS the folder for what
the command leaves in /results. The exit status is the command's. There tests/ is in /share, and the current folder
is tests/peer.
"""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from typing import Sequence

from image import Image

TESTS = pathlib.Path(__file__).parents[1]
FOLDERS = ("sandbox", "e2e", "peer", "nftables", "bench")
MODULE = "libvirt_driver_network.so"
RESULTS_SIZE = 64 << 20  # at most
MEMORY_MIB = 2048


def run(
    command: Sequence[str], build: pathlib.Path, results: pathlib.Path, seconds: float, suite: str = "bookworm"
) -> int:
    """Returns the command's exit status. The machine is ended when it has run for that long."""
    image = Image(suite)
    image.ensure()
    with tempfile.TemporaryDirectory(dir=image.folder) as folder:
        share, handed_back = pathlib.Path(folder) / "share.tar", pathlib.Path(folder) / "results.tar"
        _write_share(share, command, build)
        with handed_back.open("wb") as disk:
            disk.truncate(RESULTS_SIZE)
        _boot(image, share, handed_back, seconds)
        shutil.rmtree(results, ignore_errors=True)
        results.mkdir(parents=True)
        with tarfile.open(handed_back) as archive:
            for member in archive:
                if text := archive.extractfile(member):
                    (results / pathlib.Path(member.name).name).write_bytes(text.read())
    return int((results / "status").read_text())


def _write_share(path: pathlib.Path, command: Sequence[str], build: pathlib.Path) -> None:
    arguments = path.with_name("command")
    arguments.write_text("\n".join(command) + "\n")
    with tarfile.open(path, "w") as archive:
        for folder in FOLDERS:
            archive.add(TESTS / folder, f"tests/{folder}", filter=_without_byte_code)
        archive.add(arguments, "command")
        archive.add(build / "src/plugin" / MODULE, f"drivers/{MODULE}")
        for pattern in ("tests/e2e/*.so", "tests/bench/bench-traffic", "guest"):
            for path in build.glob(pattern):
                archive.add(path, f"build/{path.relative_to(build)}")


def _without_byte_code(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in member.name else member


def _boot(image: Image, share: pathlib.Path, handed_back: pathlib.Path, seconds: float) -> None:
    command_line = "console=ttyS0 root=/dev/vda rootfstype=ext4 rw fsck.mode=skip quiet loglevel=1 panic=-1"
    # Code at the same address in each process: QEMU need not translate it anew.
    command_line += " norandmaps init=/usr/sbin/peer-init"
    drives = []
    for path, options in ((image.disk, ",snapshot=on"), (share, ",readonly=on"), (handed_back, "")):
        drives += ["-drive", f"file={path},format=raw,if=virtio{options}"]
    process = [
        "setpriv", "--pdeathsig", "KILL",
        "qemu-system-x86_64", "-accel", "tcg", "-icount", "shift=0,sleep=off", "-smp", "1", "-m", str(MEMORY_MIB),
        "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio",
        "-kernel", str(image.kernel), "-initrd", str(image.initrd),
        "-append", command_line,
        *drives,
    ]  # fmt: skip
    try:
        subprocess.run(process, check=True, stdin=subprocess.DEVNULL, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise SystemExit(f"the virtual machine still ran after {seconds:g} s") from None


if __name__ == "__main__":
    suite, build, results, seconds = sys.argv[1:5]
    sys.exit(run(sys.argv[5:], pathlib.Path(build), pathlib.Path(results), float(seconds), suite))
