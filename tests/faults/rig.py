# SPDX-License-Identifier: LGPL-2.1-or-later
"""A libvirtd that can be stopped and failed at each point, a network, and what can be done to it.

Ports are mostly made by the API, as the domain drivers make them: that is quick. The daemon has the
network driver alone, which makes a restart cheap; what it would do with guests it does as well, as
guests are known to it by their files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import shutil
import signal
from typing import Callable, Iterator, Optional

import libvirt
import pytest
from interposer import LIBRARY, Interposer, Mode, Point, Scope
from lab import (
    CommandFailed,
    Workbench,
    check_static,
    check_tables,
    connection,
    daemon,
    kernel,
    run,
    status,
    wait_until,
    wait_until_passes,
)
from lab.commands import NETWORK

MODULE = "libvirt_driver_network.so"
ALL_DRIVERS = pathlib.Path("/run/sandbox/drivers")
ONE_DRIVER = pathlib.Path("/run/sandbox/network-driver")
STOCK_STATE = pathlib.Path("/run/libvirt/network")
SAVED_STATE = pathlib.Path("/run/sandbox/stock-state")
SAVED_TREE = pathlib.Path("/run/sandbox/stock-tree")

# Enough for a file of ours to be full, and for a bucket of the filters' table, so that the next one
# moves all of them.
FULL = 8
EXTRA = "0e0e0e0e-0000-4000-8000-000000000000"  # the UUID of the port that comes and goes
EXTRA_MAC = "52:54:00:c0:ff:33"
PLAIN_MAC = "52:54:00:c0:00:01"

STALE_FILE = status.STATUS_DIR / "test-net-gone.xml"
MOST_RECORDINGS = 5

# A network's ports, as libvirt tells of them; None where it does not run.
Snapshot = Optional[dict[str, tuple[str, Optional[int], tuple[tuple[str, int], ...]]]]


def process_runs(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


class Rig:
    def __init__(self, lab: Workbench, interposer: Interposer) -> None:
        self.lab = lab
        self.interposer = interposer
        self.network = lab.defined_network({"average": 4000, "peak": 8000, "burst": 64})
        self.pid = 0
        self.restart()

    # The daemon.

    def start(self) -> None:
        daemon.start("--driver-dir", str(ONE_DRIVER), "--preload", str(LIBRARY))
        self.pid = daemon.pid() or 0

    def restart(self) -> None:
        if daemon.pid() is not None:
            daemon.stop()
        self.start()

    def kill(self) -> None:
        if daemon.pid() is not None:
            daemon.kill9()

    def died(self) -> bool:
        return not process_runs(self.pid)

    def wait_until_dead(self) -> None:
        wait_until("it is dead", lambda: daemon.pid() is None)

    # The network.

    @property
    def name(self) -> str:
        return self.network.name

    def active(self) -> bool:
        with connection() as conn:
            return self.name in [network.name() for network in conn.listAllNetworks(2)]

    def start_network(self) -> None:
        with connection() as conn:
            conn.networkLookupByName(self.name).create()

    def create_network(self) -> None:
        with connection() as conn:
            conn.networkCreateXML(self.network.xml())

    def destroy_network(self) -> None:
        with connection() as conn:
            conn.networkLookupByName(self.name).destroy()

    def add(self, mac: str, uuid: str, **inbound: int) -> None:
        nic = self.network.nic(mac=mac, **inbound)
        with connection() as conn:
            conn.networkLookupByName(self.name).portCreateXML(self.network.port_xml(nic, port_uuid=uuid), 0)

    def set(self, uuid: str, **inbound: int) -> None:
        with connection() as conn:
            port = conn.networkLookupByName(self.name).portLookupByUUIDString(uuid)
            port.setParameters({f"inbound.{key}": value for key, value in inbound.items()}, 0)

    def delete(self, uuid: str) -> None:
        with connection() as conn:
            conn.networkLookupByName(self.name).portLookupByUUIDString(uuid).delete(0)

    def plug_base(self, floors: int) -> None:
        """Ports that stay: some with a floor, whose addresses end alike, and one without."""
        if not self.active():
            self.start_network()
        for number in range(floors):
            self.add(f"52:54:00:c0:{number:02x}:33", _uuid(number), floor=100 + number)
        self.add(PLAIN_MAC, _uuid(99), average=70)

    # What is done to it.

    def record(self, operation: Operation, scope: Scope) -> tuple[list[Point], Snapshot, Snapshot]:
        """The points of an operation, and what was before it and after it. The first time may differ: folders
        are made."""
        texts: list[str] = []
        for _ in range(MOST_RECORDINGS):
            operation.prepare(self)
            before = None if operation.starts_daemon else self.snapshot()
            self.interposer.arm(Mode.RECORD, scope)
            operation.act(self)
            self.interposer.disarm()
            points = list(self.interposer.points())
            after = self.check_soon()
            last, texts = texts, [point.text for point in points]
            if texts and texts == last:
                return points, after if operation.starts_daemon else before, after
        raise AssertionError(f"{operation} passes other points each time: {last} {texts}")

    # What is so.

    def snapshot(self) -> Snapshot:
        if not self.active():
            return None
        return {
            port.uuid: (port.mac, port.class_id, tuple(sorted(port.inbound.items())))
            for port in self.network.ports()
        }

    def check(self) -> Snapshot:
        """Asserts that libvirt, our files and the kernel agree, and that nothing is there beyond."""
        snapshot = self.snapshot()
        if snapshot is None:
            assert status.files() == set(), "files of a network that does not run"
        else:
            assert status.files() == {f"{self.name}.xml"}
            check_static(self.network)
            check_tables(self.network)
        assert temporaries(STOCK_STATE) == [], "temporary files of ours among stock's"
        return snapshot

    def check_soon(self) -> Snapshot:
        """check(), but for what is put in order in the background."""
        wait_until_passes(lambda: self.check() and None, seconds=3)
        return self.check()

    def check_next_operation(self) -> None:
        """What comes next works, and leaves nothing behind."""
        if not self.active():
            remove_stock_bridge(self)
            self.create_network()
            assert self.check_soon() == {}
            self.destroy_network()
            assert self.check_soon() is None
            return
        before = self.snapshot()
        uuid = _uuid(77)
        self.add("52:54:00:c0:77:77", uuid, floor=77)
        plugged = self.check_soon()
        assert plugged is not None and dict(plugged[uuid][2])["floor"] == 77
        self.delete(uuid)
        assert self.check_soon() == before


def _uuid(number: int) -> str:
    return f"0a0a0a0a-0000-4000-8000-{number:012x}"


def temporaries(folder: pathlib.Path) -> list[pathlib.Path]:
    """What g_file_set_contents() leaves behind when it is cut off."""
    return [path for path in folder.rglob("*.xml.??????")]


# What is done, and how often it can be done.


@dataclasses.dataclass
class Operation:
    """base is made once, prepare brings it to where act can begin; act is what is killed or failed."""

    name: str
    act: Callable[[Rig], None]
    base: Callable[[Rig], None] = lambda rig: None
    prepare: Callable[[Rig], None] = lambda rig: None
    starts_daemon: bool = False

    def __str__(self) -> str:
        return self.name


def plug_ports(rig: Rig) -> None:
    rig.plug_base(3)


def plug_full(rig: Rig) -> None:
    rig.plug_base(FULL)


def unplug_extra(rig: Rig) -> None:
    with contextlib.suppress(libvirt.libvirtError):
        rig.delete(EXTRA)
    wait_until_passes(lambda: check_tables(rig.network))


def plug_extra(rig: Rig) -> None:
    unplug_extra(rig)
    rig.add(EXTRA_MAC, EXTRA, floor=50)


def plug_extra_plain(rig: Rig) -> None:
    unplug_extra(rig)
    rig.add(EXTRA_MAC, EXTRA, average=50)


def unplug_and_tidy(rig: Rig) -> None:
    """Unplugs, and waits until the tables that are not in use any more are gone."""
    rig.delete(EXTRA)
    wait_until_passes(lambda: check_tables(rig.network))


def fill_again(rig: Rig) -> None:
    """File and bucket are as when the last port that fits had come: both are made anew at a start."""
    unplug_extra(rig)
    lose_tree(rig)
    rig.start()


def stop_network(rig: Rig) -> None:
    if rig.active():
        rig.destroy_network()
    remove_stock_bridge(rig)


def remove_stock_bridge(rig: Rig) -> None:
    """Stock's own leftover: killed while it starts or ends a network, libvirtd may leave a bridge behind of
    which it knows nothing afterwards. The operator takes it away, and a tree on it goes with it."""
    if rig.network.bridge in kernel.devices():
        run("ip", "link", "delete", rig.network.bridge)


def forget_network(rig: Rig) -> None:
    stop_network(rig)
    with contextlib.suppress(CommandFailed):
        rig.network.undefine()


def wipe_tree(rig: Rig) -> None:
    wipe_tree_of(rig.network.bridge)


def wipe_tree_of(bridge: str) -> None:
    if kernel.tc_root(bridge):
        run("tc", "qdisc", "delete", "dev", bridge, "root")


def reload(rig: Rig) -> None:
    """It ends with files of networks that do not run."""
    offset = daemon.log_size()
    os.kill(rig.pid, signal.SIGHUP)

    def over() -> bool:
        return rig.died() or not STALE_FILE.exists() or f"cannot remove {STALE_FILE}" in daemon.log_since(offset)

    wait_until("the reload is over", over)


def plug(rig: Rig) -> None:
    rig.add(EXTRA_MAC, EXTRA, floor=50)


def give_floor(rig: Rig) -> None:
    rig.set(EXTRA, floor=80)


def take_floor_away(rig: Rig) -> None:
    rig.set(EXTRA, average=30)


def start_if_stopped(rig: Rig) -> None:
    if not rig.active():
        rig.start_network()


def plant_stale_file(rig: Rig) -> None:
    """The status of a network that does not run: the reload takes it away."""
    STALE_FILE.write_text("<floornetwork/>")


def repair(rig: Rig) -> None:
    wipe_tree(rig)
    wait_until_passes(lambda: check_static(rig.network) and None)


CALLS = [
    Operation("plug", plug, plug_ports, unplug_extra),
    Operation("plug into a full file", plug, plug_full, fill_again),
    Operation("raise a floor", give_floor, plug_ports, plug_extra),
    Operation("give a floor", give_floor, plug_ports, plug_extra_plain),
    Operation("take a floor away", take_floor_away, plug_ports, plug_extra),
    Operation("unplug", unplug_and_tidy, plug_ports, plug_extra),
    Operation("unplug from a table of its own", unplug_and_tidy, plug_full, plug_extra),
    Operation("start", Rig.start_network, prepare=stop_network),
    Operation("create", Rig.create_network, prepare=forget_network),
    Operation("destroy", Rig.destroy_network, prepare=start_if_stopped),
    Operation("reload", reload, plug_ports, plant_stale_file),
]

# What nobody calls for.
REPAIR = Operation("repair", repair, plug_ports)

# Starts of the daemon: they go on with what the last one left.


def lose_tree(rig: Rig) -> None:
    rig.kill()
    wipe_tree_of(rig.network.bridge)


def lose_tree_and_status(rig: Rig) -> None:
    lose_tree(rig)
    status.network_file(rig.name).unlink(missing_ok=True)


def restore_stock_state(rig: Rig) -> None:
    """As the stock daemon left it: its files, its tree, and none of ours."""
    lose_tree_and_status(rig)
    shutil.rmtree(STOCK_STATE)
    shutil.copytree(SAVED_STATE, STOCK_STATE)
    run("tc", "-batch", str(SAVED_TREE))


def plug_guests(rig: Rig) -> None:
    """Guests, whose status files of libvirt's say what floors they have."""
    daemon.restart()
    rig.start_network()
    for floor in (300, 400):
        rig.lab.lxc(rig.network.nic(floor=floor))
    rig.restart()


