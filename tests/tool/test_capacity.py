# SPDX-License-Identifier: LGPL-2.1-or-later
"""virt-floor capacity: what networks can still promise."""

from __future__ import annotations

import pytest
from lab import Workbench
from virt_floor import UNPRIVILEGED, fails, outcome, prints, tells


def test_free_is_the_largest_floor_that_is_admitted(lab: Workbench) -> None:
    network = lab.network(average=4000, peak=5000)
    lab.qemu(network.nic(floor=1500))

    (told,) = tells("capacity", network.name)["networks"]
    assert told == {
        "name": network.name,
        "limit_bytes_per_second": 5_000_000,
        "promised_bytes_per_second": 1_500_000,
        "free_bytes_per_second": 3_500_000,
    }
    free = told["free_bytes_per_second"] // 1000
    guest = lab.qemu()
    assert "would overcommit" in guest.attach_fails(network.nic(floor=free + 1))
    guest.attach(network.nic(floor=free))
    assert prints("capacity", network.name).splitlines()[1].split() == [network.name, "5000", "5000", "0", "100%"]


@pytest.mark.parametrize("floor, status", [(2500, 0), (2501, 1)])
def test_would_fit_answers_by_its_status(lab: Workbench, floor: int, status: int) -> None:
    network = lab.network(average=4000, peak=None)
    lab.qemu(network.nic(floor=1500))

    done = outcome("capacity", network.name, "--would-fit", str(floor))
    assert (done.status, done.error) == (status, "")
    assert "2500 of 4000 kB/s are free" in done.output
    with_json = outcome("capacity", network.name, "--would-fit", str(floor), "--json")
    assert with_json.status == status and f'"fits": {"false" if status else "true"}' in with_json.output


def test_any_network_will_do_where_none_is_named(lab: Workbench) -> None:
    small, large = lab.network(average=100, peak=None), lab.network(average=1000, peak=None)
    done = outcome("capacity", "--would-fit", "500")
    assert done.status == 0
    assert small.name in done.output and large.name in done.output


def test_one_address_counts_once(lab: Workbench) -> None:
    network = lab.network(average=4000, peak=None)
    first = network.nic(floor=500)
    lab.qemu(first)
    lab.qemu(network.nic(mac=first.mac, floor=700))

    (told,) = tells("capacity", network.name)["networks"]
    assert told["promised_bytes_per_second"] == 700_000


def test_networks_without_floors_are_left_out(lab: Workbench) -> None:
    plain, floored = lab.plain_network(), lab.network()
    assert [network["name"] for network in tells("capacity")["networks"]] == [floored.name]
    assert plain.name in fails(3, "capacity", plain.name)


def test_no_daemon_and_no_privilege(lab: Workbench, libvirtd: object) -> None:
    network = lab.network(average=4000, peak=5000)
    lab.qemu(network.nic(floor=1500))
    told = prints("capacity")
    assert prints("capacity", user=UNPRIVILEGED) == told

    libvirtd.stop()

    without = outcome("capacity")
    assert (without.status, without.output) == (0, told)
    assert "status files" in without.error
    assert "Cannot connect" in fails(3, "capacity", user=UNPRIVILEGED)


@pytest.mark.parametrize("floor", ["0", "-1", "many", "1.5", "18014398509481985", "99999999999999999999"])
def test_floor_must_be_one(floor: str) -> None:
    assert "--would-fit" in fails(2, "capacity", "--would-fit", floor)
