# SPDX-License-Identifier: LGPL-2.1-or-later
"""virt-floor validate; and libvirt's own schemas, which accept what the module hands to libvirt."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess

import pytest
from lab import Workbench, file_of, run, status, virsh
from virt_floor import UNPRIVILEGED, fails, outcome, prints

ROOT = pathlib.Path(__file__).parents[2]
LIBVIRT_SCHEMAS = pathlib.Path("/usr/share/libvirt/schemas")
KINDS = ("floornetwork", "network", "networkport", "domain", "interface")

NETWORK = """<network>
  <name>lab</name>
  <bandwidth>
    <inbound average='4000' peak='8000' burst='64'/>
    <outbound average='900'/>
  </bandwidth>
  <ip address='10.9.0.1' netmask='255.255.255.0'/>
</network>
"""
INTERFACE = """<interface type='network'>
  <source network='lab'/>
  <bandwidth>
    <inbound average='1000' floor='500'/>
    <outbound average='900'/>
  </bandwidth>
</interface>
"""
DOMAIN = f"""<domain type='qemu'>
  <name>guest</name>
  <memory unit='MiB'>16</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices>
{INTERFACE}  </devices>
</domain>
"""
PORT = """<networkport>
  <uuid>6b2c1c3e-5a0f-4d55-9a53-0c9b7b0f5a01</uuid>
  <owner><name>guest</name><uuid>7b2c1c3e-5a0f-4d55-9a53-0c9b7b0f5a01</uuid></owner>
  <mac address='52:54:00:8a:11:03'/>
  <bandwidth classID='3'>
    <inbound floor='500'/>
  </bandwidth>
