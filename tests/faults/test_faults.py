# SPDX-License-Identifier: LGPL-2.1-or-later
"""Each netlink message and each file operation of our module fails once, in each way it can.

What is asked for is refused, with the kernel's words, and all is as before; or it is done. What comes
next works, and nothing is left behind.
"""

from __future__ import annotations

import errno
import itertools
import os
import time
from typing import Iterator, Optional

import libvirt
import pytest
from interposer import EXTENDED_TEXT, Fault, Mode, Point, Scope
from lab import CommandFailed, daemon, status, wait_until, wait_until_passes
from rig import CALLS, STARTS, Operation, Rig, Snapshot, plug_ports, reload, wipe_tree

NETLINK_ERRORS = (errno.EEXIST, errno.ENOENT, errno.ENOMEM, errno.ENOBUFS, errno.EPERM, errno.EBUSY)
FILE_ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES)
NETLINK_FAULTS = [(Fault.ERROR, error) for error in NETLINK_ERRORS] + [
    (Fault.CUT, errno.EPROTO),
    (Fault.WRONG_SEQUENCE, errno.ETIMEDOUT),
    (Fault.SILENCE, errno.ETIMEDOUT),
    (Fault.OVERRUN, errno.ENOBUFS),
]
FILE_FAULTS = [(Fault.ERROR, error) for error in FILE_ERRORS]
WRITE_FAULTS = FILE_FAULTS + [(Fault.TORN, errno.EIO), (Fault.SHORT_COUNT, errno.EIO)]
GIVEN_UP = "networks run without floors until the daemon is restarted"
PUT_OFF = "cannot go on with network"
NOT_REMOVED = f"cannot remove {status.STATUS_DIR}"
FAULTS_AN_OPERATION = 8  # about as many, in the short form
LONGEST_WAIT_S = 3  # of a call whose message is never answered

Case = tuple[Point, Fault, int]


def cases(points: list[Point], long_form: bool) -> Iterator[Case]:
    """Each point with each kind of fault; in the short form with one to three of them, in turn."""
    most = max(1, min(3, FAULTS_AN_OPERATION // len(points)))
    turn = itertools.count()
    for point in points:
        kinds = NETLINK_FAULTS if point.is_netlink else WRITE_FAULTS if point.is_write else FILE_FAULTS
        count = len(kinds) if long_form else most
        for _ in range(count):
            yield point, *kinds[next(turn) % len(kinds)]


def fail_at(rig: Rig, operation: Operation, scope: Scope, case: Case, quick: bool = True) -> Optional[str]:
    """Does it with one fault, and returns the error."""
    point, fault, error = case
    rig.interposer.arm(Mode.FAULT, scope, point.number, fault, error, quick)
    try:
        operation.act(rig)
        return None
    except (libvirt.libvirtError, CommandFailed) as refused:
        return str(refused)
    finally:
        hits = rig.interposer.hits
        rig.interposer.disarm()
        assert hits == 1, f"{point} was not reached"


def check_words(case: Case, error: str) -> None:
    """The caller is told what the kernel said."""
    point, fault, number = case
    assert os.strerror(number) in error, error
    if point.is_netlink and fault == Fault.ERROR:
        assert EXTENDED_TEXT in error, error


def recovers(rig: Rig) -> bool:
    """Whether the daemon puts right by itself what it could not at its start."""
    try:
        wait_until_passes(lambda: rig.check() and None, seconds=2)
    except AssertionError:
        return False
    return True


def check_case(
    rig: Rig, operation: Operation, case: Case, before: Snapshot, asked: Snapshot, error: Optional[str], log: str
) -> None:
    if error is not None:
        assert not operation.starts_daemon, f"the daemon did not start: {error}"
        check_words(case, error)
    if GIVEN_UP in log:
        # Without its directory the module does nothing at all: networks run on, and the operator is told.
        assert operation.starts_daemon and not case[0].is_netlink and rig.active()
        rig.restart()
    elif NOT_REMOVED in log:
        # The file of a network that is gone goes with the daemon's next start.
        assert error is None and len(status.files()) == (1 if asked is None else 2)
        rig.restart()
    elif PUT_OFF in log and not recovers(rig):
        # What was promised could not be learned. It is tried again at the next floor, or a reload.
        assert operation.starts_daemon and rig.active()
        reload(rig)
    assert rig.check_soon() == (asked if error is None else before), error
    rig.check_next_operation()


@pytest.mark.parametrize("operation", CALLS + STARTS, ids=str)
def test_failed_at_each_point(rig: Rig, operation: Operation, report, long_form: bool) -> None:
    operation.base(rig)
    points, before, asked = rig.record(operation, Scope.OURS)
    for case in cases(points, long_form):
        operation.prepare(rig)
        try:
            offset = daemon.log_size()
            error = fail_at(rig, operation, Scope.OURS, case)
            check_case(rig, operation, case, before, asked, error, daemon.log_since(offset))
        except Exception as failure:
            raise AssertionError(f"{operation}, {case}: {failure}") from failure
        report.count("faults injected: netlink" if case[0].is_netlink else "faults injected: files")


@pytest.mark.parametrize("operation", CALLS + STARTS, ids=str)
def test_an_answer_that_never_comes_is_not_waited_for_long(rig: Rig, operation: Operation, report) -> None:
    operation.base(rig)
    points, before, asked = rig.record(operation, Scope.OURS)
    messages = [point for point in points if point.is_netlink]
    if not messages:
        pytest.skip("sends no message")
    operation.prepare(rig)
    case = (messages[0], Fault.SILENCE, errno.ETIMEDOUT)
    offset = daemon.log_size()
    began = time.monotonic()
    error = fail_at(rig, operation, Scope.OURS, case, quick=False)
    took = time.monotonic() - began
    assert took < LONGEST_WAIT_S
    report.highest("longest call whose message was not answered", took, "s")
    check_case(rig, operation, case, before, asked, error, daemon.log_since(offset))


def test_a_repair_that_fails_is_tried_again(rig: Rig, report, long_form: bool) -> None:
    plug_ports(rig)
    right = rig.check_soon()

    def repaired() -> None:
        assert rig.check() == right

    rig.interposer.arm(Mode.RECORD, Scope.WATCH)
    wipe_tree(rig)
    wait_until_passes(repaired)
    rig.interposer.disarm()
    for case in cases(list(rig.interposer.points()), long_form):
        point, fault, error = case
        rig.restart()  # who wipes a tree again and again is waited for ever longer
        rig.interposer.arm(Mode.FAULT, Scope.WATCH, point.number, fault, error)
        wipe_tree(rig)
        wait_until("it has failed", lambda: rig.interposer.hits)
        wait_until_passes(repaired)
        rig.interposer.disarm()
        rig.check_next_operation()
        report.count("faults injected: netlink" if point.is_netlink else "faults injected: files")