def plug_under_stock(rig: Rig) -> None:
    daemon.stop()
    SAVED_TREE.unlink(missing_ok=True)
    shutil.rmtree(SAVED_STATE, ignore_errors=True)
    os.environ["TC_LOG"] = str(SAVED_TREE)
    try:
        daemon.start("--stock", "--tc-shim")
    finally:
        del os.environ["TC_LOG"]
    rig.plug_base(3)
    daemon.stop()
    shutil.copytree(STOCK_STATE, SAVED_STATE)


STARTS = [
    Operation("recovery", Rig.start, base=plug_ports, prepare=Rig.kill, starts_daemon=True),
    Operation("recovery of a lost tree", Rig.start, base=plug_ports, prepare=lose_tree, starts_daemon=True),
    Operation(
        "recovery from the guests' status", Rig.start, base=plug_guests, prepare=lose_tree_and_status, starts_daemon=True
    ),
    Operation("take-over", Rig.start, base=plug_under_stock, prepare=restore_stock_state, starts_daemon=True),
]


@pytest.fixture
def rig(lab: Workbench, libvirtd: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    ONE_DRIVER.mkdir(exist_ok=True)
    shutil.copy2(ALL_DRIVERS / MODULE, ONE_DRIVER / MODULE)
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", NETWORK)
    interposer = Interposer()
    rig = Rig(lab, interposer)
    try:
        yield rig
    finally:
        interposer.disarm()
        if daemon.pid() is None:
            rig.start()
        with contextlib.suppress(libvirt.libvirtError):
            remove_stock_bridge(rig) if not rig.active() else None
        interposer.close()
