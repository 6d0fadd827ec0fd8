# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bad input and trouble: a clear error in virsh, nothing changed, nothing leaked."""

import contextlib
from typing import Iterator

import libvirt
import pytest
from lab import (
    CATCHMENT,
    CommandFailed,
    Network,
    Workbench,
    check_tree,
    file_of,
    kernel,
    run,
    status,
    traffic,
    virsh,
    wait_until,
)


def everything(network: Network) -> tuple:
    """All that a refusal must leave as it was."""
    paths = [status.STATUS_DIR / name for name in status.files() if name.endswith(".xml")]
    files = {path: status.without_counts(path.read_bytes()) for path in paths}
    return network.shapes(), kernel.tc_filters(network.bridge), files, [port.xml for port in network.ports()]


@contextlib.contextmanager
def nothing_changes(network: Network, refusals: int = 0) -> Iterator[None]:
    """But that so many floors are counted as refused for want of room."""
    before, refused = everything(network), status.read(network.name).refusals
    yield
    assert everything(network) == before
    assert status.read(network.name).refusals == refused + refusals


def port_error(network: Network, xml: str) -> libvirt.libvirtError:
    """The error of virNetworkPortCreateXML, which must fail."""
    conn = libvirt.open("qemu:///system")
    try:
        with pytest.raises(libvirt.libvirtError) as refused:
            conn.networkLookupByName(network.name).portCreateXML(xml, 0)
        return refused.value
    finally:
        conn.close()


# --- floors against the limit ---


@pytest.mark.parametrize("kind", ["lxc", "qemu"])
def test_overcommit_is_refused_with_all_the_numbers(lab: Workbench, kind: str) -> None:
    network = lab.network(average=1000, peak=2000)
    lab.qemu(network.nic(floor=1500))
    guest = getattr(lab, f"described_{kind}")(network.nic(floor=501))
    with nothing_changes(network, refusals=1):
        error = guest.create_fails()
    for part in ("would overcommit", network.name, guest.nic.mac, "2001", "2000", "Requested operation is not valid"):
        assert part in error, error
    assert not guest.is_running()
    assert getattr(lab, kind)(network.nic(floor=500)).nic.class_id() == 4  # no ID leaked
    check_tree(network)


def test_overcommit_is_an_invalid_operation(lab: Workbench) -> None:
    network = lab.network(average=1000, peak=None)
    error = port_error(network, network.port_xml(network.nic(floor=1001)))
    assert error.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID
    check_tree(network)


def test_overcommit_by_hotplug_leaves_the_guest_alone(lab: Workbench) -> None:
    network = lab.network(average=1000, peak=1000)
    guest = lab.qemu(network.nic(floor=700))
    with nothing_changes(network, refusals=1):
        assert "would overcommit" in guest.attach_fails(network.nic(floor=301))
    assert guest.is_running()
    check_tree(network)


def test_guest_whose_second_interface_is_refused_gives_back_the_first(lab: Workbench) -> None:
    network = lab.network(average=1000, peak=1000)
    with nothing_changes(network, refusals=1):
        lab.described_qemu(network.nic(floor=700), network.nic(floor=301)).create_fails()
    check_tree(network)


def test_floors_at_exactly_the_limit_leave_the_catchment_a_small_rate(lab: Workbench) -> None:
    network = lab.network(average=1000, peak=None)
    lab.qemu(network.nic(floor=600))
    lab.qemu(network.nic(floor=400))
    assert network.classes()[CATCHMENT].rate == 5000  # 1/200 of the average
    check_tree(network)
    unfloored = lab.lxc(network.nic())
    wait_until("the unfloored guest answers", lambda: traffic.answers_ping(unfloored.nic.ip4))


def test_peak_below_average_is_taken_as_stock_takes_it(lab: Workbench) -> None:
    network = lab.defined_network({"average": 4000, "peak": 1000})
    network.start()
    lab.qemu(network.nic(floor=900))
    error = lab.described_qemu(network.nic(floor=101)).create_fails()
    assert "would overcommit" in error and "1000" in error
    check_tree(network)


