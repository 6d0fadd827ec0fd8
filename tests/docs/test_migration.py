# SPDX-License-Identifier: LGPL-2.1-or-later
"""The recipe for migration, with a second sandbox as the other host."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator

import pytest

import page
from lab import CommandFailed, Network, QemuGuest, Workbench, file_of, run, virsh
from lab.second_host import SecondHost, second_host

RECIPE = (page.DOCS / "recipes" / "migration.md").read_text()
FLOOR = 2500  # kB/s, the recipe's
MAC = "52:54:00:80:00:11"


@pytest.fixture(scope="module")
def host2() -> Iterator[SecondHost]:
    with second_host() as host:
        yield host


@pytest.fixture
def other(host2: SecondHost) -> Iterator[SecondHost]:
    """The other host, on which a test leaves nothing."""
    yield host2
    for guest in virsh("list", "--all", "--name", uri=host2.uri).split():
        virsh("destroy", guest, uri=host2.uri)
        if guest in virsh("list", "--all", "--name", uri=host2.uri).split():
            virsh("undefine", guest, uri=host2.uri)
    for network in virsh("net-list", "--all", "--name", uri=host2.uri).split():
        virsh("net-destroy", network, uri=host2.uri)
        virsh("net-undefine", network, uri=host2.uri)


def start_network(host: SecondHost, network: Network) -> None:
    with file_of(network.xml()) as path:
        virsh("net-define", path, uri=host.uri)
    virsh("net-start", network.name, uri=host.uri)


def tenant(lab: Workbench) -> QemuGuest:
    network = Network(lab.described_network().index, {"average": 10000}, name="lab")
    network.define()
    network.start()
    guest = QemuGuest("tenant-17", [network.nic(mac=MAC, floor=FLOOR)])
    guest.define()
    guest.start()
    return guest


def there(command: str, host: SecondHost) -> str:
    """A command of the recipe, for the other host that we have."""
    if command.startswith("ssh host2 "):
        return shlex.join(host.on_it(*shlex.split(command.removeprefix("ssh host2 "))))
    return command.replace(
        "qemu+ssh://host2/system", f"{shlex.quote(host.uri)} --migrateuri {shlex.quote(host.migration_uri)}"
    )


def commands() -> list[str]:
    found = [step.command for step in page.steps(RECIPE)]
    assert sum("host2" in each for each in found) == 3
    return found


def migrate_command() -> str:
    (found,) = (each for each in commands() if each.startswith("virsh migrate "))
    return found


def classes_there(host: SecondHost, network: Network) -> str:
    return host.run("tc", "class", "show", "dev", network.bridge)


def test_floor_appears_there_and_goes_here(lab: Workbench, other: SecondHost) -> None:
    guest = tenant(lab)
    network = guest.nic.network
    # Another guest has the first class ID over there, and there is more in all.
    start_network(other, dataclasses.replace(network, inbound={"average": 20000}))
    bystander = network.nic(mac="52:54:00:80:00:12", floor=1000)
    bystander_xml = dataclasses.replace(guest, name="bystander", nics=[bystander]).xml()
    with file_of(bystander_xml) as path:
        virsh("create", "--paused", path, uri=other.uri)
    assert guest.nic.class_id() == 3
    assert "class htb 1:3 " in run("tc", "class", "show", "dev", network.bridge)

    said = {command: run("bash", "-c", there(command, other)) for command in commands()}

    assert "fits network 'lab'" in said[f"ssh host2 virt-floor capacity lab --would-fit {FLOOR}"]
    assert MAC not in said["virt-floor list --domain tenant-17"]
    assert re.search(rf"{MAC}.* 1:4 +{FLOOR} ", said["ssh host2 virt-floor list --domain tenant-17"])
    assert not network.ports()
    assert sorted(network.classes()) == [1, 2]
    assert re.search(r"class htb 1:4 parent 1:1 .*rate 20Mbit", classes_there(other, network))
    assert "tenant-17" not in guest.virsh("list", "--all", "--name").split()


@pytest.mark.parametrize(
    "inbound, says",
    [
        ({"average": 2000}, "combined inbound floor=2500 would overcommit average=2000"),
        ({}, "network 'lab' has no inbound QoS set"),
    ],
    ids=["no-room", "no-average"],
)
def test_refused_there_it_stays_here(lab: Workbench, other: SecondHost, inbound: dict[str, int], says: str) -> None:
    guest = tenant(lab)
    network = guest.nic.network
    start_network(other, dataclasses.replace(network, inbound=inbound))
    with pytest.raises(CommandFailed, match=re.escape(says)):
        run("bash", "-c", there(migrate_command(), other))
    assert guest.is_running()
    assert guest.nic.port().floor == FLOOR
    assert guest.nic.class_id() in network.classes()
    assert not virsh("list", "--all", "--name", uri=other.uri).split()
    assert "1:3 " not in classes_there(other, network)
    assert not virsh("net-port-list", network.name, uri=other.uri).split()[2:]
