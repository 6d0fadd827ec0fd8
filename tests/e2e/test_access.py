# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who may what: with libvirt's access control a caller is refused exactly as by the stock driver, and
needs no more rights than there.
"""

from __future__ import annotations

import dataclasses
import pathlib
import subprocess
from typing import Iterable, Iterator

import libvirt
import pytest
from lab import Network, Workbench, check_tree, connection, kernel, run, status, wait_until
from lab.network import PERSISTENT_DIR
from lab.polkit import ALL, AccessControl, Outcome, Rights, access_control

DENIED = libvirt.VIR_ERR_ACCESS_DENIED
PORT = "9d1ef0a4-55a4-4b7e-9c7c-9a0e3f0a7f01"
OTHER_PORT = "9d1ef0a4-55a4-4b7e-9c7c-9a0e3f0a7f02"

# Without these nobody gets as far as a network or a port.
LOOK_UP = frozenset({"connect.getattr", "connect.read", "network.getattr", "network-port.getattr"})
SINGLE = (
    "network.read", "network.write", "network.save", "network.delete", "network.start", "network.stop",
    "network-port.read", "network-port.write", "network-port.create", "network-port.delete",
)  # fmt: skip
CREATE = frozenset({"network.start", "network.write"})
DEFINE = frozenset({"network.save", "network.write"})
DOMAIN_START = frozenset({"domain.getattr", "domain.start"})
START_FLAGS = {"lxc": 0, "qemu": libvirt.VIR_DOMAIN_START_PAUSED}
USERS = {
    "stranger": Rights(frozenset({"connect.getattr"})),
    "looker": Rights(LOOK_UP),
    **{f"only-{name.replace('.', '-')}": Rights(LOOK_UP | {name}) for name in SINGLE},
    "creator": Rights(LOOK_UP | CREATE),
    "definer": Rights(LOOK_UP | DEFINE),
    "all-but-start": Rights(ALL - {"network.start"}),
    "all-elsewhere": Rights(ALL, network="elsewhere"),
    "master": Rights(ALL),
    "domain-starter": Rights(LOOK_UP | DOMAIN_START),
    "domain-starter-and-plugger": Rights(LOOK_UP | DOMAIN_START | {"network.read", "network-port.create", "network-port.read", "network-port.delete"}),
}


EACH_CALL = [name for name in USERS if name.startswith("only-")] + ["looker", "master"]
SOME_CALLS = ["stranger", "creator", "definer", "all-but-start", "all-elsewhere"]
LIVE_DIR = pathlib.Path("/run/libvirt/network")  # the stock driver's own state


@dataclasses.dataclass(frozen=True)
class Call:
    function: str
    arguments: tuple[object, ...]
    needs: frozenset[str]
    active: bool  # whether the network runs before
    own_words: bool = False  # for who has the rights, our error is not the stock driver's


def calls(network: Network, transient: Network) -> dict[str, Call]:
    name = network.name

    def port(xml_of: Network, **inbound: int) -> str:
        return xml_of.port_xml(network.nic(mac="52:54:00:aa:00:02", **inbound), port_uuid=OTHER_PORT)

    def call(function: str, *arguments: object, needs: object, active: bool = True, own_words: bool = False) -> Call:
        return Call(function, arguments, frozenset([needs] if isinstance(needs, str) else needs), active, own_words)

    def floor(value: int) -> dict[str, int]:
        return {"inbound.floor": value}

    return {
        "start": call("start", name, needs="network.start", active=False),
        "start what runs": call("start", name, needs="network.start"),
        "create": call("create", transient.xml(), needs=CREATE, active=False),
        "create, validated": call("create_with_flags", transient.xml(), needs=CREATE, active=False),
        "create what runs": call("create", network.xml(), needs=CREATE),
        "define": call("define", network.xml(), needs=DEFINE, active=False),
        "define what runs": call("define", network.xml(), needs=DEFINE),
        "undefine": call("undefine", name, needs="network.delete", active=False),
        "destroy": call("destroy", name, needs="network.stop"),
        "destroy what does not run": call("destroy", name, needs="network.stop", active=False),
        "autostart": call("autostart", name, needs="network.write", active=False),
        "XML": call("xml", name, 0, needs="network.read"),
        "inactive XML": call("xml", name, libvirt.VIR_NETWORK_XML_INACTIVE, needs="network.read"),
        "new port": call("create_port", name, port(network), needs="network-port.create"),
        "new port, floor": call("create_port", name, port(network, floor=100), needs="network-port.create"),
        "new port, floor too large": call(
            "create_port", name, port(network, floor=9000), needs="network-port.create", own_words=True
        ),
        "new port, floor, network does not run": call(
            "create_port", name, port(network, floor=100), needs="network-port.create", active=False
        ),
        "delete port": call("delete_port", name, PORT, needs="network-port.delete"),
        "port's limits": call("set_port", name, PORT, {"inbound.average": 100}, needs="network-port.write"),
        "port's floor": call("set_port", name, PORT, floor(700), needs="network-port.write"),
        "port's floor too large": call("set_port", name, PORT, floor(9000), needs="network-port.write", own_words=True),
        "port's parameters": call("get_port", name, PORT, needs="network-port.read"),
        "port's XML": call("port_xml", name, PORT, needs="network-port.read"),
    }


class Scene:
    """A network that is brought into the state that a call needs, by root."""

    def __init__(self, conn: libvirt.virConnect, network: Network, transient: Network) -> None:
        self._conn = conn
        self.network, self.transient = network, transient
        self._port = network.port_xml(network.nic(mac="52:54:00:aa:00:01", floor=500), port_uuid=PORT)
        self._active: bool | None = None

    def set(self, active: bool) -> None:
        if self._active == active:
            return
        self.clear()
        network = self._conn.networkDefineXML(self.network.xml())
        if active:
            network.create()
            network.portCreateXML(self._port, 0)
        self._active = active

    def clear(self) -> None:
        for network in self._conn.listAllNetworks():
            persistent = network.isPersistent()
            if network.isActive():
                network.destroy()
            if persistent:
                network.undefine()
        self._active = None

    def digest(self) -> tuple[object, ...]:
        """All that a refused call must leave as it is."""
        folders = (PERSISTENT_DIR, LIVE_DIR, status.STATUS_DIR)
        paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
        files = {path: status.without_counts(path.read_bytes()) for path in paths}
        devices = kernel.devices()
        tree = self.network.shapes() if self.network.bridge in devices else None
        return files, devices, tree

    def refusals(self) -> int:
        has_tree = status.network_file(self.network.name).exists()
        return status.read(self.network.name).refusals if has_tree else 0


def run_matrix(
    access: AccessControl, scene: Scene, matrix: dict[str, Call], users: Iterable[str], read_only: bool = False
) -> dict[tuple[str, str], Outcome]:
    """Each call by each user. One that is refused must have changed nothing."""
    outcomes = {}
    for name in users:
        with access.user(name) as user:
            for title, call in sorted(matrix.items(), key=lambda each: each[1].active):
                scene.set(call.active)
                before, refusals = scene.digest(), scene.refusals()
                outcomes[name, title] = outcome = user.call(call.function, *call.arguments, read_only=read_only)
                if scene.digest() != before:
                    assert not outcome.code, (name, title, outcome)
                    scene.clear()
                else:  # who may not plug at all is not counted
                    no_room = all(part in outcome.text for part in ("cannot guarantee", "would overcommit"))
                    assert scene.refusals() - refusals == no_room, (name, title, outcome)
    scene.clear()
    return outcomes


@pytest.fixture
def access() -> Iterator[AccessControl]:
    with access_control(USERS) as control:
        yield control


def test_each_caller_has_the_rights_that_the_stock_driver_gives(lab: Workbench, libvirtd, access) -> None:
    network = lab.described_network({"average": 4000, "peak": 8000})
    transient = lab.described_network({"average": 1000})
    matrix = calls(network, transient)
    some = {title: matrix[title] for title in ("start", "create", "define", "new port, floor too large", "XML")}
    found = {}
    for driver in ((), ("--stock",)):
        libvirtd.restart(*driver, "--tc-shim")
        with connection() as conn:
            scene = Scene(conn, network, transient)
            found[driver] = run_matrix(access, scene, matrix, EACH_CALL)
            found[driver] |= run_matrix(access, scene, some, SOME_CALLS)
            read_only = run_matrix(access, scene, matrix, ["master"], read_only=True)
            found[driver] |= {("reader", title): outcome for (_, title), outcome in read_only.items()}

    ours, stock = found.values()
    differences = {}
    for (user, title), outcome in stock.items():
        mine = ours[user, title]
        own_words = matrix[title].own_words and outcome.code not in (0, DENIED, libvirt.VIR_ERR_OPERATION_DENIED)
        if (mine.code != outcome.code) if own_words else (mine != outcome):
            differences[user, title] = f"ours {mine}, stock {outcome}"
    assert not differences

    for (user, title), outcome in ours.items():
        if user == "reader":
            reads = matrix[title].needs <= {"network.read", "network-port.read"}
            assert (outcome.code != libvirt.VIR_ERR_OPERATION_DENIED) == reads, (title, outcome)
        else:
            rights = USERS[user]
            may = not rights.network and matrix[title].needs | {"network.getattr"} <= rights.permissions
            assert (outcome.code != DENIED) == may, (user, title, outcome)


@pytest.mark.parametrize("kind", ["lxc", "qemu"])
def test_guest_with_a_floor_is_started_by_whom_the_stock_driver_lets(lab: Workbench, libvirtd, access, kind: str) -> None:
    """The domain drivers plug a guest as its caller."""
    found = []
    for driver in ((), ("--stock",)):
        libvirtd.restart(*driver, "--tc-shim")
        network = lab.network(average=1000, peak=1000)
        guests = [getattr(lab, f"described_{kind}")(network.nic(floor=floor)) for floor in (600, 600)]
        for guest in guests:
            guest.define()
        outcomes = {}
        for name in ("domain-starter", "domain-starter-and-plugger"):
            with access.user(name) as user:
                outcomes[name] = [user.call("start_domain", each.name, START_FLAGS[kind], uri=each.uri) for each in guests]
        found.append(outcomes)
        assert [guest.is_running() for guest in guests] == [True, False]
        assert [port.floor for port in network.ports()] == [600]
        lab.clear()
    ours, stock = found
    assert ours["domain-starter"] == stock["domain-starter"]
    assert {outcome.code for outcome in ours["domain-starter"]} == {DENIED}
    for outcomes in found:
        plugged, refused = outcomes["domain-starter-and-plugger"]
        assert plugged.code == 0 and refused.code == libvirt.VIR_ERR_OPERATION_INVALID, outcomes
        assert "would overcommit" in refused.text


def test_recovery_asks_nobody(lab: Workbench, libvirtd, access) -> None:
    libvirtd.restart()
    network = lab.network(services=True)  # see test_network.py on autostart without dnsmasq
    network.create_port(network.nic(floor=500))
    network.autostart()
    log = libvirtd.log_size()
    for damage in (lambda: run("tc", "qdisc", "del", "dev", network.bridge, "root"), network.destroy):
        damage()
        libvirtd.reload()
        wait_until("the network runs", network.is_active)
        check_tree(network, eventually=True, steering=False)
    libvirtd.restart()
    check_tree(network, steering=False)
    assert "denied" not in libvirtd.log_since(log)


def test_network_that_could_not_be_gone_on_with_is_tried_again(lab: Workbench, libvirtd, access) -> None:
    """Without polkitd all is denied, also to the daemon itself at its start."""
    libvirtd.restart()
    network = lab.network()
    port = network.create_port(network.nic(floor=500))
    libvirtd.stop()
    log = libvirtd.log_size()
    access.stop_polkitd()
    with subprocess.Popen(["sandbox-libvirtd", "start"]):
        wait_until("it is said", lambda: "cannot go on with networks that run" in libvirtd.log_since(log))
        access.start_polkitd()
    assert network.ports()[0].floor == 0
    network.create_port(network.nic(floor=300))
    assert {each.floor: each.class_id for each in check_tree(network, steering=False)} == {500: port.class_id, 300: 4}
