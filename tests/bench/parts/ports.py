# SPDX-License-Identifier: LGPL-2.1-or-later
"""Plug, change and unplug a port: our own part against bare netlink messages, and the whole call through
libvirtd with a floor against the same call without."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pathlib
import socket
import struct
import subprocess
import time
from typing import Any, Callable, Iterator, Mapping

import libvirt

from lab import workbench
from many_ports import FLOOR, fill, handle, network_of, port_xml
from measuring import Figure, Options, goal, ratio, summary

TITLE = "Plug, change, unplug"

OPERATIONS = {"plug": "plug", "update": "change of a floor", "unplug": "unplug"}
STAGES = {
    "promises": "admission, arithmetic, difference",
    "status": "status record",
    "messages": "building messages",
    "exchange": "kernel: from sending to the last answer",
}
OWN_GOAL, CALL_GOAL = 1.3, 1.1
SIZES, QUICK_SIZES = (1, 10, 100, 1000, 4000), (10, 1000)
CALLS = {"plug": "virNetworkPortCreateXML", "update": "virNetworkPortSetParameters", "unplug": "virNetworkPortDelete"}


def program(build_dir: pathlib.Path) -> pathlib.Path:
    return build_dir / "tests" / "bench" / "floor-bench"


def own_part(build_dir: pathlib.Path, rounds: int, sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """What floor-bench prints: samples in microseconds, by number of ports, operation and series."""
    argv = [str(program(build_dir)), str(rounds), *map(str, sizes)]
    return json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)


def summarised(size: dict[str, Any]) -> dict[str, Any]:
    """The samples of one number of ports as figures."""
    result: dict[str, Any] = {"ports": size["ports"]}
    for operation in OPERATIONS:
        series = size[operation]
        result[operation] = {name: summary(samples) for name, samples in series.items()}
        result[operation]["ours / bare"] = ratio(series["ours"], series["bare"])
        result[operation]["watched / bare"] = ratio(series["watched"], series["bare"])
    return result


def microseconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e6


class TypedParameter(ctypes.Structure):
    """virTypedParameter of an unsigned number (include/libvirt/libvirt-common.h)."""

    _fields_ = [("field", ctypes.c_char * 80), ("type", ctypes.c_int), ("value", ctypes.c_ulonglong)]


UNSIGNED_INT = 2  # VIR_TYPED_PARAM_UINT
PortPointer = ctypes.c_void_p


def parameter_setter(port: libvirt.virNetworkPort, values: Mapping[str, int]) -> Callable[[], int]:
    """virNetworkPortSetParameters, ready to be called: the Python binding asks for all parameters first."""
    pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    function = ctypes.CDLL("libvirt.so.0").virNetworkPortSetParameters
    function.argtypes = [PortPointer, ctypes.POINTER(TypedParameter), ctypes.c_int, ctypes.c_uint]
    entries = [TypedParameter(name.encode(), UNSIGNED_INT, value) for name, value in values.items()]
    parameters = (TypedParameter * len(entries))(*entries)
    pointer = pointer_of(port._o, b"virNetworkPortPtr")
    return lambda: function(pointer, parameters, len(entries), 0)


@contextlib.contextmanager
def bare_messages(build_dir: pathlib.Path, ports: int) -> Iterator[dict[str, Callable[[], object]]]:
    """Sends the bare messages for one more port, on a bridge with so many, by operation; "update back" takes an
    update back. The bridge is in a namespace of its own, where nobody listens."""
    argv = [str(program(build_dir)), "hold", str(ports)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        lines = [holder.stdout.readline() for _ in range(4)]
        with route_socket_of(holder.pid) as link:

            def sender(messages: bytes) -> Callable[[], None]:
                def send() -> None:
                    link.send(messages)
                    refused = struct.unpack_from("=i", link.recv(4096), 16)[0]  # struct nlmsgerr
                    assert refused == 0, os.strerror(-refused)

                return send

            names = ("plug", "update", "update back", "unplug")
            yield {name: sender(bytes.fromhex(line)) for name, line in zip(names, lines, strict=True)}
        holder.stdin.close()


def route_socket_of(pid: int) -> socket.socket:
    """A socket for the traffic control of the network namespace that a process is in."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/ns/net", "rb") as own, open(f"/proc/{pid}/ns/net", "rb") as other:
        if libc.setns(other.fileno(), 0) < 0:
            raise OSError(ctypes.get_errno(), "cannot enter the network namespace")
        try:
            link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            link.settimeout(ANSWER_S)
            return link
        finally:
            libc.setns(own.fileno(), 0)


ANSWER_S = 5
KINDS = ("with", "without", "without, and bare messages")


