# SPDX-License-Identifier: LGPL-2.1-or-later
"""virt-floor tree: the classes of a network, in four forms."""

from __future__ import annotations

import re
import subprocess
from typing import Any, Iterator
from xml.etree import ElementTree

import pytest
from lab import Workbench
from lab.commands import run
from lab.network import Nic
from virt_floor import UNPRIVILEGED, fails, outcome, prints, tells


@pytest.fixture
def nics(lab: Workbench) -> list[Nic]:
    """Two interfaces with floors, of one guest each, on a network."""
    network = lab.network(average=4000, peak=5000)
    nics = [network.nic(floor=500), network.nic(floor=1500)]
    for nic in nics:
        lab.qemu(nic)
    return nics


def all_classes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("children", []):
        yield from all_classes(child)


def test_json_is_what_the_kernel_has(nics: list[Nic]) -> None:
    network = nics[0].network
    (root,) = tells("tree", network.name)["classes"]

    told = {each["class_id"]: each for each in all_classes(root)}
    there = network.classes()
    assert told.keys() == there.keys()
    for class_id, seen in there.items():
        assert told[class_id]["rate_bytes_per_second"] == seen.rate
        assert told[class_id]["ceil_bytes_per_second"] == seen.ceil
    assert {child["class_id"] for child in root["children"]} == {2, 3, 4}
    assert "leaf" not in root and all("leaf" in child for child in root["children"])


def test_text_names_whom_a_class_serves(lab: Workbench, nics: list[Nic]) -> None:
    network = nics[0].network
    lines = prints("tree", network.name).splitlines()

    assert network.name in lines[0] and network.bridge in lines[0] and "2000 kB/s promised" in lines[0]
    assert lines[1].split()[:2] == ["CLASS", "WHOSE"]
    assert re.search(r"└─ 1:1 +root +4000 +5000", lines[2])
    assert re.search(r"├─ 1:2 +catchment +2000 +5000", lines[3])
    assert re.search(rf"├─ 1:3 +\S+ {nics[0].mac} +500 +5000", lines[4])
    assert re.search(rf"└─ 1:4 +\S+ {nics[1].mac} +1500 +5000", lines[5])


def test_interfaces_of_one_address_share_a_row(lab: Workbench) -> None:
    network = lab.network()
    first = network.nic(floor=500)
    second = network.nic(mac=first.mac, floor=700)
    guests = [lab.qemu(first), lab.qemu(second)]

    (row,) = [line for line in prints("tree", network.name).splitlines() if "1:3" in line]
    assert all(guest.name in row for guest in guests)
    assert " 700 " in row


def test_picture_is_svg_with_a_row_a_class(nics: list[Nic]) -> None:
    picture = ElementTree.fromstring(prints("tree", nics[0].network.name, "--svg"))
    svg = "{http://www.w3.org/2000/svg}"
    widths = [float(bar.get("width", "")) for bar in picture.iter(f"{svg}rect") if bar.get("class") == "rate"]
    assert len(widths) == 4
    assert widths[3] == pytest.approx(3 * widths[2], abs=3)
    assert all(nic.mac in "".join(picture.itertext()) for nic in nics)


def test_graph_is_what_graphviz_reads(lab: Workbench) -> None:
    network = lab.network(name='a "quoted\\name')
    lab.qemu(network.nic(floor=500))
    graph = prints("tree", network.name, "--dot")
    plain = subprocess.run(["dot", "-Tplain"], input=graph, capture_output=True, text=True, check=True).stdout
    nodes = [line for line in plain.splitlines() if line.startswith("node ")]
    edges = [line for line in plain.splitlines() if line.startswith("edge ")]
    assert (len(nodes), len(edges)) == (4, 3)


def test_class_of_nobody_is_shown(nics: list[Nic], libvirtd: object) -> None:
    network = nics[0].network
    libvirtd.stop()  # it would take the class away
    run("tc", *f"class add dev {network.bridge} parent 1:1 classid 1:99 htb rate 8kbit".split())

    shown = outcome("tree", network.name)

    assert shown.status == 0
    assert "(nobody)" in shown.output.splitlines()[-1]


def test_no_privilege_is_needed(nics: list[Nic]) -> None:
    name = nics[0].network.name
    assert prints("tree", name, user=UNPRIVILEGED) == prints("tree", name)


def test_network_without_limit_has_no_tree(lab: Workbench) -> None:
    network = lab.plain_network()
    assert "<inbound average" in fails(3, "tree", network.name)


def test_two_forms_at_once_are_refused(nics: list[Nic]) -> None:
    fails(2, "tree", nics[0].network.name, "--dot", "--svg")
    fails(2, "tree")
