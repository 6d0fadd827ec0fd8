# SPDX-License-Identifier: LGPL-2.1-or-later
"""What must hold for a network at any time, checked from outside.

None of this is our module's own reckoning: ports come from libvirt's API, the tree from the kernel,
where a packet goes from sending one, and the files are held against all of that.
"""

from __future__ import annotations

from . import kernel, status
from .bandwidth import UNIT, inbound_of, quantum, tree_rates
from .commands import wait_until, wait_until_passes
from .network import Network, Port
from .traffic import send_frames

ROOT, CATCHMENT = 1, 2
OWN_PREFERENCES = (kernel.FLOOR_PREFERENCE, kernel.RESERVED_PREFERENCE)


def check_tree(
    network: Network, *, steering: bool = True, domain_status: bool = True, eventually: bool = False
) -> list[Port]:
    """Asserts all of it, and returns the ports with a floor.

    steering: send packets to see where they go (not during a flood). domain_status: class IDs in the
    domains' status XML are the ports' (libvirt does not write them anew when a live change gives a
    floor to an interface that had none). eventually: poll until it holds.
    """
    if eventually:
        wait_until_passes(lambda: check_static(network, domain_status) and None)
    ports = check_static(network, domain_status)
    if steering:
        check_steering(network, ports)
    return [port for port in ports if port.floor]


def check_static(network: Network, domain_status: bool = True) -> list[Port]:
    """All but the steering, which takes packets."""
    ports = network.ports()
    floored = check_ports(ports)
    inbound = inbound_of(network.dumpxml())
    assert inbound.get("average"), f"net-dumpxml of {network.name} shows no bandwidth: {inbound}"
    check_classes(network, inbound, floored)
    check_filters(network, floored)
    check_status_files(network, inbound, floored)
    if domain_status:
        check_domain_status(floored)
    return ports


def check_ports(ports: list[Port]) -> list[Port]:
    """Each port with a floor has a class ID, its own or that of its MAC; the others have none."""
    floored = [port for port in ports if port.floor]
    for port in ports:
        if port.floor:
            assert port.class_id is not None and 3 <= port.class_id <= 65535, port
        else:
            assert port.class_id is None, port
    pairs = {(port.class_id, port.mac) for port in floored}
    assert len(pairs) == len(class_floors(floored)), f"class IDs and MACs do not go together: {pairs}"
    assert len(pairs) == len({mac for _, mac in pairs}), f"a MAC has two class IDs: {pairs}"
    return floored


def class_floors(floored: list[Port]) -> dict[int, int]:
    """Class ID → floor. Ports with the same MAC share a class, which has the largest of their floors."""
    floors: dict[int, int] = {}
    for port in floored:
        assert port.class_id is not None
        floors[port.class_id] = max(port.floor, floors.get(port.class_id, 0))
    return floors


def check_classes(network: Network, inbound: dict[str, int], floored: list[Port]) -> None:
    """The kernel's classes are the root, the catchment and one a floor, with rates that add up."""
    root_qdisc = kernel.tc_root(network.bridge)
    assert root_qdisc, f"{network.bridge} has no HTB root"
    assert root_qdisc["handle"] == "1:" and root_qdisc["options"]["default"] == "0x2", root_qdisc
    classes = network.classes()
    floors = class_floors(floored)
    assert set(classes) == {ROOT, CATCHMENT, *floors}, f"classes {set(classes)}, floors {floors}"

    rates = tree_rates(inbound, list(floors.values()))
    root, catchment = classes[ROOT], classes[CATCHMENT]
    children = [each for each in classes.values() if each.parent == ROOT]
    assert root.parent == 0 and len(children) == len(classes) - 1, f"not one level: {classes}"
    assert sum(each.rate for each in children) == root.rate, f"rates do not add up: {classes}"
    assert catchment.rate > 0
    assert (root.rate, root.ceil) == (rates["root"], rates["root ceil"]), (root, rates)
    assert (catchment.rate, catchment.ceil) == (rates["catchment"], rates["catchment ceil"]), (catchment, rates)
    for class_id, floor in floors.items():
        each = classes[class_id]
        assert (each.rate, each.ceil) == (floor * UNIT, rates["ceil"]), (each, floor, rates)
    for each in children:
        assert each.quantum == quantum(each.rate), each
    check_leaves(network, set(classes) - {ROOT})