def whole_calls(network: libvirt.virNetwork, bare: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Any]:
    """Times of calls for one more port, in microseconds: with a floor, without, and without but with the bare messages
    sent after it, in turn."""
    samples: dict[str, dict[str, list[float]]] = {name: {kind: [] for kind in KINDS} for name in OPERATIONS}

    def life(kind: str) -> None:
        created: list[libvirt.virNetworkPort] = []
        results: list[int] = []
        floored = kind == "with"

        def time_of(operation: str, call: Callable[[], object], message: str) -> None:
            also = bare[message] if kind == KINDS[2] else lambda: None
            samples[operation][kind].append(microseconds(lambda: (call(), also())))

        xml = port_xml(1 << 20, FLOOR if floored else None, average=FLOOR)
        time_of("plug", lambda: created.append(network.portCreateXML(xml, 0)), "plug")
        (port,) = created
        for value, message in ((FLOOR + 1, "update"), (FLOOR, "update back")):
            names = ("inbound.average", "inbound.floor") if floored else ("inbound.average",)
            change = parameter_setter(port, dict.fromkeys(names, value))
            time_of("update", lambda: results.append(change()), message)
        time_of("unplug", lambda: port.delete(0), "unplug")
        assert results == [0, 0], libvirt.virGetLastErrorMessage()

    for number in range(rounds):
        for kind in KINDS[number % 3 :] + KINDS[: number % 3]:
            life(kind)
    return {
        name: {kind: summary(each[kind]) for kind in KINDS}
        | {
            "with / without": ratio(each["with"], each["without"]),
            "least": ratio(each[KINDS[2]], each["without"]),
        }
        for name, each in samples.items()
    }


def worst(sizes: list[dict[str, Any]], of: Callable[[dict[str, Any]], Figure]) -> Figure:
    return max((of(size) for size in sizes), key=lambda figure: figure["median"])


def measure(options: Options) -> dict[str, Any]:
    sizes = QUICK_SIZES if options.quick else SIZES
    rounds = 100 if options.quick else 1000
    own = [summarised(size) for size in own_part(options.build_dir, rounds, sizes)]
    with workbench() as bench, network_of(bench) as network, handle(network) as handled:
        plugged = 0
        for size in own:
            fill(handled, plugged, size["ports"])
            plugged = size["ports"]
            with bare_messages(options.build_dir, plugged) as bare:
                size["calls"] = whole_calls(handled, bare, 60 if options.quick else 400)
    reach = f"{sizes[0]} to {sizes[-1]} ports"
    goals = [
        goal(f"{what}: our part over bare netlink messages, worst of {reach}",
             worst(own, lambda size: size[name]["ours / bare"]), at_most=OWN_GOAL)
        for name, what in OPERATIONS.items()
    ]  # fmt: skip
    goals += [
        goal(f"{what}: the whole call with a floor over without, worst of {reach}",
             worst(own, lambda size: size["calls"][name]["with / without"]), at_most=CALL_GOAL)
        for name, what in OPERATIONS.items()
    ]  # fmt: skip
    return {"goals": goals, "sizes": own}


def micros(figure: Figure) -> str:
    return f"{figure['median']:.1f}"


def times(figure: Figure) -> str:
    return f"{figure['median']:.2f} ({figure['low']:.2f} – {figure['high']:.2f})"


