# SPDX-License-Identifier: LGPL-2.1-or-later
"""Start and stop of networks with bandwidth: what is on the bridge, and what is on disk."""

import contextlib
import shutil
from pathlib import Path
from typing import Iterator

import libvirt
import pytest
from lab import (
    CATCHMENT,
    ROOT,
    Network,
    Workbench,
    check_no_tree,
    check_tree,
    file_of,
    kernel,
    run,
    virsh,
    virsh_fails,
    wait_until,
)
from lab.bandwidth import inbound_of

AUTOSTART_DIR = Path("/etc/libvirt/qemu/networks/autostart")


def fresh_boot(libvirtd, *networks: Network) -> None:
    """Starts the daemon as after a boot of the host: no bridge, nothing in /run."""
    libvirtd.stop()
    for network in networks:
        if network.bridge in kernel.devices():
            run("ip", "link", "del", network.bridge)
    for folder in ("network", "network-floor"):
        shutil.rmtree(f"/run/libvirt/{folder}", ignore_errors=True)
    libvirtd.start()


@pytest.mark.parametrize("forward", ["nat", "route", "open", None])
def test_start_builds_root_and_catchment_in_every_forward_mode(lab: Workbench, forward: str) -> None:
    network = lab.network(average=4000, peak=8000, forward=forward, services=True)
    check_tree(network)
    assert set(network.classes()) == {ROOT, CATCHMENT}


def test_rates_of_a_network_with_average_and_peak(lab: Workbench) -> None:
    network = lab.network(average=4000, peak=8000)
    root, catchment = network.classes()[ROOT], network.classes()[CATCHMENT]
    assert (root.rate, root.ceil) == (4_000_000, 8_000_000)
    assert (catchment.rate, catchment.ceil) == (4_000_000, 8_000_000)


def test_rates_of_a_network_without_peak(lab: Workbench) -> None:
    network = lab.network(average=4000, peak=None)
    assert network.classes()[ROOT].ceil == 4_000_000
    check_tree(network)


def test_rates_above_34_gbit_per_second(lab: Workbench) -> None:
    network = lab.network(average=10_000_000, peak=12_500_000)
    guest = lab.qemu(network.nic(floor=5_000_000))
    assert guest.nic.kernel_class().rate == 5_000_000_000
    check_tree(network)


def test_transient_network(lab: Workbench) -> None:
    network = lab.described_network({"average": 4000})
    network.create()
    check_tree(network)
    assert network.info("Persistent") == "no"
    network.destroy()
    assert virsh("net-list", "--all", "--name").split() == []
    lab.assert_clean()


def test_destroy_leaves_nothing_and_start_builds_anew(lab: Workbench) -> None:
    network = lab.network()
    network.destroy()
    lab_leftovers = [each for each in lab.leftovers() if network.name not in each]
    assert lab_leftovers == []
    network.start()
    check_tree(network)


def test_definition_of_a_running_network_may_change(lab: Workbench) -> None:
    network = lab.network(average=4000, peak=8000)
    network.inbound = {"average": 6000}
    network.define()
    assert inbound_of(network.dumpxml())["average"] == 4000
    check_tree(network)
    network.destroy()
    network.start()
    assert inbound_of(network.dumpxml()) == {"average": 6000}
    check_tree(network)


def test_bandwidth_added_by_a_new_definition_counts_from_the_next_start(lab: Workbench) -> None:
    network = lab.plain_network()
    network.inbound = {"average": 4000}
    network.define()
    check_no_tree(network)
    network.destroy()
    network.start()
    check_tree(network)


def test_dumpxml_shows_the_bandwidth_of_a_running_network(lab: Workbench) -> None:
    network = lab.network(average=4000, peak=8000, burst=128)
    for xml in (network.dumpxml(), network.dumpxml("--inactive")):
        assert inbound_of(xml) == {"average": 4000, "peak": 8000, "burst": 128}
    with file_of(network.dumpxml()) as path:
        run("virt-xml-validate", path, "network")


def test_persistent_xml_is_byte_for_byte_what_stock_keeps(lab: Workbench, libvirtd) -> None:
    network = lab.defined_network({"average": 4000, "peak": 8000, "burst": 128})
    network.autostart()
    defined = network.persistent_file.read_bytes()
    network.start()
    guest = lab.qemu(network.nic(floor=500))
    assert network.persistent_file.read_bytes() == defined
    guest.destroy()
    network.destroy()
    assert network.persistent_file.read_bytes() == defined
    assert network.info("Autostart") == "yes"

    network.undefine()
    libvirtd.restart("--stock")
    network.define()
    assert network.persistent_file.read_bytes() == defined


