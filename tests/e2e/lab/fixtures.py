# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fixtures: each test gets a workbench, and fails if anything it made is left over."""

from __future__ import annotations

from typing import Iterator

import pytest

from . import Workbench, daemon, workbench

_failed: dict[str, bool] = {}


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        _failed[item.nodeid] = True
        log = daemon.log_since(getattr(item, "log_start", 0)).splitlines()
        report.sections.append(("libvirtd's log", "\n".join(log[-20:])))


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[Workbench]:
    request.node.log_start = daemon.log_size()
    with workbench() as bench:
        started_with = daemon.pid()
        yield bench
        # A test that stops or restarts the daemon says so by using the fixture `libvirtd`.
        if "libvirtd" not in request.fixturenames:
            assert daemon.pid() == started_with, "libvirtd died"
    try:
        bench.assert_clean()
    except AssertionError:
        bench.scrub()
        if not _failed.get(request.node.nodeid):
            raise


@pytest.fixture
def libvirtd() -> Iterator[object]:
    """The daemon, for tests that stop, kill or restart it. It runs with our module again afterwards."""
    before = daemon.options
    yield daemon
    if daemon.pid() is None:
        daemon.start()
    elif daemon.options != before:
        daemon.restart()
