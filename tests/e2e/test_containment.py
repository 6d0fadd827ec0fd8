# SPDX-License-Identifier: LGPL-2.1-or-later
"""What happens where the module cannot work: the stock driver does, and the log says why."""

import os
import pathlib
import re
import shutil
from typing import Callable, Iterator

import pytest
from lab import (
    CommandFailed,
    Network,
    Workbench,
    check_no_tree,
    check_tree,
    daemon,
    kernel,
    run,
    status,
    traffic,
    virsh,
    virsh_fails,
    wait_until,
)

BUILD = pathlib.Path(os.environ.get("BUILD_DIR", "build")).absolute()
MODULE = BUILD / "src/plugin/libvirt_driver_network.so"
FAKE_VERSION = BUILD / "tests/e2e/fake_version.so"
LACKING = BUILD / "tests/e2e/lacking.so"
ODD_TABLE = BUILD / "tests/e2e/odd_table.so"
OLDEST_LIBVIRT = (7, 8, 0)


def test_unknown_version_leaves_the_stock_driver_as_it_is(lab: Workbench, libvirtd) -> None:
    libvirtd.stop()
    start_of_log = daemon.log_size()
    libvirtd.start("--preload", str(FAKE_VERSION))
    try:
        network = lab.plain_network()
        network.create_port(network.nic())
        check_no_tree(network)
        with pytest.raises(Exception, match="Invalid use of 'floor'"):  # the stock driver's words
            network.create_port(network.nic(floor=100))
        ours = [line for line in daemon.log_since(start_of_log).splitlines() if "libvirt-floor" in line]
        assert len(ours) == 1, ours
        assert "error" in ours[0] and "99.1.2" in ours[0] and "7.8 to 12.8" in ours[0], ours[0]
    finally:
        libvirtd.restart()


@pytest.mark.parametrize(
    "wrong, says",
    [("name", "is not the one expected"), ("short", "has another layout"), ("shifted", "has another layout than expected (10)")],
)
def test_table_that_looks_wrong_leaves_the_stock_driver_as_it_is(lab: Workbench, libvirtd, wrong: str, says: str) -> None:
    """And what it wrote down of its floors."""
    libvirtd.restart("--stock", "--tc-shim")
    network = lab.network()
    port = network.create_port(network.nic(floor=500))
    libvirtd.stop()
    log = daemon.log_size()
    run("env", f"ODD_TABLE={wrong}", "sandbox-libvirtd", "start", "--tc-shim", "--preload", str(ODD_TABLE))
    try:
        check_plain_networks(lab)
        assert network.port(port.mac).floor == 500
        network.delete_port(port)
        network.destroy()
        network.undefine()
        check_stock_serves(lab)
        (said,) = errors_of_ours(log)
        assert "libvirt-floor shapes nothing" in said and says in said, said
    finally:
        libvirtd.restart()


def test_module_has_one_door_and_no_tie_to_a_version() -> None:
    exported = run("nm", "--dynamic", "--defined-only", str(MODULE)).split()[2::3]
    assert exported == ["networkRegister"], exported
    symbols = run("nm", "--dynamic", "--with-symbol-versions", str(MODULE))
    assert "LIBVIRT_PRIVATE" not in symbols
    versions = [tuple(map(int, version)) for version in re.findall(r"@LIBVIRT_(\d+)\.(\d+)\.(\d+)", symbols)]
    assert versions and max(versions) <= OLDEST_LIBVIRT
    assert "libxml2" not in run("readelf", "--dynamic", str(MODULE))  # libvirt's own, whichever it is


def test_stock_module_that_is_missing_is_named(lab: Workbench, libvirtd) -> None:
    """libvirtd runs without a network driver, as it does where there is no module at all."""
    libvirtd.stop()
    log = daemon.log_size()
    run("env", "VIRFLOOR_STOCK_MODULE=/nowhere.so", "sandbox-libvirtd", "start")
    try:
        (said,) = errors_of_ours(log)
        assert "/nowhere.so" in said, said
        assert virsh("list", "--all", "--name").split() == []
        assert "not supported by the connection driver" in virsh_fails("net-list")
    finally:
        libvirtd.restart()


# --- something is missing ---


@pytest.fixture
def libvirtd_lacking(libvirtd) -> Iterator[Callable[[str], None]]:
    """Restarts libvirtd without something that lacking.cc knows of."""

    def restart(what: str, *options: str) -> None:
        libvirtd.stop()
        run("env", f"LACKING={what}", "sandbox-libvirtd", "start", "--preload", str(LACKING), *options)

    yield restart
    libvirtd.restart()


def check_plain_networks(lab: Workbench) -> None:
    """A network without bandwidth starts, and takes a guest that answers."""
    network = lab.plain_network()
    guest = lab.lxc(network.nic())
    wait_until("the guest answers", lambda: traffic.answers_ping(guest.nic.ip4))
    guest.destroy()
    network.destroy()
    check_no_tree_of(network)
    network.undefine()


def check_stock_serves(lab: Workbench) -> None:
    """A network with bandwidth has the stock driver's tree."""
    network = lab.network()
    port = network.create_port(network.nic(floor=500))
    assert port.floor == 500
    assert not status.network_file(network.name).exists()
    network.delete_port(port)
    network.destroy()
    network.undefine()