def section(results: dict[str, Any], page: Any) -> None:
    sizes = results["sizes"]
    page.paragraph(
        "**Our part** is what the plugin does for a port with a floor, from admission to the kernel's answer. "
        "**Bare** is a "
        "minimal program that sends ready-made messages (three for a plug or an unplug, two for a change), in "
        "one send, and "
        "takes one answer: nothing with a class of its own for each guest can do with less. Both work on equal "
        "bridges in "
        "turn. µs, medians."
    )
    page.table(
        ("operation", "ports", "bare", "our part", "ours / bare", "listened to / bare"),
        [
            (what, size["ports"], micros(size[name]["bare"]), micros(size[name]["ours"]),
             times(size[name]["ours / bare"]), times(size[name]["watched / bare"]))
            for name, what in OPERATIONS.items()
            for size in sizes
        ],
    )  # fmt: skip
    page.paragraph(
        "In the last column a socket listens to the kernel's notices of traffic control, as the module itself "
        "does to see "
        "what others change: the kernel then makes a notice of each message, and drops it where it is our own."
    )
    page.heading("Where the time of our part goes", 3)
    page.paragraph("Our part put together from its pieces, with a clock between them. µs, medians.")
    page.table(
        ("operation", "ports", *STAGES.values()),
        [
            (what, size["ports"], *(micros(size[name][stage]) for stage in STAGES))
            for name, what in OPERATIONS.items()
            for size in sizes
        ],
    )
    own_misses(sizes, page)
    if before := page.before.get("ports"):
        page.heading("Before and after", 3)
        page.paragraph(
            "Our part over the bare messages, by the same program: before, with an answer to each message, messages "
            "built by libnl and received answers copied; and now, with one answer a send, and messages built in place. "
            "From two runs."
        )
        page.table(
            ("operation", "ports", "before", "now"),
            [
                (what, new["ports"], times(old[name]["ours / bare"]), times(new[name]["ours / bare"]))
                for name, what in OPERATIONS.items()
                for old, new in zip(before["sizes"], sizes, strict=True)
            ],
        )
    page.heading("What grows in the kernel", 3)
    first, last = sizes[0], sizes[-1]
    page.paragraph(
        "Each message by itself, sent and answered. To add or to delete a class, the kernel walks all classes of "
        "the device "
        "(tc_bind_tclass in net/sched/sch_api.c): from "
        f"{first['ports']} to {last['ports']} ports the new class goes from {micros(first['plug']['class'])} to "
        f"{micros(last['plug']['class'])} µs, a change of one that is there from "
        f"{micros(first['plug']['change of a class'])} to {micros(last['plug']['change of a class'])} µs."
    )
    page.table(
        ("ports", "class added", "class deleted", "class changed", "filter added", "filter deleted"),
        [
            (size["ports"], micros(size["plug"]["class"]), micros(size["unplug"]["class"]),
             micros(size["plug"]["change of a class"]), micros(size["plug"]["filter"]),
             micros(size["unplug"]["filter"]))
            for size in sizes
        ],
    )  # fmt: skip
    page.plot(
        "ports-plug", "One plug", "ports with a floor that are there", "µs",
        {
            "bare netlink messages": [(size["ports"], size["plug"]["bare"]["median"]) for size in sizes],
            "our part": [(size["ports"], size["plug"]["ours"]["median"]) for size in sizes],
            "whole call, without a floor": [
                (size["ports"], size["calls"]["plug"]["without"]["median"]) for size in sizes
            ],
            "whole call, with a floor": [(size["ports"], size["calls"]["plug"]["with"]["median"]) for size in sizes],
        },
        logx=True, logy=True,
    )  # fmt: skip
    page.heading("The whole call through libvirtd", 3)
    page.paragraph(
        "The same call with a floor and without, in turn, through a client's connection. *Least* is what the "
        "ratio is if all "
        "that a floor costs is the bare messages: in turn with the two others, the client makes the call without "
        "a floor, "
        "and then sends the bare messages itself, on a bridge with as many ports. µs, medians."
    )
    page.table(
        ("call", "ports", "without", "with a floor", "with / without", "least"),
        [
            (f"`{CALLS[name]}`", size["ports"], micros(size["calls"][name]["without"]),
             micros(size["calls"][name]["with"]), times(size["calls"][name]["with / without"]),
             times(size["calls"][name]["least"]))
            for name in OPERATIONS
            for size in sizes
        ],
    )  # fmt: skip
    call_misses(sizes, page)


def own_misses(sizes: list[dict[str, Any]], page: Any) -> None:
    """Why our part is above its goal, where it is."""
    for name, what in OPERATIONS.items():
        missed = [size for size in sizes if size[name]["ours / bare"]["median"] > OWN_GOAL]
        if not missed:
            continue
        size = max(missed, key=lambda size: size[name]["ours / bare"]["median"])
        figures = size[name]
        over = figures["ours"]["median"] - figures["bare"]["median"]
        with_record = (figures["bare"]["median"] + figures["status"]["median"]) / figures["bare"]["median"]
        page.paragraph(
            f"{what.capitalize()} misses the goal of {OWN_GOAL} at "
            + ", ".join(str(size["ports"]) for size in missed)
            + f" ports. At {size['ports']}, where it is worst, ours takes {over:.1f} µs more than the bare "
            "messages. In "
            f"stages: {micros(figures['status'])} the status record, without which a crash loses the floor, "
            f"{micros(figures['promises'])} admission and arithmetic, {micros(figures['messages'])} the building "
            "of messages "
            "that the minimal program finds ready-made. With the bare messages and the record alone the ratio were "
            f"{with_record:.2f}."
        )


def call_misses(sizes: list[dict[str, Any]], page: Any) -> None:
    """Why a whole call is above its goal, where it is."""
    over = [
        (name, size) for name in OPERATIONS for size in sizes
        if size["calls"][name]["with / without"]["median"] > CALL_GOAL
    ]  # fmt: skip
    if not over:
        return
    bound = [(name, size) for name, size in over if size["calls"][name]["least"]["median"] > CALL_GOAL]
    rest = [each for each in over if each not in bound]
    text = f"The goal of {CALL_GOAL} is missed {len(over)} times. "
    if bound:
        text += (
            f"In {len(bound)} of them the bare messages alone are above it ({shortfall(bound)}): no program can "
            "meet it "
            "there, as long as each guest has a class of its own. "
        )
    if rest:
        text += f"In the other {len(rest)} our part is what is too much: {shortfall(rest)}."
    page.paragraph(text)


def shortfall(calls: list[tuple[str, dict[str, Any]]]) -> str:
    """Ratios, and the least they could be."""
    return ", ".join(
        f"{OPERATIONS[name]} at {size['ports']} ports {size['calls'][name]['with / without']['median']:.2f}, "
        f"least {size['calls'][name]['least']['median']:.2f}"
        for name, size in calls
    )
