#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Compares a source tree of libvirt with what src/plugin takes for granted of it.

    compare.py FOLDER

Prints what differs, a line each, and fails if anything does. What it compares, and what it cannot,
stands in docs/libvirt-versions.md.
"""

from __future__ import annotations

import pathlib
import re
import sys
from typing import Iterator

PLUGIN = pathlib.Path(__file__).resolve().parents[2] / "src/plugin"

DRIVER_TABLE = ("src/driver-network.h", "_virNetworkDriver")
STATE_DRIVER = ("src/driver-state.h", "_virStateDriver")
CONNECT_DRIVER = ("src/driver.h", "_virConnectDriver")
# Structures of which a part is used: the members that must come first.
BEGINNINGS = {
    ("src/driver-hypervisor.h", "_virHypervisorDriver"): ["name", "connectURIProbe"],
    ("src/conf/network_conf.h", "_virNetworkDef"): ["uuid", "uuid_specified", "name"],
    ("src/conf/virnetworkportdef.h", "_virNetworkPortDef"): ["uuid"],
    ("src/util/virlog.h", "_virLogSource"): ["name", "priority", "serial"],
}
VALUES = {
    ("src/driver-state.h", "virDrvStateInitResult"): {"ERROR": -1, "SKIPPED": 0, "COMPLETE": 1},
    ("src/util/virlog.h", "virLogPriority"): {"INFO": 2, "WARN": 3, "ERROR": 4},
}
# Looked up by name as well, but not written down in a list of symbols: made by libvirt's build of the
# "@acl" in its protocol, or another library's.
NOT_LISTED = re.compile(r"EnsureACL$|^g_")


def without_comments(text: str) -> str:
    return re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.DOTALL)


def plain(name: str) -> str:
    """networkGetXMLDesc and network_get_xml_desc are the same name."""
    return name.replace("_", "").lower()


def plain_type(text: str) -> str:
    words = text.replace("unsigned int", "unsigned").replace("void)", ")")
    return re.sub(r"\s+", "", words)


class Unreadable(Exception):
    pass


class Source:
    """A folder of C or C++ sources."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder

    def read(self, path: str) -> str:
        try:
            return without_comments((self._folder / path).read_text())
        except OSError as error:
            raise Unreadable(f"{path}: {error.strerror}") from error

    def body(self, path: str, head: str) -> str:
        found = re.search(head + r"\s*\{(.*?)\}", self.read(path), re.DOTALL)
        if not found:
            raise Unreadable(f"{path}: no {head}")
        return found[1]

    def members(self, path: str, struct: str) -> list[str]:
        """The names of a structure's members, in order."""
        names = []
        for declaration in self.body(path, rf"struct\s+{struct}\b").split(";"):
            function = re.search(r"\(\s*\*\s*(\w+)\s*\)", declaration)
            if function:
                names.append(function[1])
            elif declaration.strip():
                names += [re.search(r"(\w+)\s*(\[\w*\])?$", each.split("=")[0].strip())[1] for each in declaration.split(",")]
        return names

    def values(self, path: str, enum: str) -> dict[str, int]:
        """An enumeration's values, by name: `typedef enum { … } NAME` or `enum NAME { … }`."""
        text = self.read(path)
        found = re.search(rf"enum\s*\{{([^}}]*)\}}\s*{enum}\s*;|enum\s+(?:class\s+)?{enum}\b[^{{;]*\{{([^}}]*)\}}", text)
        if not found:
            raise Unreadable(f"{path}: no enum {enum}")
        values, following = {}, 0
        for entry in filter(None, map(str.strip, (found[1] or found[2]).split(","))):
            name, _, value = map(str.strip, entry.partition("="))
            values[name] = following = int(value, 0) if value else following
            following += 1
        return values


class Ours(Source):
    def __init__(self) -> None:
        super().__init__(PLUGIN)
        self.text = self.read("libvirt_abi.h")

    def number(self, name: str) -> int:
        return int(re.search(rf"\b{name} = ([\d']+)", self.text)[1].replace("'", ""))

    def slots_of_version(self, version: int) -> int:
        if not self.number("first") <= version < self.number("end"):
            return 0
        return self.number("slots_7_8_0" if version < self.number("appended") else "slots_9_7_0")

    def function_types(self) -> dict[str, str]:
        return {plain(name): plain_type(value) for name, value in re.findall(r"using (\w+) = ([^;]+);", self.text)}

    def private_functions(self) -> list[str]:
        text = self.read("libvirt_internals.cc")
        return [name for name in re.findall(r'(?:find|look_up)\([^"()]*, "(\w+)"\)', text) if not NOT_LISTED.search(name)]


