# SPDX-License-Identifier: LGPL-2.1-or-later
"""The fixtures are the lab's. These tests run in the virtual machine's sandbox (./run test nftables), where
libvirtd's firewall backend is nftables from the first of them to the last."""

import pathlib
from typing import Iterator

import pytest

pytest.register_assert_rewrite("lab", "rules")
pytest_plugins = ["lab.fixtures"]

CONFIG = pathlib.Path("/etc/libvirt/network.conf")


@pytest.fixture(scope="session", autouse=True)
def nftables() -> Iterator[None]:
    from lab import daemon  # behind the lines above, which have its assertions rewritten

    before = CONFIG.read_text()
    CONFIG.write_text('firewall_backend = "nftables"\n')
    daemon.restart()
    yield
    CONFIG.write_text(before)
    daemon.restart()
