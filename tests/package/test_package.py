# SPDX-License-Identifier: LGPL-2.1-or-later
"""The package is installed, updated, switched off, broken and removed while guests run.

The tests stand in the order of a host's life, and each goes on where the one before it ended.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from typing import Iterator

import pytest
from lab import CommandFailed, Guest, Network, Workbench, check_tree, kernel, run, traffic, virsh, wait_until

PACKAGES = pathlib.Path(os.environ["PACKAGES"])
SOURCE = pathlib.Path(__file__).parents[2]
DRIVERS = pathlib.Path("/run/libvirt-floor/libvirtd/drivers")
MODULE = "libvirt_driver_network.so"


class Host:
    """Guests and networks that go through all of it."""

    network: Network  # with a floor, from the first start with our module on

    def __init__(self) -> None:
        self.lab = Workbench()
        # With DHCP: Debian leaves the folder that libvirt wants for guests to be made by that.
        self.plain = self.lab.plain_network(services=True)
        self.guests: list[Guest] = [self.lab.lxc(self.plain.nic())]

    def check_guests(self) -> None:
        for guest in self.guests:
            wait_until(f"{guest.name} answers", lambda: guest.is_running() and traffic.answers_ping(guest.nic.ip4))


def dpkg(*arguments: object) -> None:
    run("dpkg", "--force-unsafe-io", *map(str, arguments))


def package() -> pathlib.Path:
    (found,) = PACKAGES.glob("libvirt-floor_*.deb")
    return found


def daemon_property(name: str) -> str:
    return run("systemctl", "show", f"--property={name}", "--value", "libvirtd").strip()


def daemon_pid() -> int:
    return int(daemon_property("MainPID"))


def daemon_environment() -> dict[str, str]:
    entries = pathlib.Path(f"/proc/{daemon_pid()}/environ").read_bytes().decode().split("\0")
    return dict(entry.split("=", 1) for entry in entries if entry)


def loaded_modules() -> set[str]:
    """The network driver modules that the daemon has mapped."""
    maps = pathlib.Path(f"/proc/{daemon_pid()}/maps").read_text()
    return set(re.findall(rf"(/\S+/{MODULE})", maps))


def package_files() -> list[str]:
    listed = run("dpkg-query", "--listfiles", "libvirt-floor").splitlines()
    return [path for path in listed if os.path.lexists(path) and not os.path.isdir(path)]


def installed_module() -> str:
    (found,) = (path for path in package_files() if path.endswith(MODULE))
    return found


def stock_modules() -> set[str]:
    return {path.name for path in pathlib.Path("/usr/lib").glob("*/libvirt/connection-driver/*.so")}


def restart() -> None:
    run("systemctl", "reset-failed", "libvirtd")  # it counts how often that is done in ten seconds
    run("systemctl", "restart", "libvirtd")
    virsh("uri")


def log_since_start() -> str:
    """What the daemon, and what ran before it, wrote since its last start."""
    return run("journalctl", "--no-pager", "--output=cat", f"_SYSTEMD_INVOCATION_ID={daemon_property('InvocationID')}")


def is_stock() -> bool:
    (module,) = loaded_modules()
    return "libvirt-floor" not in module and "LIBVIRT_DRIVER_DIR" not in daemon_environment()


def is_ours() -> bool:
    return installed_module() in loaded_modules()


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    pathlib.Path("/var/lib/man-db/auto-update").unlink(missing_ok=True)  # an index of all manual pages at each dpkg
    packages = sorted((PACKAGES / "host").glob("*.deb"))
    if packages:
        dpkg("--install", *packages)
    # Stock libvirt makes its trees with a tc that does without what the kernel may lack.
    pathlib.Path("/usr/local/sbin/tc").symlink_to(SOURCE / "tests/sandbox/tc-shim/tc")
    # libvirt's LXC driver asks machined for a process that may have ended; without machined it needs none of it.
    pathlib.Path("/usr/share/dbus-1/system-services/org.freedesktop.machine1.service").unlink()
    run("systemctl", "mask", "--now", "systemd-machined")
    run("systemctl", "reload", "dbus")
    run("systemctl", "restart", "libvirtd")
    assert is_stock()
    made = Host()
    yield made
    restart()
    made.lab.clear()


def test_installing_leaves_the_daemon_and_its_guests_alone(host: Host) -> None:
    pid = daemon_pid()
    dpkg("--install", package())
    assert daemon_pid() == pid and is_stock()
    assert daemon_property("NeedDaemonReload") == "no"
    host.check_guests()


def test_restart_loads_the_module_which_keeps_a_floor(host: Host) -> None:
    restart()
    assert is_ours(), log_since_start()
    assert daemon_environment()["LIBVIRT_DRIVER_DIR"] == str(DRIVERS)
    assert {path.name for path in DRIVERS.iterdir()} == stock_modules()
    host.network = host.lab.network(average=4000, peak=8000)
    host.guests.append(host.lab.lxc(host.network.nic(floor=500)))
    assert [port.floor for port in check_tree(host.network)] == [500]
    host.check_guests()


def test_tool_sees_the_floor(host: Host) -> None:
    shown = run("virt-floor", "list", "--network", host.network.name)
    assert host.guests[1].nic.mac in shown and "500" in shown


def test_driver_that_is_installed_later_is_found_at_the_next_start(host: Host) -> None:
    (later,) = (PACKAGES / "later").glob("*.deb")
    before = stock_modules()
    dpkg("--install", later)
    (new,) = stock_modules() - before
    restart()
    assert (DRIVERS / new).exists() and is_ours()
    dpkg("--purge", run("dpkg-deb", "--field", str(later), "Package").strip())
    restart()
    assert {path.name for path in DRIVERS.iterdir()} == before == stock_modules()
    assert is_ours()
    host.check_guests()


@pytest.mark.parametrize("damage", ["cut off", "wants what is not there", "gone"])
def test_module_that_cannot_be_loaded_leaves_the_stock_drivers(host: Host, damage: str) -> None:
    module = pathlib.Path(installed_module())
    kept = module.rename(module.with_suffix(".kept"))
    whole = kept.read_bytes()
    if damage == "cut off":
        module.write_bytes(whole[:5000])
    elif damage == "wants what is not there":
        module.write_bytes(whole.replace(b"\0nl_connect\0", b"\0nl_connecd\0"))
        assert module.read_bytes() != whole
    try:
        restart()
        assert is_stock() and str(module) in log_since_start()
        host.check_guests()
    finally:
        kept.rename(module)
    restart()
    assert is_ours()
    check_tree(host.network)


def test_folder_that_cannot_be_made_leaves_the_stock_drivers(host: Host) -> None:
    folder = DRIVERS.parents[1]
    kept = folder.rename(folder.with_suffix(".kept"))
    folder.write_text("")
    try:
        restart()
        assert is_stock()
        host.check_guests()
    finally:
        folder.unlink()
        kept.rename(folder)
    restart()
    assert is_ours()


def test_masked_drop_in_switches_it_off_and_on(host: Host) -> None:
    mask = pathlib.Path("/etc/systemd/system/libvirtd.service.d/libvirt-floor.conf")
    mask.parent.mkdir(parents=True, exist_ok=True)
    mask.symlink_to("/dev/null")
    run("systemctl", "daemon-reload")
    restart()
    assert is_stock()
    host.check_guests()
    mask.unlink()
    run("systemctl", "daemon-reload")
    restart()
    assert is_ours()
    check_tree(host.network)


def test_update_leaves_the_daemon_alone(host: Host) -> None:
    pid = daemon_pid()
    dpkg("--install", package())
    assert daemon_pid() == pid
    restart()
    assert is_ours()
    host.check_guests()


def test_units_are_as_systemd_wants_them(host: Host) -> None:
    for unit in ("libvirtd.service", "virt-floor-exporter.service"):
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
        said = [line for line in done.stderr.splitlines() if "floor" in line]
        assert done.returncode == 0 and not said, done.stderr
    drop_ins = [pathlib.Path(path) for path in package_files() if path.endswith(".service.d/libvirt-floor.conf")]
    assert sorted(path.parent.name for path in drop_ins) == ["libvirtd.service.d", "virtnetworkd.service.d"]
    assert len({path.read_text() for path in drop_ins}) == 1


def test_exporter_is_off_until_it_is_asked_for(host: Host) -> None:
    show = run("systemctl", "show", "--property=UnitFileState,ActiveState", "virt-floor-exporter")
    assert sorted(show.split()) == ["ActiveState=inactive", "UnitFileState=disabled"]


def metrics() -> str:
    try:
        with urllib.request.urlopen("http://127.0.0.1:19753/metrics", timeout=10) as answer:
            return answer.read().decode()
    except urllib.error.URLError:
        return ""


def test_exporter_serves_what_the_host_has_from_its_narrow_room(host: Host) -> None:
    run("systemctl", "start", "virt-floor-exporter")
    served = wait_until("it serves metrics", metrics)
    assert f'network="{host.network.name}"' in served and host.guests[1].nic.mac in served
    assert "virt_floor_network_refusals_total{" in served  # from the status files, which are root's
    dpkg("--install", package())
    assert wait_until("an update restarts it", metrics)
    run("systemctl", "stop", "virt-floor-exporter")


def complete(line: str) -> set[str]:
    """What bash offers for the last word of a line."""
    script = """
        . /usr/share/bash-completion/bash_completion
        _completion_loader virt-floor
        COMP_LINE=$1 COMP_POINT=${#1}
        read -ra COMP_WORDS <<<"$1"
        [[ $1 != *' ' ]] || COMP_WORDS+=('')
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _virt_floor
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    return {word.strip() for word in run("bash", "-c", script, "bash", line).splitlines() if word}


def tool_commands() -> set[str]:
    return set(re.findall(r"^  ([a-z]+)  ", run("virt-floor", "--help").partition("Commands:")[2], re.MULTILINE))


def test_bash_completes_commands_options_networks_and_domains(host: Host) -> None:
    assert complete("virt-floor ") == {*tool_commands(), "--help", "--version"}
    assert complete("virt-floor li") == {"list"}
    assert {"--network", "--domain", "--json"} <= complete("virt-floor list --")
    assert complete("virt-floor list --network ") == {host.network.name, host.plain.name}
    assert complete("virt-floor list --domain ") == {guest.name for guest in host.guests}
    assert complete("virt-floor capacity ") == {host.network.name, host.plain.name}
    assert complete(f"virt-floor set {host.guests[1].name} ") == {host.guests[1].nic.mac}


def test_manual_page_describes_all_commands_and_options(host: Host) -> None:
    page = re.sub(r"\\f[BR]", "", run("zcat", "/usr/share/man/man1/virt-floor.1.gz")).replace("\\-", "-")
    described = set(re.findall(r"^([a-z]+) \[", page, re.MULTILINE))
    assert described == tool_commands()
    for command in described:
        options = set(re.findall(r"(--[a-z][a-z-]*)", run("virt-floor", command, "--help")))
        assert not {option for option in options if option not in page}, command


def test_removal_leaves_guests_and_the_next_start_is_stocks(host: Host) -> None:
    files, pid = package_files(), daemon_pid()
    pids, tree = [guest.pid() for guest in host.guests], host.network.shapes()
    dpkg("--remove", "libvirt-floor")
    assert not [path for path in files if os.path.lexists(path)]
    assert daemon_pid() == pid
    check_tree(host.network)  # the daemon has the module loaded still

    restart()
    assert is_stock(), log_since_start()
    assert daemon_property("NeedDaemonReload") == "no"
    assert [guest.pid() for guest in host.guests] == pids and host.network.shapes() == tree
    # Stock serves: new guests, new networks, and floors of its own.
    host.guests.append(host.lab.lxc(host.plain.nic()))
    stock = host.lab.network()
    host.guests.append(host.lab.lxc(stock.nic(floor=300)))
    assert all(each.preference != kernel.FLOOR_PREFERENCE for each in kernel.tc_filters(stock.bridge))
    host.check_guests()


def test_package_that_comes_back_finds_its_floors(host: Host) -> None:
    dpkg("--install", package())
    restart()
    assert is_ours()
    assert [port.floor for port in check_tree(host.network)] == [500]
    host.check_guests()


def test_files_that_vanish_without_a_word_to_systemd_leave_the_stock_drivers(host: Host) -> None:
    """It still knows the drop-in, whose program and module are gone; the folder of the last start is there."""
    for path in package_files():
        os.unlink(path)
    restart()
    assert is_stock()
    host.check_guests()


def test_purge_leaves_nothing_of_the_package(host: Host) -> None:
    dpkg("--purge", "libvirt-floor")
    with pytest.raises(CommandFailed):
        run("dpkg-query", "--listfiles", "libvirt-floor")
    folders = ("/etc", "/lib/systemd", "/usr/bin", "/usr/lib", "/usr/libexec", "/usr/share", "/var/lib")
    assert not run("find", *folders, "-name", "*virt-floor*")
    restart()
    assert is_stock()
    host.check_guests()


@pytest.mark.skipif(not shutil.which("meson"), reason="a host that builds nothing")
def test_install_and_uninstall_without_a_package(host: Host) -> None:
    before = set(pathlib.Path("/usr/local").rglob("*"))
    run(str(SOURCE / "run"), "install")
    restart()
    assert any(module.startswith("/usr/local/") for module in loaded_modules()), log_since_start()
    assert [port.floor for port in check_tree(host.network)] == [500]
    assert host.network.name in run("/usr/local/bin/virt-floor", "list")
    run(str(SOURCE / "run"), "uninstall")
    left = set(pathlib.Path("/usr/local").rglob("*")) - before
    assert not [path for path in left if not path.is_dir() or "floor" in path.name]
    restart()
    assert is_stock()
    host.check_guests()
