# SPDX-License-Identifier: LGPL-2.1-or-later
"""<bandwidth> of networks and interfaces, and the rates that follow from it."""

from __future__ import annotations

from typing import Mapping, Optional
from xml.etree import ElementTree

UNIT = 1000  # bytes per second in one unit of the XML
Values = Mapping[str, object]  # attribute → value; any text, so that bad values can be written too


def bandwidth_xml(inbound: Optional[Values], outbound: Optional[Values] = None) -> str:
    if not inbound and not outbound:
        return ""
    root = ElementTree.Element("bandwidth")
    for tag, values in (("inbound", inbound), ("outbound", outbound)):
        if values:
            ElementTree.SubElement(root, tag, {key: str(value) for key, value in values.items()})
    return ElementTree.tostring(root, encoding="unicode")


def inbound_of(xml: str, path: str = "bandwidth/inbound") -> dict[str, int]:
    """The inbound values in a network's, a port's or an interface's XML."""
    found = ElementTree.fromstring(xml).find(path)
    return {} if found is None else {key: int(value) for key, value in found.attrib.items()}


def catchment_minimum(average: int) -> int:
    """What the catchment class keeps when the floors reach the limit (ε), in bytes per second."""
    return min(max(average * UNIT // 200, 1000), 125000)


def quantum(rate: int) -> int:
    """A class's turn of the surplus, in bytes: 50 ms of its rate (bytes per second), at least a frame."""
    return min(max(rate // 20, 1514), 1 << 28)


def tree_rates(inbound: Values, floors: list[int]) -> dict[str, int]:
    """What the tree of a network must have, in bytes per second."""
    average = int(inbound["average"])
    peak = int(inbound.get("peak", average))
    total = sum(floors)
    root = max(average * UNIT, total * UNIT + catchment_minimum(average))
    return {
        "root": root,
        "root ceil": max(peak * UNIT, root),
        "catchment": root - total * UNIT,
        "catchment ceil": max(peak * UNIT, root - total * UNIT),
        "ceil": peak * UNIT,
    }