def test_floor_above_average_but_not_above_peak(lab: Workbench) -> None:
    network = lab.network(average=1000, peak=5000)
    lab.qemu(network.nic(floor=3000))
    lab.qemu(network.nic(floor=2000))
    check_tree(network)


# --- floors where there can be none ---


def test_floor_on_a_network_without_inbound_bandwidth(lab: Workbench) -> None:
    network = lab.plain_network()
    guest = lab.described_qemu(network.nic(floor=500))
    error = guest.create_fails()
    assert "no inbound QoS set" in error and network.name in error, error
    assert network.ports() == []
    refused = port_error(network, network.port_xml(network.nic(floor=500)))
    assert refused.get_error_code() == libvirt.VIR_ERR_OPERATION_UNSUPPORTED
    assert kernel.tc_root(network.bridge) is None


def test_floor_added_live_on_a_network_without_inbound_bandwidth(lab: Workbench) -> None:
    network = lab.plain_network()
    guest = lab.qemu(network.nic())
    assert "no inbound QoS set" in guest.domiftune_fails(guest.nic, "0,0,0,500")
    assert guest.nic.port().floor == 0


def test_floor_on_an_unsupported_forward_mode(lab: Workbench) -> None:
    run("ip", "link", "add", "uplink0", "type", "bridge")
    try:
        network = lab.described_network()
        xml = f"<network><name>{network.name}</name><forward mode='bridge'/><bridge name='uplink0'/></network>"
        with file_of(xml) as path:
            virsh("net-create", path)
        error = lab.described_qemu(network.nic(floor=500)).create_fails()
        assert "only supported for" in error, error
        refused = port_error(network, network.port_xml(network.nic(floor=500)))
        assert refused.get_error_code() == libvirt.VIR_ERR_OPERATION_UNSUPPORTED
        assert network.ports() == []
        virsh("net-destroy", network.name)
    finally:
        run("ip", "link", "del", "uplink0")


# --- values ---


BAD_FLOORS = ["-1", "-500", "abc", "", "1.5", "0x", "18446744073709551616", "99999999999999999999999", "1e3"]


@pytest.mark.parametrize("floor", BAD_FLOORS)
def test_floor_that_is_no_number_is_refused(lab: Workbench, floor: str) -> None:
    network = lab.network()
    with nothing_changes(network):
        lab.described_qemu(network.nic(floor=floor)).create_fails()
        port_error(network, network.port_xml(network.nic(floor=floor)))
    check_tree(network)


@pytest.mark.parametrize("floor", [2**54, 2**54 + 1, 2**63, 2**64 - 1])
def test_floor_beyond_all_limits_is_refused(lab: Workbench, floor: int) -> None:
    network = lab.network()
    lab.qemu(network.nic(floor=1))
    with nothing_changes(network, refusals=2 if floor == 2**54 else 0):  # the others are no numbers of ours
        lab.described_qemu(network.nic(floor=floor)).create_fails()
        port_error(network, network.port_xml(network.nic(floor=floor)))
    check_tree(network)


def test_floor_0_is_no_floor(lab: Workbench) -> None:
    network = lab.network()
    guest = lab.qemu(network.nic(floor=0, average=0))
    assert guest.nic.port().class_id is None
    check_tree(network)


@pytest.mark.parametrize(
    "values",
    [{"average": "0"}, {"average": "-1"}, {"average": "x"}, {"peak": "5"}, {"average": str(2**64)}],
    ids=lambda values: "-".join(f"{key}={value}" for key, value in values.items()),
)
def test_network_with_bad_bandwidth_is_never_half_there(lab: Workbench, values: dict) -> None:
    """As libvirt takes or refuses it; what is taken must start or say why not, and go again."""
    network = lab.described_network(values)
    try:
        network.define()
        network.start()
    except CommandFailed as error:
        assert str(error)
    lab.clear()
    lab.assert_clean()


