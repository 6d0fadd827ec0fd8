# SPDX-License-Identifier: LGPL-2.1-or-later
"""A virtual machine's kernel and disk: a release of Debian with its own kernel, from the host's mirror.

    image.py SUITE

They are built once and kept beside the build folder, until this file changes.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import platform
import shutil
import subprocess
import sys
from typing import TextIO

BUILD_DIR = os.environ.get("BUILD_DIR", "build")
DISK_SIZE = "3G"  # sparse

PACKAGES = (
    # The suite's libvirt, and what the sandbox needs (see ./run). No package of the init system: process 1
    # is our own.
    "libvirt-daemon", "libvirt-daemon-driver-lxc", "libvirt-daemon-driver-qemu", "libvirt-clients",
    "qemu-system-x86", "dnsmasq-base", "iproute2", "iptables", "iputils-ping", "procps", "util-linux",
    "libnl-3-200", "libnl-route-3-200", "libstdc++6", "pkg-config", "libvirt-dev",
    "python3", "python3-libvirt", "python3-pytest",
    "linux-image-cloud-amd64", "initramfs-tools",
)  # fmt: skip
# From trixie on libvirt's drivers are packages of their own, and it knows two kinds of firewall.
LATER_PACKAGES = (
    "libvirt-daemon-driver-network", "libvirt-daemon-driver-nwfilter", "libvirt-daemon-log",
    "nftables", "firewalld", "dbus-daemon",
)  # fmt: skip
SUITES = {"bookworm": (), "trixie": LATER_PACKAGES, "sid": LATER_PACKAGES}

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


class Image:
    """The files of a suite's machine."""

    def __init__(self, suite: str) -> None:
        self.suite = suite
        self.folder = pathlib.Path(f"{BUILD_DIR}-peer").absolute() / suite
        self.kernel, self.initrd, self.disk, self._stamp, self._log = (
            self.folder / name for name in ("vmlinuz", "initrd.img", "disk.ext4", "stamp", "build.log")
        )

    def is_cached(self) -> bool:
        return self._stamp.exists() and self._stamp.read_text() == _recipe()

    def ensure(self) -> None:
        """Builds what is missing; takes some minutes then."""
        if not self.is_cached():
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            self._build(self.folder / "root")
            self._stamp.write_text(_recipe())

    def _build(self, root: pathlib.Path) -> None:
        sources = _sources(self.suite)
        mirror = sources[0].split()[1]
        print(f"building the virtual machine's disk in {self.folder}", flush=True)
        with self._log.open("w") as log:
            command = ("debootstrap", "--variant=minbase", "--include=ca-certificates", self.suite, str(root), mirror)
            self._isolated(log, *command)
            for name, text in FILES.items():
                path = root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
                path.chmod(0o755 if name in EXECUTABLE else 0o644)
            (root / "etc/apt/sources.list").write_text("\n".join(sources) + "\n")
            update = "apt-get update --quiet -o Acquire::Check-Valid-Until=false"  # the mirror may be behind
            install = "apt-get install --yes --quiet --no-install-recommends"
            self._isolated(
                log, "bash", "-ec",
                'mount -t proc proc "$0/proc"; export DEBIAN_FRONTEND=noninteractive;'
                ' chroot "$0" bash -ec'
                f' "{update}; {install} $*; apt-get clean; rm -rf /var/lib/apt/lists/*"',
                str(root), *PACKAGES, *SUITES[self.suite],
            )  # fmt: skip
            for part, target in (("vmlinuz", self.kernel), ("initrd.img", self.initrd)):
                (found,) = (root / "boot").glob(f"{part}-*")
                shutil.copy(found, target)
            self._isolated(log, "mke2fs", "-q", "-t", "ext4", "-d", str(root), str(self.disk), DISK_SIZE)
        shutil.rmtree(root)

    def _isolated(self, log: TextIO, *argv: str) -> None:
        """Runs a command in name spaces of its own: its mounts and processes end with it."""
        unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        done = subprocess.run([*unshare, *argv], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        if done.returncode != 0:
            raise SystemExit(f"{argv[0]} failed: see {self._log}")


def _recipe() -> str:
    return hashlib.sha256(pathlib.Path(__file__).read_bytes()).hexdigest()


def _sources(suite: str) -> list[str]:
    """Lines of sources.list for the suite, from where the host's apt takes its own: the suite itself first,
    whose mirror debootstrap is given."""
    targets = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(COMPONENT)", "Created-By: Packages"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    own = platform.freedesktop_os_release()["VERSION_CODENAME"]
    lines = []
    for uri, codename, part in map(str.split, targets.stdout.splitlines()):
        name, dash, kind = codename.partition("-")
        if name == own and not (dash and suite == "sid"):  # which has no suites beside it
            lines.append(f"deb {uri} {suite}{dash}{kind} {part}")
    return sorted(dict.fromkeys(lines), key=lambda line: line.split()[2])


if __name__ == "__main__":
    Image(sys.argv[1]).ensure()