def test_without_the_module_stock_goes_on(lab: Workbench, libvirtd) -> None:
    network = lab.network(average=4000, peak=8000)
    libvirtd.restart("--stock", "--tc-shim")
    assert network.is_active() and network.info("Persistent") == "yes"
    network.destroy()
    network.start()
    assert inbound_of(network.dumpxml())["average"] == 4000
    assert network.classes()[CATCHMENT].rate == 4_000_000
    network.destroy()


# Where stock's own start of such a network fails, as it does on a kernel without sfq, it sends SIGTERM
# to process group 0, its own, if the network has no dnsmasq. Hence services=True.


def test_autostart_at_boot(lab: Workbench, libvirtd) -> None:
    network = lab.defined_network({"average": 4000, "peak": 8000}, services=True)
    network.autostart()
    fresh_boot(libvirtd, network)
    assert network.is_active()
    check_tree(network)
    assert network.info("Persistent") == "yes" and network.info("Autostart") == "yes"


def test_boot_starts_only_what_has_autostart(lab: Workbench, libvirtd) -> None:
    network = lab.network()
    fresh_boot(libvirtd, network)
    assert not network.is_active()


def test_restart_does_not_start_a_network_that_was_destroyed_by_hand(lab: Workbench, libvirtd) -> None:
    network = lab.network()
    network.autostart()
    libvirtd.restart()
    network.destroy()
    libvirtd.restart()
    assert not network.is_active()


def test_reload_autostarts_as_stock_does(lab: Workbench, libvirtd) -> None:
    network = lab.defined_network({"average": 4000, "peak": 8000}, services=True)
    network.autostart()
    libvirtd.reload()
    wait_until("the network is active", network.is_active)
    check_tree(network, eventually=True)


@contextlib.contextmanager
def bridge_of_others(network: Network) -> Iterator[None]:
    """There is a bridge of the network's name. Newer stock drivers delete it when their start fails."""
    run("ip", "link", "add", network.bridge, "type", "bridge")
    try:
        yield
    finally:
        if network.bridge in kernel.devices():
            run("ip", "link", "del", network.bridge)


def test_start_that_fails_keeps_the_definition_and_autostart(lab: Workbench) -> None:
    network = lab.defined_network({"average": 4000, "peak": 8000})
    network.autostart()
    before = network.persistent_file.read_bytes()
    with bridge_of_others(network):
        error = virsh_fails("net-start", network.name)
    assert network.bridge in error, error
    assert not network.is_active()
    assert network.info("Persistent") == "yes" and network.info("Autostart") == "yes"
    assert network.persistent_file.read_bytes() == before
    assert (AUTOSTART_DIR / network.persistent_file.name).is_symlink()
    assert not [each for each in lab.leftovers() if each.startswith("status file")]
    network.start()
    check_tree(network)


def test_transient_start_that_fails_leaves_nothing(lab: Workbench) -> None:
    network = lab.described_network({"average": 4000})
    with bridge_of_others(network), file_of(network.xml()) as path:
        virsh_fails("net-create", path)
    lab.assert_clean()


def test_networks_do_not_mix(lab: Workbench) -> None:
    networks = [lab.network(average=4000), lab.network(average=6000)]
    for network in networks:
        lab.qemu(network.nic(floor=500), network.nic(floor=600))
    for network in networks:
        assert set(network.classes()) == {ROOT, CATCHMENT, 3, 4}
        check_tree(network)
    networks[0].destroy()
    check_tree(networks[1])


def test_outbound_limit_of_a_network_stays_as_with_stock(lab: Workbench, libvirtd) -> None:
    libvirtd.restart("--tc-shim")
    network = lab.defined_network({"average": 4000}, outbound={"average": 3000})
    network.start()
    check_tree(network)
    assert "<outbound average='3000'" in network.dumpxml().replace('"', "'")
    assert any(qdisc["kind"] == "ingress" for qdisc in kernel.tc_qdiscs(network.bridge))


@pytest.mark.skipif(libvirt.getVersion() < 9_007_000, reason="networks have metadata from libvirt 9.7 on")
def test_metadata_goes_to_the_stock_driver(lab: Workbench, libvirtd) -> None:
    """By the two entries at the end of the driver's table that older versions lack."""
    network = lab.network()
    lab.lxc(network.nic(floor=500))
    uri, words = "http://tenants.example/ns", "two words"
    virsh("net-metadata", network.name, uri, "--key", "t", "--set", "<tenant id='7'/>", "--live", "--config")
    virsh("net-desc", network.name, "--live", "--title", words)
    for _ in range(2):
        assert 'id="7"' in virsh("net-metadata", network.name, uri).replace("'", '"')
        assert words in virsh("net-desc", network.name, "--title")
        check_tree(network)
        libvirtd.restart()
    virsh("net-metadata", network.name, uri, "--remove", "--live", "--config")
    assert "tenant" not in virsh("net-metadata", network.name, uri)
