# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon stops, crashes, reloads, and the floors go on."""

import os
import shutil
import signal
from typing import Callable, Optional

import pytest
from lab import ROOT, Network, Workbench, check_tree, daemon, kernel, run, status, traffic, wait_until

Revive = Callable[[], None]


REVIVALS = pytest.mark.parametrize("revive", [daemon.restart, daemon.crash], ids=["stop", "kill9"])
ALL_WAYS = pytest.mark.parametrize("revive", [daemon.restart, daemon.crash, daemon.reload], ids=["stop", "kill9", "reload"])


@pytest.fixture
def busy(lab: Workbench, libvirtd) -> Network:
    """A network with floored and unfloored guests of both kinds, and packets counted in each class."""
    network = lab.network()
    lab.qemu(network.nic(floor=500), network.nic(floor=700), network.nic())
    lab.lxc(network.nic(floor=300), network.nic())
    check_tree(network)
    return network


def ids(network: Network) -> dict[str, Optional[int]]:
    return {port.mac: port.class_id for port in network.ports()}


def counters(network: Network) -> dict[int, int]:
    return {class_id: each.packets for class_id, each in network.classes().items()}


@REVIVALS
def test_a_right_tree_is_not_touched_at_all(busy: Network, revive: Revive) -> None:
    before, shapes = counters(busy), busy.shapes()
    filters = kernel.tc_filters_text(busy.bridge)
    with kernel.ChangeMonitor(busy.bridge) as monitor:
        revive()
        assert busy.is_active()
        assert monitor.count() == 0
    after = counters(busy)
    assert all(after[class_id] >= before[class_id] > 0 for class_id in before), (before, after)
    assert busy.shapes() == shapes and kernel.tc_filters_text(busy.bridge) == filters
    check_tree(busy)


def test_reload_of_a_right_tree_does_not_touch_it(busy: Network, lab: Workbench) -> None:
    """A second network, which the reload has to repair, tells when the reload has been there."""
    witness = lab.network()
    DAMAGES["tree-removed"](witness)
    before = counters(busy)
    with kernel.ChangeMonitor(busy.bridge) as monitor:
        daemon.reload()
        check_tree(witness, steering=False, eventually=True)
        assert monitor.count() == 0
    assert all(counters(busy)[class_id] >= before[class_id] for class_id in before)
    check_tree(busy)


@REVIVALS
def test_two_restarts_in_a_row(busy: Network, revive: Revive) -> None:
    before = ids(busy)
    for _ in range(2):
        revive()
    check_tree(busy, eventually=True)
    assert ids(busy) == before


def remove_class(network: Network) -> None:
    """With its filter, without which it would be in use."""
    (its_filter,) = [each for each in kernel.tc_filters(network.bridge) if each.class_id == 4]
    tc("filter del", network, f"parent 1: protocol all pref 10 handle {its_filter.handle} u32")
    tc("class del", network, "classid 1:4")


def remove_all_filters(network: Network) -> None:
    tc("filter del", network, "parent 1: protocol all pref 10")
    tc("filter del", network, "parent 1: protocol ip pref 2")


def replace_by_other_htb(network: Network) -> None:
    tc("qdisc del", network, "root")
    tc("qdisc add", network, "root handle 1: htb default 9")
    tc("class add", network, "parent 1: classid 1:9 htb rate 1mbit")


def tc(what: str, network: Network, rest: str) -> None:
    run("tc", *what.split(), "dev", network.bridge, *rest.split())