def check_leaves(network: Network, class_ids: set[int]) -> None:
    """Each leaf class has the best leaf qdisc that the kernel knows, or HTB's own pfifo."""
    leaves = kernel.tc_leaves(network.bridge)
    kinds = set(leaves.values()) - {"pfifo"}
    assert set(leaves) <= class_ids, f"a leaf without class: {leaves}"
    if kinds:
        assert len(kinds) == 1 and set(leaves) == class_ids, f"mixed leaves: {leaves}"


def check_filters(network: Network, floored: list[Port]) -> None:
    """One filter a floor, and one for each address that libvirt says a guest took; of every protocol, none
    that leads elsewhere, and QEMU's table left free.
    """
    filters = kernel.tc_filters(network.bridge)
    ours = [each for each in filters if each.preference == kernel.FLOOR_PREFERENCE]
    targets = sorted((each.mac, each.class_id) for each in ours)
    expected = {port.mac: port.class_id for port in floored}
    for each in filters:
        if each.is_for_guest and each.class_id in expected.values():
            expected.setdefault(each.mac, each.class_id)
    assert targets == sorted(expected.items()), f"filters {targets}, ports {floored}"
    assert all(each.protocol == "all" for each in ours), ours
    others = [each for each in filters if each.preference not in OWN_PREFERENCES]
    if floored and not others:  # where they have u32's table 800:, it cannot be reserved any more
        assert kernel.has_reservation(network.bridge), kernel.tc_filters_text(network.bridge)


def check_tables(network: Network) -> None:
    """Each table of our filters is led to. Those not in use any more go a moment later."""
    # Where our preference were not there, no dump would show its tables.
    assert f" pref {kernel.FLOOR_PREFERENCE} u32 " in kernel.tc_filters_text(network.bridge)
    tables, links = kernel.u32_tables(network.bridge)
    assert tables == links, kernel.tc_filters_text(network.bridge)


def check_status_files(network: Network, inbound: dict[str, int], floored: list[Port]) -> None:
    written = status.read(network.name)
    assert written.bridge == network.bridge and written.inbound == inbound, (written, inbound)
    assert written.ports == {
        port.uuid: status.PortStatus(port.uuid, port.mac, port.class_id or 0, port.floor) for port in floored
    }


def check_domain_status(floored: list[Port]) -> None:
    domains = status.domain_class_ids()
    for port in floored:
        if port.uuid in domains:  # a port made by the API alone has no domain
            assert domains[port.uuid] == port.class_id, f"domain status says {domains[port.uuid]}, port {port}"


def check_steering(network: Network, ports: list[Port]) -> None:
    """IPv4, IPv6 and ARP to each port's MAC go into the class of that MAC, or the catchment."""
    class_of = {port.mac: port.class_id for port in ports if port.class_id is not None}
    for mac in {port.mac for port in ports}:
        check_steering_of(network, mac, class_of.get(mac, CATCHMENT))


def check_steering_of(network: Network, mac: str, target: int) -> None:
    before = network.classes()
    sent = send_frames(network.bridge, mac, count=4)

    def arrived() -> bool:
        if network.classes()[target].packets >= before[target].packets + sent:
            return True
        send_frames(network.bridge, mac)  # a bridge whose carrier just came drops the first ones
        return False

    wait_until(f"packets to {mac} go into class 1:{target:x} of {network.bridge}", arrived)
    for class_id, each in network.classes().items():
        if class_id not in (ROOT, CATCHMENT, target):
            stray = each.packets - before[class_id].packets
            assert stray < sent, f"{stray} packets to {mac} went into 1:{class_id:x}, not 1:{target:x}"


def check_no_tree(network: Network) -> None:
    """Nothing of ours is on the bridge."""
    assert not kernel.tc_root(network.bridge), kernel.tc_qdiscs(network.bridge)
    assert not kernel.tc_filters_text(network.bridge)
    assert not status.network_file(network.name).exists()
