# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest moves to another host while it runs: its floor goes here, and appears there."""

from typing import Iterator

import pytest
from lab import Guest, Network, Workbench, check_tree, status, virsh, virsh_fails, wait_until
from lab.second_host import SecondHost, second_host


@pytest.fixture(scope="module")
def there() -> Iterator[SecondHost]:
    with second_host() as host:
        yield host


@pytest.fixture
def network(lab: Workbench, there: SecondHost) -> Iterator[Network]:
    """It runs on both hosts; the other one can promise less."""
    here = lab.network(average=4000, peak=None)
    there.call(create_smaller, here)
    yield here
    there.call(clear)


def create_smaller(network: Network) -> None:
    network.inbound = {"average": 1000}
    network.create()


def clear() -> None:
    bench = Workbench()
    bench.clear()
    bench.assert_clean()


def floors(network: Network) -> list[tuple[str, int, int]]:
    """MAC, class ID and floor of each port, on which libvirt, our file and the kernel agree."""
    return sorted((port.mac, port.class_id, port.floor) for port in check_tree(network))


def refusals(network: Network) -> int:
    return status.read(network.name).refusals


def migration(guest: Guest, there: SecondHost, *options: str) -> list[str]:
    return ["migrate", "--live", *options, guest.name, there.uri, "--migrateuri", there.migration_uri]


def expect_moved(guest: Guest, there: SecondHost) -> None:
    assert not guest.is_running() and there.call(guest.is_running)
    wait_until("it answers there", lambda: there.call(guest.answers))
    assert not guest.answers()


def test_floor_goes_with_the_guest(lab: Workbench, there: SecondHost, network: Network) -> None:
    guest = lab.machine(network.nic(floor=600))
    nic, stays, was_there = guest.nic, network.nic(floor=700), network.nic(floor=300)
    lab.qemu(stays)
    there.call(lab.described_qemu(was_there).create)
    assert floors(network) == [(nic.mac, 3, 600), (stays.mac, 4, 700)]

    virsh(*migration(guest, there))
    expect_moved(guest, there)
    assert floors(network) == [(stays.mac, 4, 700)]
    assert there.call(floors, network) == [(nic.mac, 4, 600), (was_there.mac, 3, 300)]

    there.call(guest.domiftune, nic, "0,0,0,650")
    assert there.call(floors, network) == [(nic.mac, 4, 650), (was_there.mac, 3, 300)]
    there.call(guest.destroy)
    assert there.call(floors, network) == [(was_there.mac, 3, 300)]


def test_guest_stays_where_its_floor_is_if_there_is_no_room_for_it(
    lab: Workbench, there: SecondHost, network: Network
) -> None:
    guest = lab.machine(network.nic(floor=600))
    rival = lab.described_qemu(network.nic(floor=401))
    there.call(rival.create)

    error = virsh_fails(*migration(guest, there))
    assert "would overcommit average=1000" in error and network.name in error, error
    assert guest.is_running() and guest.answers() and not there.call(guest.is_running)
    assert floors(network) == [(guest.nic.mac, 3, 600)]
    assert there.call(floors, network) == [(rival.nic.mac, 3, 401)]
    assert (refusals(network), there.call(refusals, network)) == (0, 1)

    there.call(rival.destroy)
    virsh(*migration(guest, there, "--p2p"))
    expect_moved(guest, there)
    assert floors(network) == []
    assert there.call(floors, network) == [(guest.nic.mac, 3, 600)]