Damage = Callable[[Network], None]
DAMAGES: dict[str, Damage] = {
    "class-removed": remove_class,
    "class-changed": lambda net: tc("class change", net, "parent 1:1 classid 1:3 htb rate 8mbit ceil 9mbit"),
    "root-changed": lambda net: tc("class change", net, "classid 1:1 htb rate 8mbit ceil 9mbit"),
    "catchment-changed": lambda net: tc("class change", net, "parent 1:1 classid 1:2 htb rate 8kbit ceil 9kbit"),
    "filters-removed": lambda net: tc("filter del", net, "parent 1: protocol all pref 10"),
    "all-filters-removed": remove_all_filters,
    "reservation-removed": lambda net: tc("filter del", net, "parent 1: protocol ip pref 2"),
    "tree-removed": lambda net: tc("qdisc del", net, "root"),
    "tree-replaced": lambda net: tc("qdisc replace", net, "root handle 7: tbf rate 1mbit burst 10k latency 1s"),
    "other-htb": replace_by_other_htb,
    "stray-class": lambda net: tc("class add", net, "parent 1:1 classid 1:77 htb rate 8mbit"),
    "stray-filter": lambda net: tc("filter add", net, "parent 1: protocol all pref 10 u32 match u32 0 0 flowid 1:2"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_was_removed_or_changed_meanwhile_is_repaired(busy: Network, lab: Workbench, damage: str) -> None:
    daemon.stop()
    DAMAGES[damage](busy)
    daemon.start()
    check_tree(busy)
    lab.clear_guests()  # what was repaired can be taken away, too
    check_tree(busy)


@pytest.mark.parametrize("damage", ["class-removed", "filters-removed", "reservation-removed", "tree-removed"])
def test_reload_repairs(busy: Network, lab: Workbench, damage: str) -> None:
    DAMAGES[damage](busy)
    daemon.reload()
    check_tree(busy, eventually=True)
    lab.clear_guests()
    check_tree(busy)


def test_repair_touches_only_what_is_wrong(busy: Network) -> None:
    before = counters(busy)
    daemon.stop()
    DAMAGES["class-changed"](busy)
    with kernel.ChangeMonitor(busy.bridge) as monitor:
        daemon.start()
        assert monitor.count() == 1
    assert all(counters(busy)[class_id] >= before[class_id] for class_id in before)
    check_tree(busy)


@pytest.mark.parametrize("kind", ["lxc", "qemu"])
def test_guests_that_died_meanwhile_are_cleaned_up(lab: Workbench, libvirtd, kind: str) -> None:
    network = lab.network()
    survivor = lab.qemu(network.nic(floor=300))
    guest = getattr(lab, f"described_{kind}")(network.nic(floor=500))
    guest.define()  # a transient LXC guest stays in libvirt's list for ever
    guest.start()
    pid = guest.pid()
    libvirtd.stop()
    os.kill(pid, signal.SIGKILL)
    libvirtd.start()
    guest.wait_until_gone()
    check_tree(network, eventually=True)
    assert [port.mac for port in network.ports()] == [survivor.nic.mac]


def lose_file(network: Network) -> None:
    status.network_file(network.name).unlink()


def lose_directory(_network: Network) -> None:
    shutil.rmtree(status.STATUS_DIR)


@pytest.mark.parametrize("lose", [lose_file, lose_directory])
@REVIVALS
def test_lost_status_is_rebuilt(busy: Network, revive: Revive, lose: Callable[[Network], None]) -> None:
    before = ids(busy)
    lose(busy)  # while the daemon runs: it does not need them before its next start
    revive()
    check_tree(busy, eventually=True)
    assert ids(busy) == before


BOMB = (
    '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(8))
    + "]><x>&i;</x>"
)
RUBBISH = {
    "empty": "",
    "no-xml": "hello",
    "other-xml": "<domain/>",
    "cut-off": "<networkfloor><class_id bitmap='0-",
    "bomb": BOMB,
    "nul-bytes": "\0" * 4096,
    "huge": "<x>" + "y" * 20_000_000 + "</x>",
}


@pytest.mark.parametrize("rubbish", RUBBISH)
def test_damaged_status_is_set_aside_reported_and_rebuilt(busy: Network, rubbish: str) -> None:
    before = ids(busy)
    path = status.network_file(busy.name)
    daemon.stop()
    path.write_text(RUBBISH[rubbish])
    log = daemon.log_size()
    daemon.start()
    check_tree(busy, eventually=True)
    assert ids(busy) == before
    assert any(path.stem in name for name in status.set_aside())
    assert str(path) in daemon.log_since(log)


RECORD = "<port [^>]*>"
STRANGER = "<port uuid='00000000-1111-4222-8333-444444444444' mac='52:54:00:99:99:99' class='9' floor='77'/>"
CONTRADICTIONS = {
    "port-forgotten": (RECORD, ""),
    "port-that-is-gone": ("</ports>", STRANGER + "</ports>"),
    "same-port-twice": (f"({RECORD})", r"\1\1"),
    "class-of-another": ("class='3'", "class='4'"),
    "class-of-the-catchment": ("class='3'", "class='2'"),
    "class-0": ("class='3'", "class='0'"),
    "class-beyond-u16": ("class='3'", "class='65539'"),
    "floor-beyond-the-limit": ("floor='500'", "floor='7999'"),
    "floor-no-number": ("floor='500'", "floor='much'"),
    "other-network": ("<name>[^<]*", "<name>other"),
    "other-bridge": ("bridge name='[^']*'", "bridge name='br-other'"),
    "no-bandwidth": ("<inbound [^>]*>", ""),
}


@pytest.mark.parametrize("contradiction", CONTRADICTIONS)
def test_status_that_contradicts_libvirt_is_not_trusted(busy: Network, contradiction: str) -> None:
    before = ids(busy)
    daemon.stop()
    status.edit(busy.name, *CONTRADICTIONS[contradiction])
    daemon.start()
    check_tree(busy, eventually=True)
    assert ids(busy).keys() == before.keys()


def test_status_of_a_network_that_is_gone_is_dropped(busy: Network) -> None:
    path = status.network_file(busy.name)
    daemon.stop()
    path.with_name("long-gone.xml").write_text(path.read_text().replace(busy.name, "long-gone"))
    daemon.start()
    assert not path.with_name("long-gone.xml").exists()
    check_tree(busy, eventually=True)


def test_limits_of_a_transient_network_are_read_back_from_the_kernel(lab: Workbench, libvirtd) -> None:
    network = lab.described_network({"average": 4000, "peak": 8000})
    network.create()
    guest = lab.qemu(network.nic(floor=500))
    before = network.shapes()
    libvirtd.stop()
    lose_file(network)
    libvirtd.start()
    check_tree(network, eventually=True)
    assert network.shapes() == before and guest.nic.class_id() == 3
    assert "would overcommit" in lab.described_qemu(network.nic(floor=7501)).create_fails()


@ALL_WAYS
def test_plugging_goes_on_after_a_restart(busy: Network, lab: Workbench, revive: Revive) -> None:
    revive()
    guest = lab.qemu(busy.nic(floor=200))
    assert guest.nic.class_id() == 6
    check_tree(busy)
    guest.domiftune(guest.nic, "0,0,0,250")
    guest.destroy()
    check_tree(busy)


@REVIVALS
@pytest.mark.parametrize("with_status", [True, False], ids=["status", "no-status"])
def test_ports_without_a_guest_keep_their_floors(
    lab: Workbench, libvirtd, revive: Revive, with_status: bool
) -> None:
    """No domain status names them: without ours, the kernel's classes do."""
    network = lab.network()
    ports = [network.create_port(network.nic(floor=100 + n)) for n in range(20)]
    network.delete_port(ports[7])
    before = {port.uuid: (port.class_id, port.floor) for port in network.ports()}
    if not with_status:
        lose_file(network)
    revive()
    after = {port.uuid: (port.class_id, port.floor) for port in check_tree(network, steering=False)}
    assert after == before


@REVIVALS
def test_live_changes_outlive_a_restart(lab: Workbench, libvirtd, revive: Revive) -> None:
    network = lab.network()
    raised, added, removed = (
        lab.qemu(network.nic(floor=500)),
        lab.qemu(network.nic()),
        lab.qemu(network.nic(floor=300)),
    )
    raised.domiftune(raised.nic, "0,0,0,900")
    added.domiftune(added.nic, "0,0,0,400")
    removed.domiftune(removed.nic, "0,0,0,0")
    lxc = lab.lxc(network.nic(floor=200))
    lxc.nic.tune(floor=250)
    before = {port.mac: (port.class_id, port.floor) for port in network.ports()}
    revive()
    check_tree(network, domain_status=False, eventually=True)
    assert {port.mac: (port.class_id, port.floor) for port in network.ports()} == before
    assert before[removed.nic.mac] == (None, 0) and before[lxc.nic.mac][1] == 250


@pytest.mark.parametrize("kind", ["lxc", "qemu"])
def test_net_destroy_and_net_start_then_restart_gives_floors_and_ids_back(lab: Workbench, libvirtd, kind: str) -> None:
    network = lab.network()
    guests = [getattr(lab, kind)(network.nic(floor=100 * n)) for n in (3, 4, 5)]
    guests[0].destroy()  # so that lowest free first would give other IDs
    before = {guest.nic.mac: (guest.nic.class_id(), guest.nic.port().floor) for guest in guests[1:]}
    network.destroy()
    network.start()
    assert network.ports() == []
    libvirtd.restart()
    wait_until("the ports are back", lambda: len(network.ports()) == 2)
    check_tree(network, eventually=True)
    assert {port.mac: (port.class_id, port.floor) for port in network.ports()} == before


def test_reclaimed_port_keeps_its_class_id(lab: Workbench) -> None:
    network = lab.network()
    port = network.create_port(network.nic(floor=500), class_id=41, reclaim=True)
    assert port.class_id == 41
    last = network.create_port(network.nic(floor=400), class_id=65535, reclaim=True)
    assert last.class_id == 65535
    assert network.create_port(network.nic(floor=300)).class_id == 3
    check_tree(network, steering=False)


def test_reclaimed_class_id_that_is_taken_gives_way(lab: Workbench) -> None:
    network = lab.network()
    network.create_port(network.nic(floor=500))
    port = network.create_port(network.nic(floor=400), class_id=3, reclaim=True)
    assert port.class_id == 4
    check_tree(network, steering=False)


@pytest.mark.parametrize("class_id", [1, 2])
def test_reclaimed_class_id_that_is_reserved_gives_way(lab: Workbench, class_id: int) -> None:
    network = lab.network()
    assert network.create_port(network.nic(floor=500), class_id=class_id, reclaim=True).class_id == 3
    check_tree(network, steering=False)


def test_root_qdisc_removed_under_a_running_daemon(busy: Network, lab: Workbench) -> None:
    """A plug after that either repairs or is refused with the network named; a restart repairs."""
    DAMAGES["tree-removed"](busy)
    guest = lab.described_qemu(busy.nic(floor=200))
    try:
        guest.create()
    except Exception as error:  # noqa: BLE001
        assert busy.name in str(error) or busy.bridge in str(error), error
        assert len(busy.ports()) == 5
    daemon.restart()
    check_tree(busy, eventually=True)
    assert ROOT in busy.classes()


def test_traffic_goes_on_while_the_daemon_is_down(lab: Workbench, libvirtd) -> None:
    network = lab.network()
    guest = lab.lxc(network.nic(floor=500))
    wait_until("it answers", lambda: traffic.answers_ping(guest.nic.ip4))
    before = network.classes()[3].packets
    libvirtd.kill9()
    assert traffic.answers_ping(guest.nic.ip4)
    assert network.classes()[3].packets > before
    libvirtd.start()
    assert network.classes()[3].packets > before
    check_tree(network)