def errors_of_ours(log: int) -> list[str]:
    ours = ("libvirt-floor", "without floors")
    return [line for line in daemon.log_since(log).splitlines() if " error : " in line and any(map(line.count, ours))]


def check_no_tree_of(network: Network) -> None:
    assert network.bridge not in kernel.devices() and network.name not in "".join(status.files())


def start_fails(network: Network) -> str:
    error = virsh_fails("net-start", network.name)
    check_no_tree_of(network)
    assert network.info("Persistent") == "yes"
    return error


def test_kernel_without_htb(lab: Workbench, libvirtd_lacking) -> None:
    libvirtd_lacking("htb")
    check_plain_networks(lab)
    network = lab.defined_network({"average": 1000})
    error = start_fails(network)
    for part in ("Specified qdisc kind is unknown", "sch_htb", network.bridge):
        assert part in error, error


def test_kernel_without_u32(lab: Workbench, libvirtd_lacking) -> None:
    libvirtd_lacking("u32")
    check_plain_networks(lab)
    error = start_fails(lab.defined_network({"average": 1000}))
    for part in ("TC classifier not found", "cls_u32"):
        assert part in error, error


def test_no_netlink_socket(lab: Workbench, libvirtd_lacking) -> None:
    log = daemon.log_size()
    libvirtd_lacking("netlink", "--tc-shim")
    check_plain_networks(lab)
    check_stock_serves(lab)
    (said,) = errors_of_ours(log)
    assert "without floors until the daemon is restarted: cannot open a netlink socket" in said, said


@pytest.mark.parametrize("function", ["virErrorRestore", "virRegisterStateDriver"])
def test_private_function_that_is_needed(lab: Workbench, libvirtd_lacking, function: str) -> None:
    log = daemon.log_size()
    libvirtd_lacking(function, "--tc-shim")
    check_plain_networks(lab)
    check_stock_serves(lab)
    (said,) = errors_of_ours(log)
    assert f"libvirt-floor shapes nothing: libvirt has no function {function}" in said, said


@pytest.mark.parametrize("function", ["virNetworkCreateEnsureACL", "virIdentityGetSystem", "virIdentitySetCurrent"])
def test_private_function_that_can_be_done_without(lab: Workbench, libvirtd_lacking, function: str) -> None:
    libvirtd_lacking(function)
    check_plain_networks(lab)
    network = lab.network()
    lab.lxc(network.nic(floor=500))
    check_tree(network)


def test_state_directory_that_cannot_be_written(lab: Workbench, libvirtd) -> None:
    run("mount", "--bind", str(status.STATUS_DIR), str(status.STATUS_DIR))
    run("mount", "-o", "remount,ro,bind", str(status.STATUS_DIR))
    try:
        libvirtd.restart()
        check_plain_networks(lab)
        network = lab.defined_network({"average": 1000})
        error = start_fails(network)
    finally:
        run("umount", str(status.STATUS_DIR))
    assert str(status.STATUS_DIR) in error and "Read-only file system" in error, error
    network.start()
    check_tree(network)


@pytest.mark.parametrize("what", ["link", "file", "theirs", "open"])
def test_state_directory_that_cannot_be_trusted(lab: Workbench, libvirtd, what: str) -> None:
    directory, other = status.STATUS_DIR, status.STATUS_DIR.with_suffix(".other")
    libvirtd.stop()
    log = daemon.log_size()
    directory.rename(other)
    if what == "link":
        directory.symlink_to(other)
    elif what == "file":
        directory.touch()
    else:
        directory.mkdir()
        directory.chmod(0o777 if what == "open" else 0o700)
        os.chown(directory, 4001 if what == "theirs" else 0, 0)
    try:
        libvirtd.start("--tc-shim")
        check_plain_networks(lab)
        (said,) = errors_of_ours(log)
        assert f"{directory} " in said and "remove it and restart the daemon" in said, said
        network = lab.network()  # with the stock driver's tree
        network.create_port(network.nic(floor=500))
        assert not list(other.iterdir())
    finally:
        libvirtd.stop()
        if directory.is_symlink() or directory.is_file():
            directory.unlink()
        else:
            directory.rmdir()
        other.rename(directory)
        libvirtd.start()
    assert [port.floor for port in check_tree(network, steering=False)] == [500]  # and is taken over


# --- the module itself is broken ---


@pytest.fixture
def driver_dir(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder like that of `./run stage`, to be spoilt."""
    shutil.copytree("/run/sandbox/drivers", tmp_path / "drivers", symlinks=True)
    return tmp_path / "drivers"


@pytest.mark.parametrize("size", [0, 100])
def test_truncated_module_is_named(lab: Workbench, libvirtd, driver_dir: pathlib.Path, size: int) -> None:
    """libvirtd itself refuses to start then, whatever the module. `./run stage` never leaves one behind."""
    network = lab.network()
    network.create_port(network.nic(floor=500))
    libvirtd.stop()
    with (driver_dir / MODULE.name).open("r+b") as module:
        module.truncate(size)
    with pytest.raises(CommandFailed, match="Failed to load module .*/libvirt_driver_network.so"):
        libvirtd.start("--driver-dir", str(driver_dir))
    libvirtd.start()
    check_tree(network, steering=False)
