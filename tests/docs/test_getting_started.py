# SPDX-License-Identifier: LGPL-2.1-or-later
"""The page "Getting started", in the sandbox. On a host with systemd it is tried in tests/package."""

from __future__ import annotations

import pathlib
import re

import page
from getting_started import TEXT, follow
from lab import Workbench

# The sandbox is what the package and systemd make of a real host.
IN_THE_SANDBOX = {
    "apt-get update": "",
    "apt-get install --yes ./libvirt-floor_": "",
    "systemctl restart libvirtd": "sandbox-libvirtd restart",
    # The module has another path here.
    "grep -c libvirt-floor /proc/": "grep -c /libvirt_driver_network.so /proc/$(pidof libvirtd)/maps",
    "ping -q -f -s 8000 -w 10 ": "ping -q -f -s 8000 -w 1 10.80.0.11",
}


def test_page_leads_to_a_guest_with_a_floor(lab: Workbench, libvirtd: object, tmp_path: pathlib.Path) -> None:
    follow(IN_THE_SANDBOX, tmp_path)


def test_package_of_this_version() -> None:
    version = re.search(r"version: '([^']+)'", (page.ROOT / "meson.build").read_text())[1]
    named = set(re.findall(r"libvirt-floor_([\d.]+)_amd64\.deb", TEXT))
    assert named == {version}
