# SPDX-License-Identifier: LGPL-2.1-or-later
"""Floors change while guests run."""

import libvirt
import pytest
from lab import CATCHMENT, ROOT, Network, Nic, Workbench, check_tree


def everything(network: Network) -> tuple:
    """All that a refused change must leave as it was."""
    ports = sorted((port.uuid, port.xml) for port in network.ports())
    return ports, network.shapes(), network.dumpxml()


@pytest.mark.parametrize("floor", [900, 100], ids=["raised", "lowered"])
def test_domiftune_changes_a_floor(lab: Workbench, floor: int) -> None:
    network = lab.network()
    guest = lab.qemu(network.nic(floor=500), network.nic(floor=300))
    guest.domiftune(guest.nics[0], f"0,0,0,{floor}")
    assert guest.nics[0].class_id() == 3
    assert guest.nics[0].kernel_class().rate == floor * 1000
    assert f"inbound.floor  : {floor}" in guest.virsh("domiftune", guest.name, guest.nics[0].mac)
    assert f"floor='{floor}'" in guest.virsh("dumpxml", guest.name)
    check_tree(network)


def test_domiftune_adds_a_floor(lab: Workbench) -> None:
    network = lab.network()
    guest = lab.qemu(network.nic())
    guest.domiftune(guest.nic, "0,0,0,600")
    assert guest.nic.kernel_class().rate == 600_000
    check_tree(network, domain_status=False)


def test_domiftune_takes_a_floor_away(lab: Workbench) -> None:
    network = lab.network()
    guest = lab.qemu(network.nic(floor=500), network.nic(floor=300))
    guest.domiftune(guest.nics[0], "0,0,0,0")
    assert guest.nics[0].port().class_id is None
    assert set(network.classes()) == {ROOT, CATCHMENT, 4}
    check_tree(network, domain_status=False)
    guest.domiftune(guest.nics[0], "0,0,0,200")
    assert guest.nics[0].class_id() == 3
    check_tree(network)


def test_domiftune_with_all_four_values(lab: Workbench, libvirtd) -> None:
    libvirtd.restart("--tc-shim")  # libvirt itself runs tc for the limits of the guest's tap
    network = lab.network()
    guest = lab.qemu(network.nic(floor=500))
    guest.domiftune(guest.nic, "1000,2000,64,700")
    assert guest.nic.port().inbound == {"average": 1000, "peak": 2000, "burst": 64, "floor": 700}
    check_tree(network)


def test_update_device_changes_a_floor(lab: Workbench) -> None:
    network = lab.network()
    guest = lab.qemu(network.nic(floor=500))
    guest.nic.inbound = {"floor": 800}
    guest.update(guest.nic)
    assert guest.nic.kernel_class().rate == 800_000
    check_tree(network)


def test_port_parameters_of_an_lxc_guest(lab: Workbench) -> None:
    network = lab.network()
    guest = lab.lxc(network.nic(floor=500))
    for floor in (900, 200):
        guest.nic.tune(floor=floor)
        assert guest.nic.kernel_class().rate == floor * 1000
        assert guest.nic.parameters()["inbound.floor"] == floor
        check_tree(network)


def test_port_parameters_tell_the_truth(lab: Workbench) -> None:
    network = lab.network()
    floored, plain = lab.qemu(network.nic(floor=500)), lab.qemu(network.nic())
    assert floored.nic.parameters()["inbound.floor"] == 500
    assert plain.nic.parameters().get("inbound.floor", 0) == 0
    plain.domiftune(plain.nic, "0,0,0,400")  # the binding cannot set what is not there yet
    assert plain.nic.parameters()["inbound.floor"] == 400
    plain.nic.tune(floor=0)
    assert plain.nic.parameters().get("inbound.floor", 0) == 0
    assert floored.nic.parameters()["inbound.floor"] == 500
    check_tree(network)


def test_a_change_touches_no_other_class(lab: Workbench) -> None:
    network = lab.network()
    changed, other = lab.qemu(network.nic(floor=500)), lab.qemu(network.nic(floor=300))
    before = network.classes()
    changed.domiftune(changed.nic, "0,0,0,900")
    after = network.classes()
    assert after[other.nic.class_id()].shape() == before[other.nic.class_id()].shape()
    assert after[ROOT].shape() == before[ROOT].shape()


def test_refused_domiftune_leaves_the_old_value_everywhere(lab: Workbench) -> None:
    network = lab.network(average=1000, peak=1000)
    guest = lab.qemu(network.nic(floor=500), network.nic(floor=300))
    before = everything(network), guest.status_file.read_text(), guest.nics[0].parameters()
    error = guest.domiftune_fails(guest.nics[0], "0,0,0,701")
    assert "would overcommit" in error and guest.nics[0].mac in error, error
    assert (everything(network), guest.status_file.read_text(), guest.nics[0].parameters()) == before
    check_tree(network)


def test_refused_addition_leaves_the_interface_without_floor(lab: Workbench) -> None:
    network = lab.network(average=1000, peak=1000)
    guest = lab.qemu(network.nic(), network.nic(floor=300))
    before = everything(network)
    assert "would overcommit" in guest.domiftune_fails(guest.nics[0], "0,0,0,701")
    assert everything(network) == before
    assert lab.qemu(network.nic(floor=100)).nic.class_id() == 4  # no ID leaked
    check_tree(network)


def test_refused_update_device_leaves_the_old_value(lab: Workbench) -> None:
    network = lab.network(average=1000, peak=1000)
    guest = lab.qemu(network.nic(floor=500))
    before = everything(network)
    changed = Nic(network, guest.nic.mac, guest.nic.host_number, {"floor": 1001})
    assert "would overcommit" in guest.update_fails(changed)
    assert everything(network) == before
    check_tree(network)


def test_refused_port_parameters_leave_the_old_value(lab: Workbench) -> None:
    network = lab.network(average=1000, peak=1000)
    guest = lab.lxc(network.nic(floor=500))
    before = everything(network)
    with pytest.raises(libvirt.libvirtError) as refused:
        guest.nic.tune(floor=1001)
    assert refused.value.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID
    assert everything(network) == before
    check_tree(network)


def test_change_up_to_the_exact_limit(lab: Workbench) -> None:
    network = lab.network(average=1000, peak=1000)
    guest = lab.qemu(network.nic(floor=500), network.nic(floor=300))
    guest.domiftune(guest.nics[0], "0,0,0,700")
    assert network.classes()[CATCHMENT].rate > 0
    check_tree(network)
