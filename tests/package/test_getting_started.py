# SPDX-License-Identifier: LGPL-2.1-or-later
"""The page "Getting started", from the package on, on a host that has not seen it yet."""

from __future__ import annotations

import os
import pathlib
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "docs"))

from getting_started import follow  # noqa: E402

# What apt-get would download is there. Then, as in test_package.py: libvirt's LXC driver asks machined for a process that
# may have ended; without machined it needs none of it.
INSTALL = """
dpkg --force-unsafe-io --install "$PACKAGES"/host/*.deb ./libvirt-floor_*.deb
rm -f /usr/share/dbus-1/system-services/org.freedesktop.machine1.service
systemctl mask --now systemd-machined
systemctl reload dbus
"""

ON_THE_HOST = {"apt-get update": "", "apt-get install --yes ./libvirt-floor_": f"set -e; shopt -s nullglob; {INSTALL}"}


def test_page_leads_to_a_guest_with_a_floor(tmp_path: pathlib.Path) -> None:
    pathlib.Path("/var/lib/man-db/auto-update").unlink(missing_ok=True)  # an index of all manual pages at each dpkg
    (package,) = pathlib.Path(os.environ["PACKAGES"]).glob("libvirt-floor_*.deb")
    shutil.copy(package, tmp_path)
    follow(ON_THE_HOST, tmp_path)
