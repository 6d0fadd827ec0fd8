# SPDX-License-Identifier: LGPL-2.1-or-later
"""XML of somebody who means harm, handed to libvirtd: it reads no file, fetches nothing, and takes neither
time nor memory beyond its size."""

from __future__ import annotations

import os
import pathlib
import socket
import time
from typing import Callable, Iterator

import libvirt
import pytest
from lab import Workbench, connection, daemon

SIZE = 4 * 1024 * 1024 - 4096  # what one string of libvirt's protocol holds
ENTITY_TEXT = "the text of the bait"


class Bait:
    """A FIFO and a port that nobody may open, and a file whose text must not appear."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.file = folder / "bait"
        self.file.write_text(ENTITY_TEXT)
        self.fifo = folder / "fifo"
        os.mkfifo(self.fifo)
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.setblocking(False)
        self.url = f"http://127.0.0.1:{self.server.getsockname()[1]}/bait"

    def assert_untouched(self) -> None:
        with pytest.raises(BlockingIOError):
            self.server.accept()
        # A writer that does not wait is refused where nobody reads.
        with pytest.raises(OSError):
            os.close(os.open(self.fifo, os.O_WRONLY | os.O_NONBLOCK))


@pytest.fixture
def bait(tmp_path: pathlib.Path) -> Iterator[Bait]:
    made = Bait(tmp_path)
    yield made
    made.server.close()


Make = Callable[[str, str], str]


def with_document_type(declarations: str, inside: str) -> Make:
    """The XML with a document type, and with something inside its first element with text."""

    def make(xml: str, root: str) -> str:
        return f"<!DOCTYPE {root} [{declarations}]>" + xml.replace("</uuid>", f"</uuid>{inside}", 1)

    return make


def hostile(bait: Bait) -> dict[str, Make]:
    laughs = "<!ENTITY l0 'ha'>" + "".join(f"<!ENTITY l{n} '{f'&l{n - 1};' * 10}'>" for n in range(1, 30))
    quadratic = f"<!ENTITY a '{'x' * (SIZE // 2)}'>"
    attributes = " ".join(f"a{n}=''" for n in range(SIZE // 14))
    return {
        "file": with_document_type(f"<!ENTITY x SYSTEM 'file://{bait.file}'>", "<group>&x;</group>"),
        "fifo": with_document_type(f"<!ENTITY x SYSTEM 'file://{bait.fifo}'>", "<group>&x;</group>"),
        "http": with_document_type(f"<!ENTITY x SYSTEM '{bait.url}'>", "<group>&x;</group>"),
        "parameter": with_document_type(f"<!ENTITY % x SYSTEM 'file://{bait.fifo}'> %x;", ""),
        "external": lambda xml, root: f"<!DOCTYPE {root} SYSTEM 'file://{bait.fifo}'>{xml}",
        "laughs": with_document_type(laughs, "<group>&l29;</group>"),
        "quadratic": with_document_type(quadratic, f"<group a='{'&a;' * (SIZE // 8)}'/>"),
        "deep": lambda xml, root: xml.replace("</uuid>", "</uuid>" + "<a>" * (SIZE // 4), 1),
        "attributes": lambda xml, root: xml.replace("</uuid>", f"</uuid><a {attributes}/>", 1),
    }


KINDS = ["file", "fifo", "http", "parameter", "external", "laughs", "quadratic", "deep", "attributes"]


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_xml_is_refused_at_once(lab: Workbench, bait: Bait, kind: str) -> None:
    network = lab.network()
    other = lab.described_network({"average": 1000})
    make = hostile(bait)[kind]
    with connection() as conn:
        handle = conn.networkLookupByName(network.name)
        for attempt in (
            lambda: handle.portCreateXML(make(network.port_xml(network.nic(floor=10)), "networkport"), 0),
            lambda: conn.networkCreateXML(make(other.xml(), "network")),
        ):
            start = time.monotonic()
            with pytest.raises(libvirt.libvirtError) as refused:
                attempt()
            assert time.monotonic() - start < 5
            assert ENTITY_TEXT not in str(refused.value)
    bait.assert_untouched()
    assert network.ports() == []


def test_an_inclusion_includes_nothing(lab: Workbench, bait: Bait) -> None:
    network = lab.network()
    include = (
        "<xi:include xmlns:xi='http://www.w3.org/2001/XInclude' parse='text' href='{}'/>".format
    )
    for place in (bait.file, bait.fifo, bait.url):
        xml = network.port_xml(network.nic(floor=10)).replace("</owner>", f"</owner>{include(place)}", 1)
        with connection() as conn:
            port = conn.networkLookupByName(network.name).portCreateXML(xml, 0)
            assert ENTITY_TEXT not in port.XMLDesc(0)
            port.delete(0)
    bait.assert_untouched()


def resident_mib() -> float:
    for line in pathlib.Path(f"/proc/{daemon.pid()}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("libvirtd has no memory")


def test_memory_comes_back(lab: Workbench) -> None:
    """XML of as many nodes as its size allows, over and over."""
    network = lab.network()
    large = network.port_xml(network.nic(floor=10)).replace("</uuid>", "</uuid>" + "<a/>x" * (SIZE // 20), 1)
    with connection() as conn:
        handle = conn.networkLookupByName(network.name)

        def plug(times: int) -> float:
            for _ in range(times):
                handle.portCreateXML(large, 0).delete(0)
            return resident_mib()

        # Each of the daemon's five workers keeps an arena.
        first = plug(6)
        assert plug(6) < first + 128  # one tree of nodes is larger