@pytest.mark.parametrize("average", [2**54 // 1000, 2**61])
def test_network_with_huge_bandwidth_starts_or_says_why_not(lab: Workbench, average: int) -> None:
    network = lab.described_network({"average": average})
    defined = False
    try:
        network.define()  # newer stock drivers refuse some of them here already
        defined = True
        network.start()
        check_tree(network)
    except CommandFailed as error:
        assert network.name in str(error) or "average" in str(error) or "bandwidth" in str(error).lower(), error
        assert not defined or network.info("Persistent") == "yes"


def test_unknown_attributes_and_elements_are_passed_over(lab: Workbench) -> None:
    network = lab.network()
    nic = network.nic()
    nic.raw_bandwidth = "<bandwidth colour='red'><inbound floor='500' smell='none'/><sideways floor='7'/></bandwidth>"
    guest = lab.qemu(nic)
    assert guest.nic.port().floor == 500
    check_tree(network)


@pytest.mark.parametrize(
    "xml",
    [
        "",
        "<networkport",
        "<networkport/>",
        "<domain/>",
        "<networkport>" + "<x>" * 10000,
        "<networkport>" + "y" * 3_000_000 + "</networkport>",
        "<!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/hostname'>]><networkport><mac address='&a;'/></networkport>",
    ],
    ids=["empty", "cut-off", "bare", "other", "deep", "huge", "entity"],
)
def test_port_xml_that_is_rubbish_is_refused(lab: Workbench, xml: str) -> None:
    network = lab.network()
    with nothing_changes(network):
        port_error(network, xml)
    check_tree(network)


# --- the same MAC twice: both share one class, with the larger floor ---


def test_second_floor_for_a_mac_shares_the_first_ones_class(lab: Workbench) -> None:
    network = lab.network()
    first = lab.qemu(network.nic(floor=500))
    alone = network.shapes()
    second = lab.qemu(network.nic(mac=first.nic.mac, floor=300))
    assert network.shapes() == alone  # the smaller of the two adds nothing
    assert {port.class_id for port in check_tree(network)} == {3}
    first.destroy()
    assert second.nic.kernel_class().rate == 300_000
    check_tree(network)
    second.destroy()
    check_tree(network)
    assert lab.qemu(network.nic(floor=100)).nic.class_id() == 3


def test_larger_second_floor_for_a_mac_raises_the_class(lab: Workbench) -> None:
    network = lab.network(average=1000, peak=1000)
    nic = network.nic(floor=500)
    network.create_port(nic)
    more = network.create_port(network.nic(mac=nic.mac, floor=700))
    assert network.classes()[3].rate == 700_000
    with nothing_changes(network, refusals=1):
        error = port_error(network, network.port_xml(network.nic(mac=nic.mac, floor=1001)))
    assert "would overcommit" in str(error), error
    network.delete_port(more)
    assert network.classes()[3].rate == 500_000
    check_tree(network, steering=False)


def test_same_mac_without_floor_takes_no_class(lab: Workbench) -> None:
    network = lab.network()
    first = network.nic(floor=500)
    network.create_port(first)
    network.create_port(network.nic(mac=first.mac))
    assert sorted(port.floor for port in network.ports()) == [0, 500]


def test_same_mac_on_another_network_is_another_matter(lab: Workbench) -> None:
    networks = [lab.network(), lab.network()]
    for network in networks:
        lab.qemu(network.nic(mac="52:54:00:12:34:56", floor=500))
    for network in networks:
        check_tree(network)


# --- the kernel says no ---


def test_bridge_gone_is_said_in_the_kernels_words(lab: Workbench) -> None:
    network = lab.network()
    run("ip", "link", "del", network.bridge)
    error = port_error(network, network.port_xml(network.nic(floor=500)))
    assert "No such device" in str(error), error
    assert network.bridge in str(error), error
    assert network.ports() == [] and status.read(network.name).ports == {}


def test_without_net_admin_the_kernels_words_and_nothing_leaked(lab: Workbench, libvirtd) -> None:
    network = lab.network()
    network.create_port(network.nic(floor=300))
    libvirtd.restart("--without", "net_admin")
    with nothing_changes(network):
        error = port_error(network, network.port_xml(network.nic(floor=500)))
    assert "Operation not permitted" in str(error), error
    libvirtd.restart()
    assert network.create_port(network.nic(floor=500)).class_id == 4
    check_tree(network, steering=False)
