# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest that changed its MAC address, as its host may trust it to. libvirt's QEMU driver leads the new address to
the guest's class by a filter at preference 2, which its nftables backend deletes with all that is there.
"""

from lab import Workbench, check_tree, kernel, wait_until
from lab.invariants import check_steering_of

from rules import EVENTS, check_checksum_filter, deleted_and_made_again

NEW_MAC = "52:54:00:aa:bb:cc"


def test_guest_keeps_its_floor_through_reloads(lab: Workbench, libvirtd) -> None:
    network = lab.network(forward="nat", services=True)
    nic = network.nic(floor=500)
    nic.trusted = True
    guest = lab.machine(nic)
    class_id, process = nic.class_id(), guest.pid()

    def followed() -> bool:
        return kernel.guest_filters(network.bridge) == [(NEW_MAC, class_id)]

    guest.change_mac(NEW_MAC)
    wait_until("libvirt follows", followed)
    for event in EVENTS.values():
        deleted_and_made_again(network, event)
        wait_until("libvirt's filter for the guest is back", followed)
        check_tree(network, eventually=True)
        check_checksum_filter(network)
        check_steering_of(network, NEW_MAC, class_id)
        assert guest.pid() == process

    guest.change_mac(nic.mac)
    wait_until("our filter is enough", lambda: not kernel.guest_filters(network.bridge))
    check_tree(network, eventually=True)
    deleted_and_made_again(network, EVENTS["SIGHUP"])
    check_tree(network, eventually=True)
    assert not kernel.guest_filters(network.bridge)