</networkport>
"""


def replaced(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


def faults(text: str) -> list[str]:
    """As `LINE: SENTENCE`, of a text that is not valid."""
    done = outcome("validate", "-", stdin=text)
    assert (done.status, done.error) == (1, ""), done
    return [line.removeprefix("-:") for line in done.output.splitlines()]


@pytest.mark.parametrize("text", [NETWORK, INTERFACE, DOMAIN, PORT], ids=["network", "interface", "domain", "port"])
def test_what_is_valid(text: str) -> None:
    assert prints("validate", "-", stdin=text) == "-: valid\n"


@pytest.mark.parametrize("path", sorted((ROOT / "status/examples").glob("*.xml")), ids=lambda path: path.stem)
def test_examples_of_status_files_are_valid(path: pathlib.Path) -> None:
    assert prints("validate", str(path)) == f"{path}: valid\n"


def documents() -> list[pathlib.Path]:
    return [ROOT / "README.md", ROOT / "status/format.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(path: pathlib.Path) -> list[str]:
    """XML that stands in a document whole: indented by four blanks, or fenced."""
    found = []
    text = path.read_text()
    fenced = re.findall(r"^```xml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    indented = re.findall(r"(?:^    .*\n|^\n)+", text, re.MULTILINE)
    for block in [*fenced, *(re.sub("^    ", "", block, flags=re.MULTILINE) for block in indented)]:
        for kind in KINDS:
            for match in re.findall(rf"^<{kind}\b.*?^</{kind}>", block, re.DOTALL | re.MULTILINE):
                if "…" not in match:  # an abridged one
                    found.append(match)
    return found


def test_xml_in_the_documents_is_valid() -> None:
    all_blocks = [(path, block) for path in documents() for block in blocks(path)]
    assert all_blocks
    for path, block in all_blocks:
        done = outcome("validate", "-", stdin=block)
        assert done.status == 0, (path, block, done)


@pytest.mark.parametrize(
    "text, old, new, expected",
    [
        (NETWORK, "<inbound average='4000'", "<inbound", "4: bandwidth needs the attribute average or floor"),
        (
            NETWORK,
            "peak='8000'",
            "floor='5'",
            "4: a floor is for interfaces of networks, not for networks",
        ),
        (
            NETWORK,
            "average='900'",
            "average='9e2'",
            "5: bandwidth average '9e2' is not a whole number from 0 to 18014398509481984",
        ),
        (NETWORK, "<name>lab</name>", "<name>a/b</name>", "1: network name 'a/b' is no file name"),
        (INTERFACE, "<outbound average='900'", "<outbound floor='9'", "5: a floor is for <inbound>, not for <outbound>"),
        (
            INTERFACE,
            "type='network'>\n  <source network",
            "type='bridge'>\n  <source bridge",
            "4: a floor is for interfaces of networks, not for those of type 'bridge'",
        ),
        (DOMAIN, "floor='500'", "floor='-1'", "9: bandwidth floor '-1' is not a whole number from 0 to 18014398509481984"),
        (
            DOMAIN,
            "<outbound average='900'/>",
            "<inbound average='9'/>",
            "8: bandwidth has two elements of one direction",
        ),
        (PORT, "classID='3'", "classID='65536'", "5: class ID '65536' is not a number up to 65535"),
        (PORT, "52:54:00:8a:11:03", "52:54", "1: network port needs a valid uuid and mac address"),
    ],
)
def test_what_the_module_would_refuse(text: str, old: str, new: str, expected: str) -> None:
    assert expected in faults(replaced(text, old, new))


def test_what_libvirt_would_refuse() -> None:
    (fault,) = faults(replaced(NETWORK, "netmask=", "mask="))
    assert re.match(r"\d+: ", fault) and "ip" in fault
    (fault,) = faults(replaced(DOMAIN, "<source network='lab'/>", "<source network='lab'/><colour/>"))
    assert fault == "7: Element interface has extra content: colour"


@pytest.mark.parametrize(
    "text, old, new",
    [
        (NETWORK, "peak='8000'", "floor='9'"),
        (NETWORK, "average='4000'", "average='4k'"),
        (NETWORK, "<inbound average='4000'", "<inbound"),
        (INTERFACE, "<outbound average='900'", "<outbound average='900' floor='9'"),
        (INTERFACE, "type='network'", "type='bridge'"),
        (INTERFACE, " floor='500'", " floor='18014398509481985'"),
        (DOMAIN, "<inbound average='1000' floor='500'", "<inbound peak='1000' floor='500'"),
        (PORT, "classID='3'", "classID='65536'"),
    ],
)
def test_our_schema_knows_the_restrictions(text: str, old: str, new: str) -> None:
    for each, accepted in ((text, True), (replaced(text, old, new), False)):
        with file_of(each) as path:
            done = subprocess.run(
                ["xmllint", "--noout", "--relaxng", str(ROOT / "schemas/floors.rng"), path], capture_output=True
            )
        assert (done.returncode == 0) == accepted, done


def three_ports() -> str:
    return (ROOT / "status/examples/three-ports.xml").read_text()


@pytest.mark.parametrize(
    "old, new, expected",
    [
        (
            "c0a7d2f4-0f6e-4a7c-8d3c-51f4a0a1b202",
            "6b2c1c3e-5a0f-4d55-9a53-0c9b7b0f5a01",
            "10: port 6b2c1c3e-5a0f-4d55-9a53-0c9b7b0f5a01 stands there twice: in line 9 too",
        ),
        (
            "class='4'",
            "class='3'",
            "10: class 3 is of 52:54:00:8a:11:04 here and of 52:54:00:8a:11:03 in line 9; ports share a class if and "
            "only if they share an address",
        ),
        (
            "52:54:00:8a:11:04",
            "52:54:00:8a:11:03",
            "10: 52:54:00:8a:11:03 has class 4 here and class 3 in line 9; ports share a class if and only if they "
            "share an address",
        ),
    ],
)
def test_ports_of_a_status_file_that_contradict_each_other(old: str, new: str, expected: str) -> None:
    assert faults(replaced(three_ports(), old, new)) == [expected]


@pytest.mark.parametrize(
    "old, new, line",
    [
        ("class='6'", "class='2'", 12),
        ("floor='1500'", "floor='0'   ", 12),
        ("mtu='1500'", "mtu='big'", 3),
        ("<name>three-ports</name>", "<name>a/b</name>", 2),
    ],
)
def test_status_files_by_the_schema(old: str, new: str, line: int) -> None:
    found = faults(replaced(three_ports(), old, new))
    assert any(fault.startswith(f"{line}: ") for fault in found) or found[0].startswith("1: "), found


def test_what_is_no_xml_of_ours(tmp_path: pathlib.Path) -> None:
    assert faults("") == ["1: Document is empty"]
    assert faults("nonsense")[0].startswith("1: Start tag expected")
    assert faults("<network>\n<name>\n</network>")[0].startswith("3: Opening and ending tag mismatch")
    assert faults("\n<domainsnapshot/>")[0].startswith("2: <domainsnapshot> is not what can be validated here: ")
    assert faults("<!DOCTYPE network>\n<network/>") == ["1: a document type declaration is not allowed"]
    binary = tmp_path / "binary"
    binary.write_bytes(bytes(range(256)) * 40)
    done = outcome("validate", str(binary))
    assert done.status == 1 and done.output.startswith(f"{binary}:1: "), done


def test_an_entity_that_is_huge(tmp_path: pathlib.Path) -> None:
    entities = "".join(f"<!ENTITY e{i} '{f'&e{i - 1};' * 10 if i else 'x' * 100}'>" for i in range(12))
    done = outcome("validate", "-", stdin=f"<!DOCTYPE network [{entities}]>\n<network>&e11;</network>")
    assert done.status == 1, done


def test_many_files_and_json(tmp_path: pathlib.Path) -> None:
    good, bad = tmp_path / "good.xml", tmp_path / "bad.xml"
    good.write_text(NETWORK)
    bad.write_text(replaced(NETWORK, "average='900'", "average='many'"))

    done = outcome("validate", str(good), str(bad), "--json")

    assert done.status == 1
    first, second = json.loads(done.output)["files"]
    assert first == {"file": str(good), "kind": "network", "valid": True, "faults": []}
    assert (second["valid"], [fault["line"] for fault in second["faults"]]) == (False, [5])


def test_files_that_cannot_be_read(tmp_path: pathlib.Path) -> None:
    missing, good = tmp_path / "missing.xml", tmp_path / "good.xml"
    good.write_text(NETWORK)
    assert fails(3, "validate", str(missing)).endswith(f"Cannot read {missing}: No such file or directory")
    assert "Is a directory" in fails(3, "validate", str(tmp_path))
    done = outcome("validate", str(missing), str(good))
    assert (done.status, done.output) == (3, f"{good}: valid\n")

    secret = status.STATUS_DIR / "secret.xml"
    secret.write_text("<floornetwork/>")
    try:
        assert "Permission denied" in fails(3, "validate", str(secret), user=UNPRIVILEGED)
    finally:
        secret.unlink()


def test_bad_usage(tmp_path: pathlib.Path) -> None:
    assert "Wrong number of arguments" in fails(2, "validate")
    assert "Cannot read the schema " in fails(3, "validate", "-", "--schemas", str(tmp_path), stdin=NETWORK)
    (tmp_path / "floors.rng").write_text("<grammar/>")
    assert "Cannot read the schema " in fails(3, "validate", "-", "--schemas", str(tmp_path), stdin=NETWORK)


def test_without_libvirts_schemas(tmp_path: pathlib.Path) -> None:
    done = outcome("validate", "-", "--libvirt-schemas", str(tmp_path), stdin=NETWORK)

    assert (done.status, done.output) == (0, "-: valid\n")
    assert done.error == (
        f"virt-floor: There is no {tmp_path}/network.rng: only what libvirt-floor reads was validated\n"
    )


def test_output_that_nobody_takes() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            ["virt-floor", "validate", "-"], input=NETWORK, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr) == (3, "virt-floor: Cannot write to standard output\n")


def assert_libvirt_accepts(kind: str, text: str) -> None:
    with file_of(text) as path:
        run("xmllint", "--noout", "--relaxng", str(LIBVIRT_SCHEMAS / f"{kind}.rng"), path)


def test_libvirt_accepts_what_we_hand_to_it(lab: Workbench) -> None:
    network = lab.network(average=4000, peak=8000)
    guest = lab.qemu(network.nic(floor=500), network.nic())
    for text in (network.dumpxml(), network.dumpxml("--inactive")):
        assert "average='4000'" in text
        assert_libvirt_accepts("network", text)
        assert prints("validate", "-", stdin=text) == "-: valid\n"
    for port in network.ports():
        assert_libvirt_accepts("networkport", port.xml)
        assert prints("validate", "-", stdin=port.xml) == "-: valid\n"
    domain = guest.virsh("dumpxml", guest.name)
    assert_libvirt_accepts("domain", domain)
    assert prints("validate", "-", stdin=domain) == "-: valid\n"
    path = status.STATUS_DIR / f"{network.name}.xml"
    assert prints("validate", str(path)) == f"{path}: valid\n"


def test_libvirt_defines_with_validation(lab: Workbench) -> None:
    network = lab.described_network({"average": 4000, "peak": 8000})
    guest = lab.described_qemu(network.nic(floor=500))
    with file_of(network.xml()) as path:
        virsh("net-define", "--validate", path)
    network.start()
    with file_of(network.dumpxml()) as path:  # what it hands out it takes back
        network.destroy()
        virsh("net-define", "--validate", path)
    network.start()
    with file_of(guest.xml()) as path:
        guest.virsh("define", "--validate", path)
    guest.start()
    with file_of(guest.virsh("dumpxml", "--inactive", guest.name)) as path:
        guest.virsh("define", "--validate", path)
