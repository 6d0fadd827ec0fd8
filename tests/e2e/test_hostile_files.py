# SPDX-License-Identifier: LGPL-2.1-or-later
"""Names and files: nothing that comes from XML leads out of the state directory or into a command, and what
lies in the directory is not followed."""

from __future__ import annotations

import os
import pathlib
import shutil
import time
from typing import Callable
from xml.sax.saxutils import escape

import libvirt
import pytest
from lab import Workbench, check_tree, connection, daemon, status

NAMES = [
    "../x", "/etc/x", "a/b", "a\nb", ".", "..", "...", ".hidden", "-rf", "a b", "*", "it's", 'a"b', "R&D <lab>",
    "grüß", "$(touch /run/sandbox/pwned)", "`touch /run/sandbox/pwned`", "net.xml", "net.xml.damaged",
    "net.xml.AbCdEf", "n" * 240, "n" * 246, "n" * 255, "n" * 4096,
]  # fmt: skip
RUN = pathlib.Path("/run")


def files_below(folder: pathlib.Path) -> set[pathlib.Path]:
    return {pathlib.Path(root, name) for root, _, names in os.walk(folder) for name in names}


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name[:20]) + f"-{len(name)}")
def test_network_of_any_name_works_or_is_refused(lab: Workbench, name: str) -> None:
    network = lab.described_network({"average": 4000})
    xml = network.xml().replace(network.name, escape(name, {"\n": "&#10;"}))
    before = files_below(RUN)
    with connection() as conn:
        try:
            made = conn.networkCreateXML(xml)
        except libvirt.libvirtError as error:
            assert error.get_error_message()
        else:
            ours = files_below(RUN) - before - files_below(RUN / "libvirt/network")
            assert {path.relative_to(status.STATUS_DIR) for path in ours} == {pathlib.Path(name + ".xml")}
            made.portCreateXML(network.port_xml(network.nic(floor=500)), 0)
            assert network.classes()[3].rate == 500_000
            made.destroy()
        assert conn.listAllNetworks() == []
    assert files_below(RUN) == before


def next_process_id() -> int:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return child


@pytest.mark.parametrize("driver", ["ours", "stock"])
def test_plug_change_and_unplug_start_no_process(lab: Workbench, libvirtd, driver: str) -> None:
    """Process IDs are given in turn: between two of our own children there is room for none of libvirtd's.
    The stock driver shows that they are seen."""
    if driver == "stock":
        libvirtd.restart("--stock", "--tc-shim")
    network = lab.network()
    xml = network.port_xml(network.nic(mac="52:54:00:00:00:01", floor=500))
    with connection() as conn:
        handle = conn.networkLookupByName(network.name)

        def once() -> int:
            before = next_process_id()
            port = handle.portCreateXML(xml, 0)
            port.setParameters({"inbound.floor": 600}, 0)
            port.delete(0)
            return next_process_id() - before - 1

        # A worker thread that libvirtd starts meanwhile counts as well, but it does not start one each time.
        assert (min(once() for _ in range(5)) == 0) == (driver == "ours")


def huge(path: pathlib.Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


PRECIOUS = pathlib.Path("/run/sandbox/precious.xml")
PLANTS: dict[str, Callable[[pathlib.Path], object]] = {
    "link": lambda path: path.symlink_to(PRECIOUS),
    "link to nowhere": lambda path: path.symlink_to("/nowhere"),
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "pipe": os.mkfifo,
    "directory": lambda path: (path / "in").mkdir(parents=True),
    "device": lambda path: os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5)),
    "huge": huge,
}


def test_what_is_planted_in_the_state_directory_is_not_followed(lab: Workbench, libvirtd) -> None:
    network = lab.network()
    guest = lab.qemu(network.nic(floor=500))
    file, ghost = status.network_file(network.name), status.network_file("ghost")
    aside = file.with_name(file.name + status.DAMAGED)
    for plant in PLANTS.values():
        for older in (PLANTS["link"], PLANTS["directory"]):
            libvirtd.stop()
            PRECIOUS.write_text("precious")
            file.unlink()
            plant(file)
            plant(ghost)
            older(aside)
            log, start = daemon.log_size(), time.monotonic()
            libvirtd.start()
            assert time.monotonic() - start < 10
            assert f"kept as {aside}" in daemon.log_since(log)
            assert guest.nic.port().floor == 500
            check_tree(network, steering=False)
            assert PRECIOUS.read_text() == "precious" and not ghost.is_symlink() and not ghost.exists()
            for path in status.STATUS_DIR.glob(f"*{status.DAMAGED}"):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    PRECIOUS.unlink()


def test_directory_and_files_are_the_owners_alone(lab: Workbench) -> None:
    network = lab.network()
    network.create_port(network.nic(floor=500))
    for path, mode in ((status.STATUS_DIR, 0o700), (status.network_file(network.name), 0o600)):
        found = path.lstat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (0, 0, mode), path
