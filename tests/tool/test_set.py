# SPDX-License-Identifier: LGPL-2.1-or-later
"""virt-floor set: the floor of an interface, and nothing else."""

from __future__ import annotations

import pathlib
import subprocess
from xml.etree import ElementTree

import pytest
from lab import QemuGuest, Workbench, check_tree, daemon, virsh
from virt_floor import UNPRIVILEGED, fails, prints


@pytest.fixture
def guest(lab: Workbench) -> QemuGuest:
    return lab.qemu(lab.network(average=4000, peak=8000).nic(floor=500))


def bandwidth(guest: QemuGuest, *options: str) -> dict[str, dict[str, str]]:
    """Of its only interface, by direction."""
    found = ElementTree.fromstring(guest.virsh("dumpxml", guest.name, *options)).find("devices/interface/bandwidth")
    return {} if found is None else {each.tag: dict(each.attrib) for each in found}


def test_a_floor_is_changed(guest: QemuGuest) -> None:
    nic = guest.nic
    output = prints("set", guest.name, nic.mac, "--floor", "800")

    assert output == f"{nic.mac} of domain '{guest.name}' has a floor of 800 kB/s\n"
    assert nic.port().floor == 800
    assert bandwidth(guest) == {"inbound": {"floor": "800"}}
    check_tree(nic.network)


def test_a_floor_is_given_and_taken_away(lab: Workbench) -> None:
    guest = lab.qemu(lab.network().nic())
    prints("set", guest.name, guest.nic.mac, "--floor", "300")
    assert guest.nic.kernel_class().rate == 300_000

    assert prints("set", guest.name, guest.nic.mac, "--floor", "0") == (
        f"{guest.nic.mac} of domain '{guest.name}' has no floor\n"
    )
    assert guest.nic.port().floor == 0
    check_tree(guest.nic.network)


@pytest.fixture
def limiting(lab: Workbench, libvirtd: object) -> None:
    """An average of an interface takes libvirt's own tc, and that a qdisc that a kernel may lack."""
    daemon.restart("--tc-shim")


@pytest.mark.parametrize("floor", [700, 0])
def test_all_else_stays(lab: Workbench, limiting: None, floor: int) -> None:
    network = lab.network(average=8000, peak=None)
    inbound = {"average": 1000, "peak": 2000, "burst": 64}
    outbound = {"average": 500, "peak": 900, "burst": 32}
    guest = lab.qemu(network.nic(outbound=outbound, floor=500, **inbound))

    prints("set", guest.name, guest.nic.mac, "--floor", str(floor))

    told = {direction: {key: int(value) for key, value in each.items()} for direction, each in bandwidth(guest).items()}
    assert told == {"inbound": {**inbound, **({"floor": floor} if floor else {})}, "outbound": outbound}
    check_tree(network)


def test_live_config_and_both(lab: Workbench, limiting: None) -> None:
    guest = lab.described_qemu(lab.network().nic(floor=500, average=900))
    guest.define()
    guest.start()

    def floors() -> list[str]:
        return [bandwidth(guest, *options)["inbound"]["floor"] for options in ([], ["--inactive"])]

    prints("set", guest.name, guest.nic.mac, "--floor", "600", "--live")
    assert floors() == ["600", "500"]
    prints("set", guest.name, guest.nic.mac, "--floor", "700", "--config")
    assert floors() == ["600", "700"]
    prints("set", guest.name, guest.nic.mac, "--floor", "800", "--live", "--config")
    assert floors() == ["800", "800"]
    assert bandwidth(guest, "--inactive")["inbound"]["average"] == "900"

    guest.destroy()
    prints("set", guest.name, guest.nic.mac, "--floor", "900")  # as it starts next time
    assert bandwidth(guest)["inbound"]["floor"] == "900"


def test_a_domain_by_id_and_by_uuid(guest: QemuGuest) -> None:
    for floor, key in ((510, "domid"), (520, "domuuid")):
        prints("set", virsh(key, guest.name).strip(), guest.nic.mac, "--floor", str(floor))
        assert guest.nic.port().floor == floor


def test_a_floor_that_does_not_fit_is_refused_in_the_modules_words(guest: QemuGuest) -> None:
    error = fails(3, "set", guest.name, guest.nic.mac, "--floor", "8001")

    assert f"Cannot set the floor of {guest.nic.mac} of domain '{guest.name}': " in error
    assert "8001" in error and guest.nic.network.name in error
    assert guest.nic.port().floor == 500
    check_tree(guest.nic.network)


def test_a_container_has_no_such_call(lab: Workbench) -> None:
    guest = lab.lxc(lab.network().nic(floor=500))

    error = fails(3, "set", guest.name, guest.nic.mac, "--floor", "600")

    assert "not supported by the connection driver" in error


@pytest.mark.parametrize(
    "floor, sentence",
    [
        ("-1", "--floor needs a whole number, not '-1'"),
        ("many", "--floor needs a whole number, not 'many'"),
        ("1.5", "--floor needs a whole number, not '1.5'"),
        ("4294967296", "--floor takes at most 4294967295 kB/s"),
        ("99999999999999999999", "--floor needs a whole number, not '99999999999999999999'"),
    ],
)
def test_a_floor_that_is_none(guest: QemuGuest, floor: str, sentence: str) -> None:
    assert sentence in fails(2, "set", guest.name, guest.nic.mac, f"--floor={floor}")
    assert guest.nic.port().floor == 500


def test_bad_input(guest: QemuGuest) -> None:
    mac = guest.nic.mac
    assert "There is no domain 'nobody'" in fails(3, "set", "nobody", mac, "--floor", "5")
    assert "52:54:00:00:00:99" in fails(3, "set", guest.name, "52:54:00:00:00:99", "--floor", "5")
    assert "'52:54' is not a MAC address" in fails(2, "set", guest.name, "52:54", "--floor", "5")
    assert "--floor is needed" in fails(2, "set", guest.name, mac)
    assert "Wrong number of arguments" in fails(2, "set", guest.name, "--floor", "5")


def test_without_privilege(guest: QemuGuest) -> None:
    """Where the socket for changes is root's, as on a host."""
    socket = pathlib.Path("/run/libvirt/libvirt-sock")
    socket.chmod(0o700)
    try:
        error = fails(3, "set", guest.name, guest.nic.mac, "--floor", "5", user=UNPRIVILEGED)
    finally:
        socket.chmod(0o777)
    assert "Cannot connect to libvirt: Failed to connect socket" in error and "Permission denied" in error
    assert guest.nic.port().floor == 500


def test_output_that_nobody_takes(guest: QemuGuest) -> None:
    """The floor is set; that it could not be said is an error all the same."""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            ["virt-floor", "set", guest.name, guest.nic.mac, "--floor", "600"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert (done.returncode, done.stderr) == (3, "virt-floor: Cannot write to standard output\n")
    assert guest.nic.port().floor == 600
