# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirtd is killed at each point of each operation, and under load, and started again."""

from __future__ import annotations

import contextlib
import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Iterator

import libvirt
import pytest
from interposer import Mode, Point, Scope
from lab import CommandFailed, plug_and_unplug
from rig import CALLS, EXTRA, REPAIR, STARTS, Operation, Rig, Snapshot

ROUNDS = 3  # of the long form
CLIENTS = 2


def kills(points: list[Point], long_form: bool) -> Iterator[tuple[Point, Mode]]:
    """The short form takes what is after a point for what is before the next, as nothing lies between, and
    tears no file that stock writes beside its own."""
    for point in points:
        yield point, Mode.KILL_BEFORE
        if long_form or point is points[-1]:
            yield point, Mode.KILL_AFTER
        if point.is_write and (long_form or not point.text.endswith(".new")):
            yield point, Mode.KILL_TORN


def kill_at(rig: Rig, operation: Operation, point: Point, mode: Mode) -> None:
    operation.prepare(rig)
    rig.interposer.arm(mode, target=point.number)
    with contextlib.suppress(libvirt.libvirtError, CommandFailed, AssertionError):
        operation.act(rig)
    assert rig.interposer.hits == 1, f"{operation}: {point} was not reached"
    rig.wait_until_dead()
    rig.interposer.disarm()


def states_of_extra(snapshot: Snapshot) -> set[int | None]:
    """The floor of the port that comes and goes; None where there is no such port."""
    if snapshot is None or EXTRA not in snapshot:
        return {None}
    return {dict(snapshot[EXTRA][2]).get("floor", 0)}


def check_outcome(before: Snapshot, after: Snapshot, found: Snapshot) -> None:
    """What was begun is as before or as asked for; a port may have come, or gone, but for its floor."""
    if before is None or after is None:
        assert found in (before, after)
        return
    assert found is not None
    allowed = states_of_extra(before) | states_of_extra(after)
    if None in allowed:
        allowed.add(0)
    assert states_of_extra(found) <= allowed, found.get(EXTRA)
    others = [{uuid: port for uuid, port in each.items() if uuid != EXTRA} for each in (before, found)]
    assert others[0] == others[1]


def survive_each_point(rig: Rig, operation: Operation, report, long_form: bool) -> None:
    points, before, after = rig.record(operation, Scope.CHANGES)
    report.count("distinct points to be killed at", len(points))
    for _ in range(ROUNDS if long_form else 1):
        for point, mode in kills(points, long_form):
            kill_at(rig, operation, point, mode)
            try:
                rig.start()
                check_outcome(before, after, rig.check_soon())
                rig.check_next_operation()
            except Exception as error:
                raise AssertionError(f"{operation}, {mode.name} of {point}: {error}") from error
            report.count("kills at a point survived")


@pytest.mark.parametrize("operation", CALLS + [REPAIR] + STARTS, ids=str)
def test_killed_at_each_point(rig: Rig, operation: Operation, report, long_form: bool) -> None:
    if operation.name == "create" and not long_form:
        pytest.skip("goes the way of start; in the long form")
    operation.base(rig)
    survive_each_point(rig, operation, report, long_form)


def test_killed_at_random_under_load(rig: Rig, report, long_form: bool) -> None:
    rig.start_network()
    for number in range(4):
        rig.add(f"52:54:00:b3:00:{number:02x}", f"0b0b0b0b-0000-4000-8000-{number:012x}", floor=20)
    kept = rig.check_soon()
    assert kept is not None

    def disturb(client: int) -> None:
        with contextlib.suppress(libvirt.libvirtError):  # the daemon is gone
            plug_and_unplug(rig.network, 16 + client, 100000)

    for seed in range(200 if long_form else 20):
        with ThreadPoolExecutor(CLIENTS) as pool:
            workers = [pool.submit(disturb, client) for client in range(CLIENTS)]
            time.sleep(random.Random(seed).uniform(0.05, 0.4))  # where it is cut is left to chance
            rig.kill()
            for worker in workers:
                worker.result()
        rig.start()
        found = rig.check_soon()
        assert found is not None and kept.items() <= found.items(), f"seed {seed}"
        for uuid in found.keys() - kept.keys():
            rig.delete(uuid)
        assert rig.check_soon() == kept, f"seed {seed}"
        report.count("random kills survived")