def version_of(theirs: Source) -> int:
    found = re.search(r"version: '(\d+)\.(\d+)\.(\d+)'", theirs.read("meson.build"))
    if not found:
        raise Unreadable("meson.build: no version")
    major, minor, release = map(int, found.groups())
    return major * 1_000_000 + minor * 1000 + release


def compare_table(theirs: Source, ours: Ours) -> Iterator[str]:
    path, struct = DRIVER_TABLE
    entries = theirs.members(path, struct)
    version = version_of(theirs)
    expected = ours.slots_of_version(version)
    if not expected:
        yield f"slots_of_version() does not know {version}: {len(entries)} entries"
    elif expected != len(entries):
        yield f"{struct} has {len(entries)} entries, not {expected}"
    types = {
        plain(name): plain_type(f"{result}(*)({parameter_types(parameters)})")
        for result, name, parameters in re.findall(
            r"typedef\s+([\w\s*]+?)\s*\(\s*\*\s*virDrv(\w+)\s*\)\s*\(([^)]*)\)", theirs.read(path)
        )
    }
    our_types = ours.function_types()
    for slot, position in ours.values("libvirt_abi.h", "Slot").items():
        actual = entries[position] if position < len(entries) else "nothing"
        if plain(actual) != plain(slot):
            yield f"{struct}: entry {position} is {actual}, not {slot}"
        elif position and types.get(plain(slot)) != (ours_of := our_types[re.sub("^(network|connect)", "", plain(slot))]):
            yield f"{actual} is {types.get(plain(slot))}, not {ours_of}"


def parameter_types(parameters: str) -> str:
    """Without the parameters' names."""
    return ",".join(re.sub(r"\w+$", "", each.strip()) for each in parameters.split(","))


def compare_members(theirs: Source, ours: Ours) -> Iterator[str]:
    for (path, struct), our_struct in ((STATE_DRIVER, "StateDriver"), (CONNECT_DRIVER, "ConnectDriver")):
        names = [plain(re.sub(r"^state|Driver$", "", each)).replace("device", "dev") for each in theirs.members(path, struct)]
        our_names = [plain(each) for each in ours.members("libvirt_abi.h", our_struct)]
        if names != our_names:
            yield f"{struct} is {names}, not {our_names}"
    for (path, struct), beginning in BEGINNINGS.items():
        members = theirs.members(path, struct)[: len(beginning)]
        if members != beginning:
            yield f"{struct} begins with {members}, not {beginning}"
    initialize = re.search(r"\(\s*\*\s*virDrvStateInitialize\s*\)\s*\(([^)]*)\)", theirs.read(STATE_DRIVER[0]))
    first = plain_type(",".join(initialize[1].split(",")[:2])) if initialize else "not there"
    if first != "boolprivileged,constchar*root":
        yield f"the arguments of stateInitialize begin with {first}"


def compare_rest(theirs: Source, ours: Ours) -> Iterator[str]:
    for (path, enum), expected in VALUES.items():
        values = {name.rpartition("_")[2]: value for name, value in theirs.values(path, enum).items()}
        for name, value in expected.items():
            if values.get(name) != value:
                yield f"{enum}: {name} is {values.get(name)}, not {value}"
    listed = set(re.findall(r"^(\w+);", theirs.read("src/libvirt_private.syms"), re.MULTILINE))
    for name in ours.private_functions():
        if name not in listed:
            yield f"{name} is not in src/libvirt_private.syms"


def differences(folder: pathlib.Path) -> list[str]:
    theirs, ours = Source(folder), Ours()
    found = []
    for compare in (compare_table, compare_members, compare_rest):
        try:
            found += compare(theirs, ours)
        except Unreadable as error:
            found.append(str(error))
    return found


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    found = differences(pathlib.Path(sys.argv[1]))
    print("\n".join(found) or "all as expected")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
