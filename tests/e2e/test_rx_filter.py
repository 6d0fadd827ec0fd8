# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest that is trusted to change its MAC address, whose filter libvirt's QEMU driver then changes itself:
at the change, at its start, and when the daemon comes back to it.
"""

from lab import Workbench, check_tree, kernel, run, wait_until
from lab.invariants import check_steering_of

NEW_MAC = "52:54:00:aa:bb:cc"


def test_guest_that_changes_its_address_keeps_its_floor(lab: Workbench, libvirtd) -> None:
    network = lab.network()
    nic = network.nic(floor=500)
    nic.trusted = True
    guest = lab.machine(nic)
    check_tree(network)
    class_id, process = nic.class_id(), guest.pid()

    guest.change_mac(NEW_MAC)
    wait_until("libvirt follows", lambda: kernel.guest_filters(network.bridge) == [(NEW_MAC, class_id)])
    run("ip", "neigh", "flush", "dev", network.bridge)
    wait_until("it answers under its new address", guest.answers)

    def restart() -> None:
        libvirtd.restart()

    def crash() -> None:
        libvirtd.kill9()
        libvirtd.start()

    def delete_preference() -> None:
        run("tc", "filter", "del", "dev", network.bridge, "prio", "2")
        wait_until("libvirt's filter is back", lambda: kernel.guest_filters(network.bridge) == [(NEW_MAC, class_id)])

    for event in (lambda: None, restart, crash, libvirtd.reload, delete_preference):
        event()
        wait_until("it runs", guest.is_running)
        assert guest.pid() == process
        check_tree(network, eventually=True)
        check_steering_of(network, NEW_MAC, class_id)
        assert guest.answers()

    guest.change_mac(nic.mac)
    wait_until("our filter is enough", lambda: not kernel.guest_filters(network.bridge))
    check_tree(network, eventually=True)

    guest.change_mac(NEW_MAC)
    wait_until("libvirt follows", lambda: kernel.guest_filters(network.bridge) == [(NEW_MAC, class_id)])
    log = libvirtd.log_size()
    lab.lxc(network.nic(floor=300))
    check_tree(network, eventually=True)
    guest.destroy()
    check_tree(network)
    assert not kernel.guest_filters(network.bridge)
    assert "somebody else" not in libvirtd.log_since(log)
