# SPDX-License-Identifier: LGPL-2.1-or-later
"""The package on a host with systemd (see machine), where these tests run as a service.

PACKAGES names a folder with our package; in it, `host` has those that the host itself lacks, and `later` a driver of
libvirt's that is installed last.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys
from typing import Iterator

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "e2e"))
pytest.register_assert_rewrite("lab")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        journal = ["journalctl", "--no-pager", "--lines=12", "--unit=libvirtd", "--unit=virt-floor-exporter"]
        said = subprocess.run(journal, capture_output=True, text=True).stdout
        report.sections.append(("the services' log", said))
