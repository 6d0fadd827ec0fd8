# SPDX-License-Identifier: LGPL-2.1-or-later
"""Floors hold under load. Rates are measured where the packets leave the bridge for the guests."""

from lab import CATCHMENT, Network, Workbench, check_tree, traffic, wait_until

SECONDS = 2.0
ENOUGH = 0.95
TOO_MUCH = 1.05


def class_rates(network: Network, seconds: float = SECONDS) -> dict[int, float]:
    """Bytes per second out of each class."""
    return traffic.rates(lambda: {class_id: each.bytes for class_id, each in network.classes().items()}, seconds)


def backlogged(network: Network, classes: set[int]) -> None:
    """Waits until each of the classes has sent for a while: the tree is in its steady state."""
    start = network.classes()
    wait_until(
        f"classes {classes} send",
        lambda: all(network.classes()[each].packets > start[each].packets + 50 for each in classes),
    )


def test_floors_hold_under_a_flood_and_the_surplus_follows_them(lab: Workbench) -> None:
    network = lab.network(average=4000, peak=4000)
    floors = {3: 600, 4: 1200, 5: 1800}
    guests = [lab.lxc(network.nic(floor=floor)) for floor in floors.values()]
    with traffic.Flood([guest.nic.ip4 for guest in guests], 4_000_000):
        backlogged(network, set(floors))
        rates = class_rates(network)
    for class_id, floor in floors.items():
        assert rates[class_id] >= ENOUGH * floor * 1000, rates
    total = sum(rates[class_id] for class_id in floors)
    assert total >= ENOUGH * 4_000_000, rates
    surplus = [rates[class_id] / (floor * 1000) - 1 for class_id, floor in floors.items()]
    assert max(surplus) - min(surplus) < 0.05, f"shares of the surplus: {surplus}"
    check_tree(network)


def test_floor_holds_against_unfloored_guests(lab: Workbench) -> None:
    network = lab.network(average=2000, peak=2000)
    guest = lab.lxc(network.nic(floor=1800))
    others = [lab.lxc(network.nic()) for _ in range(2)]
    with traffic.Flood([each.nic.ip4 for each in (guest, *others)], 3_000_000):
        backlogged(network, {3, CATCHMENT})
        rates = class_rates(network)
    assert rates[3] >= ENOUGH * 1_800_000, rates
    assert rates[CATCHMENT] >= ENOUGH * 200_000, rates
    assert rates[3] + rates[CATCHMENT] <= TOO_MUCH * 2_000_000, rates


def test_floor_holds_for_ipv6_as_for_ipv4(lab: Workbench) -> None:
    network = lab.network(average=2000, peak=2000)
    by_ipv6, other = lab.lxc(network.nic(floor=1500)), lab.lxc(network.nic())
    wait_until("it answers ping6", lambda: traffic.answers_ping(by_ipv6.nic.ip6))
    with traffic.Flood([by_ipv6.nic.ip6, other.nic.ip4], 4_000_000):
        backlogged(network, {3, CATCHMENT})
        rates = class_rates(network)
    assert rates[3] >= ENOUGH * 1_500_000, rates


def test_what_no_floor_uses_goes_to_the_others(lab: Workbench) -> None:
    network = lab.network(average=2000, peak=2000)
    lab.lxc(network.nic(floor=1500))  # idle
    other = lab.lxc(network.nic())
    with traffic.Flood([other.nic.ip4], 4_000_000):
        backlogged(network, {CATCHMENT})
        rates = class_rates(network)
    assert rates[CATCHMENT] >= ENOUGH * 2_000_000, rates


def test_total_stays_at_average_while_the_floors_leave_room(lab: Workbench) -> None:
    network = lab.network(average=2000, peak=4000)
    guests = [lab.lxc(network.nic(floor=floor)) for floor in (500, 700)] + [lab.lxc(network.nic())]
    with traffic.Flood([guest.nic.ip4 for guest in guests], 3_000_000):
        backlogged(network, {3, 4, CATCHMENT})
        rates = class_rates(network)
    assert rates[3] >= ENOUGH * 500_000 and rates[4] >= ENOUGH * 700_000, rates
    assert rates[3] + rates[4] + rates[CATCHMENT] <= TOO_MUCH * 2_000_000, rates


def test_floors_above_average_raise_the_total_just_enough(lab: Workbench) -> None:
    network = lab.network(average=1000, peak=3000)
    guests = [lab.lxc(network.nic(floor=floor)) for floor in (1000, 1500)] + [lab.lxc(network.nic())]
    with traffic.Flood([guest.nic.ip4 for guest in guests], 3_000_000):
        backlogged(network, {3, 4})
        rates = class_rates(network)
    assert rates[3] >= ENOUGH * 1_000_000 and rates[4] >= ENOUGH * 1_500_000, rates
    assert rates[3] + rates[4] + rates[CATCHMENT] <= TOO_MUCH * 2_505_000, rates


def test_floors_hold_through_a_crash_of_the_daemon_and_a_live_change(lab: Workbench, libvirtd) -> None:
    network = lab.network(average=3000, peak=3000)
    first, second = lab.lxc(network.nic(floor=1000)), lab.lxc(network.nic(floor=1000))
    with traffic.Flood([first.nic.ip4, second.nic.ip4], 3_000_000):
        backlogged(network, {3, 4})
        libvirtd.kill9()
        down = class_rates(network, 0.5)
        libvirtd.start()
        first.nic.tune(floor=2000)
        after = class_rates(network)
    assert down[3] >= ENOUGH * 1_000_000 and down[4] >= ENOUGH * 1_000_000, down
    assert after[3] >= ENOUGH * 2_000_000 and after[4] >= ENOUGH * 1_000_000, after
    check_tree(network)


def test_floors_hold_while_other_guests_come_and_go(lab: Workbench) -> None:
    network = lab.network(average=2000, peak=2000)
    guest, other = lab.lxc(network.nic(floor=1000)), lab.lxc(network.nic())

    def come_and_go() -> dict[str, int]:
        for _ in range(20):
            network.delete_port(network.create_port(network.nic(floor=500)))
        return {"bytes": network.classes()[3].bytes}

    with traffic.Flood([guest.nic.ip4, other.nic.ip4], 4_000_000):
        backlogged(network, {3, CATCHMENT})
        rates = traffic.rates(come_and_go, 1.0)
    assert rates["bytes"] >= ENOUGH * 1_000_000, rates
    check_tree(network)


def test_quanta_from_the_smallest_floor_to_the_largest(lab: Workbench) -> None:
    network = lab.network(average=100_000, peak=1_000_000)
    for floor in (1, 10, 1000, 100_000, 500_000):
        network.create_port(network.nic(floor=floor))
    check_tree(network, steering=False)
