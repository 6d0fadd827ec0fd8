# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt's own filter on a network's bridge, and what makes libvirt delete it and make it again."""

import re
from typing import Callable

from lab import Network, daemon, kernel, virsh, wait_until


def checksum_filters(network: Network) -> list[str]:
    """libvirt's filters for DHCP, in tc's words, without counters and the action's number."""
    found = []
    for each in re.split(r"^(?=filter )", kernel.tc_filters_text(network.bridge), flags=re.MULTILINE):
        if "csum" in each:
            lines = [line.strip() for line in each.splitlines() if not re.match(r"\s*(index|$)", line)]
            found.append(" ".join(re.sub(r"\(rule hit.*?\)|\(success.*?\)", "", " ".join(lines)).split()))
    return found


def check_checksum_filter(network: Network) -> None:
    """One, as libvirt makes it, in the table that it names for the filters of guests (800:)."""
    (found,) = checksum_filters(network)
    assert found == (
        "filter parent 1: protocol ip pref 2 u32 chain 0 fh 800::800 order 2048 key ht 800 bkt 0 terminal flowid "
        "not_in_hw match 00000044/0000ffff at 20 action order 1: csum (iph, udp) action pass"
    )


def crash() -> None:
    daemon.kill9()
    daemon.start()


def update_dhcp(network: Network) -> None:
    """Any change of DHCP's settings makes libvirt load the network's rules anew."""
    host = f"<host mac='52:54:00:99:99:99' ip='10.{network.index}.0.250'/>"
    virsh("net-update", network.name, "add", "ip-dhcp-host", host, "--live")


EVENTS: dict[str, Callable[[Network], None]] = {
    "SIGHUP": lambda _network: daemon.reload(),
    "net-update": update_dhcp,
    "restart": lambda _network: daemon.restart(),
    "kill9": lambda _network: crash(),
}


def deleted_and_made_again(network: Network, event: Callable[[Network], None]) -> None:
    """Does it, and returns when libvirt has made its filter again."""
    with kernel.ChangeMonitor(network.bridge) as monitor:
        event(network)
        wait_until("libvirt deletes its filter", lambda: monitor.count() >= 1)
    wait_until("libvirt makes its filter", lambda: checksum_filters(network))
