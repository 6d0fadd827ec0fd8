# SPDX-License-Identifier: LGPL-2.1-or-later
"""virt-floor repair: the kernel is put right, by the daemon or without one."""

from __future__ import annotations

import subprocess

import pytest
from lab import LxcGuest, Workbench, check_tree, daemon, kernel, run, status, wait_until
from virt_floor import UNPRIVILEGED, fails, outcome, prints

NOTHING = "The kernel is as it should be: nothing is to be repaired\n"


@pytest.fixture
def guest(lab: Workbench) -> LxcGuest:
    return lab.lxc(lab.network(average=4000, peak=8000).nic(floor=500))


def break_rate(guest: LxcGuest) -> str:
    """Changes the guest's class, and says what a check says of it."""
    network = guest.nic.network
    run(*f"tc class change dev {network.bridge} parent 1:1 classid 1:3 htb rate 400kBps ceil 8000kBps".split())
    return (
        f"network '{network.name}': class 1:3 of {guest.name} ({guest.nic.mac}) has a rate of 400 kB/s; "
        "its floor is 500 kB/s"
    )


def test_where_all_is_right_nothing_is_done(guest: LxcGuest) -> None:
    before = daemon.log_size()
    with kernel.ChangeMonitor(guest.nic.network.bridge) as monitor:
        assert prints("repair") == NOTHING
        assert monitor.count() == 0
    assert "reload" not in daemon.log_since(before).lower()


def test_a_contested_tree_is_put_right_at_once(guest: LxcGuest) -> None:
    """The daemon itself would wait for seconds by then."""
    network = guest.nic.network
    for _ in range(16):
        break_rate(guest)
        wait_until("it is put right", lambda: network.classes()[3].rate == 500_000)
    assert status.read(network.name).state == "contested"
    wrong = break_rate(guest)

    assert prints("repair", "--timeout", "2") == f"put right: {wrong}\n"

    check_tree(network)
    # Left alone, it would say so for some seconds yet.
    wait_until("it is contested no more", lambda: status.read(network.name).state == "kept", seconds=2)


def test_the_daemon_repairs_what_it_slept_through(guest: LxcGuest) -> None:
    """The break and the call come while it is frozen."""
    with daemon.frozen():
        wrong = break_rate(guest)
        repair = subprocess.Popen(["virt-floor", "repair"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            repair.wait(0.3)  # libvirt has to answer first
    output, errors = repair.communicate(timeout=60)

    # Awake, it may look after the tree before it answers.
    assert (repair.returncode, errors) == (0, "")
    assert output in (f"put right: {wrong}\n", NOTHING)
    check_tree(guest.nic.network)


def test_without_a_daemon_it_repairs_itself(guest: LxcGuest, libvirtd: object) -> None:
    daemon.kill9()
    wrong = break_rate(guest)

    assert prints("repair") == f"put right: {wrong}\n"

    assert prints("repair") == NOTHING
    with kernel.ChangeMonitor(guest.nic.network.bridge) as monitor:
        daemon.start()
        assert monitor.count() == 0  # it is as the daemon would have made it
    check_tree(guest.nic.network)


def test_a_tree_that_is_gone_is_made_again(lab: Workbench, libvirtd: object) -> None:
    network, other = lab.network(), lab.network()
    lab.lxc(network.nic(floor=500), network.nic(floor=700))
    lab.qemu(other.nic(floor=100))
    daemon.kill9()
    for each in (network, other):
        run("tc", "qdisc", "del", "dev", each.bridge, "root")

    (line,) = prints("repair", network.name).splitlines()

    assert line.startswith(f"put right: network '{network.name}': bridge {network.bridge} has no tree")
    assert set(network.classes()) == {1, 2, 3, 4}
    assert not other.classes()
    assert outcome("check", network.name).status == 0
    daemon.start()
    for each in (network, other):
        check_tree(each)


def test_a_bridge_that_was_made_again_is_not_touched(guest: LxcGuest, libvirtd: object) -> None:
    daemon.kill9()
    path = status.STATUS_DIR / f"{guest.nic.network.name}.xml"
    text = path.read_text()
    index = text.split("ifindex='")[1].split("'")[0]
    path.write_text(text.replace(f"ifindex='{index}'", f"ifindex='{int(index) + 1000}'"))
    break_rate(guest)

    error = fails(3, "repair")

    assert f"its bridge {guest.nic.network.bridge} has the interface index {index}, not {int(index) + 1000}" in error
    assert "start the daemon to repair it" in error
    assert guest.nic.network.classes()[3].rate == 400_000


def test_a_damaged_status_file_without_a_daemon(guest: LxcGuest, libvirtd: object) -> None:
    daemon.kill9()
    (status.STATUS_DIR / f"{guest.nic.network.name}.xml").write_text("<floornetwork>")

    assert f"Network '{guest.nic.network.name}' cannot be repaired without a daemon: " in fails(3, "repair")


def test_the_stock_driver_cannot_repair(guest: LxcGuest, libvirtd: object) -> None:
    daemon.stop()
    for path in status.STATUS_DIR.glob("*.xml"):
        path.unlink()
    daemon.start("--stock")

    error = fails(3, "repair")
    assert f"cannot be repaired: libvirtd (process {daemon.pid()}) runs without libvirt-floor" in error


def test_a_daemon_that_does_nothing_is_not_waited_for(guest: LxcGuest, libvirtd: object) -> None:
    """A network that only the status files name any more is nothing that a reload puts right."""
    daemon.kill9()
    wrong = break_rate(guest)
    run("sandbox-libvirtd", "start", "--without", "net_admin")
    try:
        done = outcome("repair", "--timeout", "1")
    finally:
        daemon.stop()
    assert (done.status, done.error) == (3, f"virt-floor: still not right: {wrong}\n")


def test_root_without_the_capability(guest: LxcGuest, libvirtd: object) -> None:
    daemon.kill9()
    break_rate(guest)

    done = subprocess.run(
        ["setpriv", "--inh-caps=-net_admin", "--bounding-set=-net_admin", "virt-floor", "repair"],
        capture_output=True,
        text=True,
    )

    assert (done.returncode, done.stdout) == (3, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("virt-floor: Cannot change the kernel's tree, which needs the capability CAP_NET_ADMIN: ")


def test_bad_input(lab: Workbench) -> None:
    assert "which are root's; run it as root" in fails(3, "repair", user=UNPRIVILEGED)
    assert "There is no network 'nowhere' that runs" in fails(3, "repair", "nowhere")
    assert "Wrong number of arguments" in fails(2, "repair", "one", "two")
    assert "--timeout needs a whole number, not 'soon'" in fails(2, "repair", "--timeout", "soon")
    assert "--timeout takes at most 3600 seconds" in fails(2, "repair", "--timeout", "3601")
