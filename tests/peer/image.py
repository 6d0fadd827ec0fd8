# SPDX-License-Identifier: LGPL-2.1-or-later
"""The virtual machine's kernel and disk: Debian 12 with Debian's own kernel, from the host's mirror.

They are built once and kept beside the build folder, until this file changes.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import shutil
import subprocess
from typing import TextIO

FOLDER = pathlib.Path(os.environ.get("BUILD_DIR", "build") + "-peer").absolute()
KERNEL, INITRD, DISK, STAMP = (FOLDER / name for name in ("vmlinuz", "initrd.img", "disk.ext4", "stamp"))
DISK_SIZE = "3G"  # sparse

SUITE = "bookworm"
PACKAGES = (
    # The libvirt that libvirt-floor is compared with, and what the sandbox needs (see ./run). No
    # package of the init system: process 1 is our own.
    "libvirt-daemon", "libvirt-daemon-driver-lxc", "libvirt-daemon-driver-qemu", "libvirt-clients",
    "qemu-system-x86", "dnsmasq-base", "iproute2", "iptables", "iputils-ping", "procps", "util-linux",
    "libnl-3-200", "libnl-route-3-200", "libstdc++6", "pkg-config", "libvirt-dev",
    "python3", "python3-libvirt", "python3-pytest",
    "linux-image-cloud-amd64", "initramfs-tools",
)  # fmt: skip

FILES = {
    "etc/dpkg/dpkg.cfg.d/small": (
        "force-unsafe-io\npath-exclude=/usr/share/doc/*\npath-exclude=/usr/share/man/*\n"
        "path-exclude=/usr/share/locale/*\n"
    ),
    "etc/initramfs-tools/conf.d/small": "MODULES=list\nRESUME=none\n",
    "etc/initramfs-tools/modules": "virtio_pci\nvirtio_blk\next4\n",
    "usr/sbin/policy-rc.d": "#!/bin/sh\nexit 101\n",  # starts nothing
    # What a run needs comes on a second disk.
    "usr/sbin/peer-init": "#!/bin/bash\nmkdir /share && tar -xf /dev/vdb -C /share && exec /share/tests/peer/init\n",
}
EXECUTABLE = ("usr/sbin/policy-rc.d", "usr/sbin/peer-init")


def _recipe() -> str:
    return hashlib.sha256(pathlib.Path(__file__).read_bytes()).hexdigest()


def is_cached() -> bool:
    return STAMP.exists() and STAMP.read_text() == _recipe()


def ensure() -> None:
    """Builds what is missing; takes some minutes then."""
    if not is_cached():
        shutil.rmtree(FOLDER, ignore_errors=True)
        FOLDER.mkdir(parents=True)
        _build(FOLDER / "root")
        STAMP.write_text(_recipe())


def _sources() -> list[str]:
    """Lines of sources.list for what the host's apt takes Debian from."""
    targets = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(COMPONENT)", "Created-By: Packages"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    lines = [line for line in targets.stdout.splitlines() if line.split()[1].partition("-")[0] == SUITE]
    # The suite itself first: debootstrap is given that one's mirror.
    return sorted(dict.fromkeys(f"deb {line}" for line in lines), key=lambda line: line.split()[2])


def _build(root: pathlib.Path) -> None:
    sources = _sources()
    mirror = sources[0].split()[1]
    print(f"building the virtual machine's disk in {FOLDER}", flush=True)
    with (FOLDER / "build.log").open("w") as log:
        _isolated(log, "debootstrap", "--variant=minbase", "--include=ca-certificates", SUITE, str(root), mirror)
        for name, text in FILES.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o755 if name in EXECUTABLE else 0o644)
        (root / "etc/apt/sources.list").write_text("\n".join(sources) + "\n")
        install = "apt-get install --yes --quiet --no-install-recommends"
        _isolated(
            log, "bash", "-ec",
            'mount -t proc proc "$0/proc"; export DEBIAN_FRONTEND=noninteractive;'
            f' chroot "$0" bash -ec "apt-get update --quiet; {install} $*; apt-get clean; rm -rf /var/lib/apt/lists/*"',
            str(root), *PACKAGES,
        )  # fmt: skip
        for part, target in (("vmlinuz", KERNEL), ("initrd.img", INITRD)):
            (found,) = (root / "boot").glob(f"{part}-*")
            shutil.copy(found, target)
        _isolated(log, "mke2fs", "-q", "-t", "ext4", "-d", str(root), str(DISK), DISK_SIZE)
    shutil.rmtree(root)


def _isolated(log: TextIO, *argv: str) -> None:
    """Runs a command in name spaces of its own: its mounts and processes end with it."""
    unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    done = subprocess.run([*unshare, *argv], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise SystemExit(f"{argv[0]} failed: see {FOLDER / 'build.log'}")
