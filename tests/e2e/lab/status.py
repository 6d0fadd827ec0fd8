# SPDX-License-Identifier: LGPL-2.1-or-later
"""Status files: ours, and the domains' that libvirt writes. All that knows their format is here."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from xml.etree import ElementTree

STATUS_DIR = pathlib.Path("/run/libvirt/network-floor")
DOMAIN_DIRS = (pathlib.Path("/run/libvirt/qemu"), pathlib.Path("/run/libvirt/lxc"))
DAMAGED = ".damaged"  # what a file's name ends with when it was set aside


@dataclasses.dataclass(frozen=True)
class PortStatus:
    uuid: str
    mac: str
    class_id: int
    floor: int


@dataclasses.dataclass(frozen=True)
class NetworkStatus:
    bridge: str
    state: str  # of the tree: kept, contested, broken, absent
    inbound: dict[str, int]
    refusals: int
    repairs: int
    ports: dict[str, PortStatus]  # by UUID


def network_file(network: str) -> pathlib.Path:
    return STATUS_DIR / f"{network}.xml"


def read(network: str) -> NetworkStatus:
    path = network_file(network)
    root = ElementTree.parse(path).getroot()
    assert root.findtext("name") == network, f"{path} is about another network"
    ports = [
        PortStatus(each.attrib["uuid"], each.attrib["mac"], int(each.attrib["class"]), int(each.attrib["floor"]))
        for each in root.iterfind("ports/port")
    ]
    assert len({port.uuid for port in ports}) == len(ports), f"{path} has a port twice"
    counts = root.find("counts")
    return NetworkStatus(
        bridge=root.find("bridge").get("name", ""),
        state="kept" if root.find("tree") is None else root.find("tree").get("state", ""),
        inbound={key: int(value) for key, value in root.find("bandwidth/inbound").attrib.items()},
        refusals=int(counts.attrib["refusals"]),
        repairs=int(counts.attrib["repairs"]),
        ports={port.uuid: port for port in ports},
    )


def without_counts(text: bytes) -> bytes:
    """A file of ours but for its counts, which a refusal changes; any other file as it is."""
    return re.sub(b"<counts [^>]*/> *\n", b"", text)


def edit(network: str, old: str, new: str) -> None:
    """Replaces the first match of a regular expression in a network's file."""
    path = network_file(network)
    text, count = re.subn(old, new, path.read_text(), count=1)
    assert count == 1, f"{old} is not in {path}"
    path.write_text(text)


def files() -> set[str]:
    """All our status files, but not those that were set aside as damaged."""
    if not STATUS_DIR.exists():
        return set()
    found = {str(path.relative_to(STATUS_DIR)) for path in STATUS_DIR.rglob("*")}
    return {name for name in found if DAMAGED not in name}


def set_aside() -> set[str]:
    return {path.name for path in STATUS_DIR.rglob(f"*{DAMAGED}*")}


def domain_class_ids() -> dict[str, int]:
    """Class IDs in all running domains' status XML, by port UUID."""
    found = {}
    for folder in DOMAIN_DIRS:
        for path in folder.glob("*.xml"):
            for interface in ElementTree.parse(path).getroot().iter("interface"):
                port, class_id = interface.find("source").get("portid"), interface.find("actual/class")
                if port and class_id is not None:
                    found[port] = int(class_id.get("id", ""))
    return found
