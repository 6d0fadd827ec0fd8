# SPDX-License-Identifier: LGPL-2.1-or-later
"""virt-floor exporter: figures are those of the kernel at the moment of the scrape, whatever becomes of libvirt."""

from __future__ import annotations

import re
import signal
import socket
import time
import urllib.parse

import pytest
from lab import Workbench, daemon, kernel, run, status, wait_until
from lab.traffic import Flood, send_frames
from scraping import INTERFACE, Exporter, Metrics, exporter
from virt_floor import UNPRIVILEGED, fails

CATCHMENT = "virt_floor_catchment_"
NETWORK = "virt_floor_network_"


def tc_counters(device: str, class_id: int) -> tuple[int, int, int, str, int]:
    """Sent bytes and packets, drops, backlog in tc's words, and packets in it, by tc(8): of a class, or of its queue
    where that dropped more."""
    found = []
    for kind, head in (("class", rf"class htb 1:{class_id:x} "), ("qdisc", rf"qdisc \S+ \S+ parent 1:{class_id:x} ")):
        text = run("tc", "-s", kind, "show", "dev", device)
        match = re.search(
            rf"^{head}.*?Sent (\d+) bytes (\d+) pkt \(dropped (\d+),.*?backlog (\S+) (\d+)p",
            text,
            re.MULTILINE | re.DOTALL,
        )
        if match:
            found.append(match)
    sent, packets, drops, backlog, queued = found[0].groups()
    return int(sent), int(packets), max(int(each[3]) for each in found), backlog, int(queued)


def check_class(metrics: Metrics, prefix: str, labels: dict[str, str], device: str, class_id: int) -> None:
    """A class whose counters stand still."""
    expected = kernel.tc_classes(device)[class_id]
    sent, packets, drops, _, queued = tc_counters(device, class_id)
    assert metrics.value(f"{prefix}sent_bytes_total", **labels) == sent == expected.bytes
    assert metrics.value(f"{prefix}sent_packets_total", **labels) == packets
    assert metrics.value(f"{prefix}dropped_packets_total", **labels) == drops
    assert metrics.value(f"{prefix}backlog_packets", **labels) == queued
    assert metrics.value(f"{prefix}rate_bytes_per_second", **labels) == expected.rate
    assert metrics.value(f"{prefix}ceil_bytes_per_second", **labels) == expected.ceil


def test_interfaces_are_as_the_kernel_counts_them(lab: Workbench) -> None:
    network = lab.network(average=4000, peak=8000)
    floored, plain = network.nic(floor=500), network.nic()
    guest = lab.lxc(floored)
    lab.lxc(plain)
    send_frames(network.bridge, floored.mac, 20)
    send_frames(network.bridge, plain.mac, 10)

    with exporter() as served:
        metrics = served.scrape()
        class_id = floored.class_id()

        (labels,) = metrics.labels(f"{INTERFACE}floor_bytes_per_second")
        assert labels == {
            "network": network.name,
            "domain": guest.name,
            "mac": floored.mac,
            "device": guest.device(floored),
            "class": f"1:{class_id:x}",
        }
        assert metrics.value(f"{INTERFACE}floor_bytes_per_second") == 500_000
        # Neighbour discovery may send a packet at any time.
        deadline = time.monotonic() + 10
        while True:
            try:
                metrics = served.scrape()
                check_class(metrics, INTERFACE, labels, network.bridge, class_id)
                check_class(metrics, CATCHMENT, {"network": network.name}, network.bridge, 2)
                break
            except AssertionError:
                if time.monotonic() > deadline:
                    raise
        assert metrics.value(f"{INTERFACE}sent_packets_total") >= 60
        assert metrics.value(f"{CATCHMENT}sent_packets_total") >= 30
        assert metrics.value(f"{NETWORK}sent_bytes_total") >= metrics.value(f"{INTERFACE}sent_bytes_total") > 0


def test_networks_tell_what_they_promised_and_can_promise(lab: Workbench) -> None:
    network, without_peak = lab.network(average=4000, peak=8000), lab.network(average=1000, peak=None)
    lab.plain_network()
    lab.qemu(network.nic(floor=500), network.nic(floor=1500), network.nic())

    with exporter() as served:
        metrics = served.scrape()

    def of(figure: str, name: str = network.name) -> list[float]:
        return metrics.values(NETWORK + figure, network=name)

    assert of("average_bytes_per_second") == [4_000_000]
    assert of("peak_bytes_per_second") == of("limit_bytes_per_second") == [8_000_000]
    assert of("promised_bytes_per_second") == [2_000_000]
    assert of("free_bytes_per_second") == [6_000_000]
    assert of("floors") == [2]
    assert of("interfaces") == [3]
    assert of("peak_bytes_per_second", without_peak.name) == []
    assert of("limit_bytes_per_second", without_peak.name) == [1_000_000]
    assert of("promised_bytes_per_second", without_peak.name) == [0]
    assert len(metrics.values(f"{NETWORK}floors")) == 2, "a network that gives no floors is left out"


def test_traffic_drops_and_backlog_are_counted(lab: Workbench) -> None:
    network = lab.network(average=1000, peak=None)
    nic = network.nic(floor=500)
    lab.lxc(nic)
    with exporter() as served:
        # Many sockets: one alone waits before the queue is full.
        with Flood([nic.ip4] * 16, bytes_per_second=300_000):
            wait_until("packets are dropped", lambda: served.scrape().value(f"{INTERFACE}dropped_packets_total") > 0)
            before, start = served.scrape(), time.monotonic()
            time.sleep(1)  # to measure over
            after, seconds = served.scrape(), time.monotonic() - start

        assert after.value(f"{INTERFACE}backlog_bytes") > 0
        assert after.value(f"{INTERFACE}backlog_packets") > 0
        sent = after.value(f"{INTERFACE}sent_bytes_total") - before.value(f"{INTERFACE}sent_bytes_total")
        assert sent / seconds == pytest.approx(1_000_000, rel=0.2)
        # It dropped the rest, and then stands still.
        assert served.scrape().value(f"{INTERFACE}dropped_packets_total") == tc_counters(network.bridge, nic.class_id())[2]


def test_what_is_plugged_appears_and_what_is_unplugged_goes(lab: Workbench) -> None:
    network = lab.network()
    first = network.nic(floor=500)
    guest = lab.lxc(first)
    with exporter() as served:

        def interfaces() -> dict[str, tuple[str, float]]:
            metrics = served.scrape()
            return {
                labels["mac"]: (labels["device"], metrics.value(f"{INTERFACE}floor_bytes_per_second", **labels))
                for labels in metrics.labels(f"{INTERFACE}floor_bytes_per_second")
            }

        assert set(interfaces()) == {first.mac}
        second = network.nic(floor=700)
        guest.attach(second)
        assert interfaces() == {first.mac: (guest.device(first), 500_000), second.mac: (guest.device(second), 700_000)}
        second.tune(floor=900)
        assert interfaces()[second.mac][1] == 900_000
        guest.detach(second)
        assert set(interfaces()) == {first.mac}
        guest.destroy()
        assert interfaces() == {}
        assert not any(first.mac in line for line in served.scrape().text.splitlines()), "a stale series"
        network.destroy()
        assert served.scrape().values(f"{NETWORK}floors") == []
        network.start()
        assert served.scrape().values(f"{NETWORK}floors") == [0]


def test_interface_that_is_updated_stays_one_series(lab: Workbench) -> None:
    network = lab.network()
    nic = network.nic(floor=500)
    ports = [network.create_port(nic), network.create_port(nic)]  # as the QEMU driver does for a moment
    with exporter() as served:
        metrics = served.scrape()
    assert metrics.values(f"{INTERFACE}floor_bytes_per_second") == [500_000]
    assert metrics.values(f"{NETWORK}floors") == [2]
    assert metrics.values(f"{NETWORK}promised_bytes_per_second") == [500_000]
    for port in ports:
        network.delete_port(port)


def test_inventory_is_read_again_only_after_a_change(lab: Workbench) -> None:
    network = lab.network()
    lab.qemu(network.nic(floor=500))

    with exporter() as served:

        def read_at() -> float:
            return served.scrape().value("virt_floor_inventory_timestamp_seconds")

        # After the start, what has no domain is asked for again some times.
        wait_until("it is not read again", lambda: read_at() == read_at(), seconds=20)
        known = read_at()
        network.create_port(nic := network.nic(floor=100))
        assert read_at() > known
        network.delete_port(nic.port())


def test_restart_of_libvirtd_is_survived(lab: Workbench, libvirtd: object) -> None:
    network = lab.network()
    nic = network.nic(floor=500)
    guest = lab.lxc(nic)
    with exporter() as served:
        before = served.scrape()
        assert before.value("virt_floor_libvirt_up") == 1

        daemon.stop()
        send_frames(network.bridge, nic.mac, 10)
        down = served.scrape()
        assert down.value("virt_floor_libvirt_up") == 0
        assert down.value("virt_floor_scrape_collector_success", collector="libvirt") == 0
        # The last inventory, and the kernel's counters, which go on.
        assert down.labels(f"{INTERFACE}floor_bytes_per_second") == before.labels(f"{INTERFACE}floor_bytes_per_second")
        sent = f"{INTERFACE}sent_packets_total"
        assert down.value(sent, domain=guest.name) >= before.value(sent, domain=guest.name) + 30
        served.scrape()
        assert len(served.errors()) == 1, "a problem is told once"
        assert "libvirt" in served.errors()[0]

        daemon.start()
        up = served.scrape()
        assert up.value("virt_floor_libvirt_up") == 1
        assert up.value(sent, domain=guest.name) >= down.value(sent, domain=guest.name)
        second = network.nic(floor=100)
        guest.attach(second)
        assert len(served.scrape().labels(f"{INTERFACE}floor_bytes_per_second")) == 2


def test_started_without_libvirtd_it_reads_status_files(lab: Workbench, libvirtd: object) -> None:
    network = lab.network()
    nic = network.nic(floor=500)
    guest = lab.lxc(nic)
    daemon.stop()
    with exporter() as served:
        metrics = served.scrape()
        assert metrics.value("virt_floor_libvirt_up") == 0
        assert metrics.value(f"{INTERFACE}floor_bytes_per_second", mac=nic.mac, domain=guest.name) == 500_000
        assert metrics.values(f"{INTERFACE}sent_bytes_total", mac=nic.mac)
        daemon.start()
        assert served.scrape().value("virt_floor_libvirt_up") == 1


def test_daemon_that_hangs_holds_up_nobody(lab: Workbench) -> None:
    network = lab.network()
    nic = network.nic(floor=500)
    lab.lxc(nic)
    with exporter() as served:
        served.scrape()
        with daemon.frozen():
            start = time.monotonic()
            for _ in range(2):
                metrics = served.scrape()
                assert metrics.value("virt_floor_libvirt_up") == 0
                assert metrics.values(f"{INTERFACE}sent_bytes_total", mac=nic.mac)
            assert time.monotonic() - start < 9
        wait_until("libvirt answers again", lambda: served.scrape().value("virt_floor_libvirt_up") == 1)


def test_it_ends_while_the_daemon_hangs(lab: Workbench) -> None:
    with exporter() as served, daemon.frozen():
        assert served.scrape().value("virt_floor_libvirt_up") == 0
        served.process.terminate()
        assert served.process.wait(5) == 0


def test_refusals_repairs_and_condition_are_told_to_root(lab: Workbench) -> None:
    network = lab.network(average=1000, peak=None)
    nic = network.nic(floor=600)
    lab.qemu(nic)
    with exporter() as served:
        metrics = served.scrape()
        assert metrics.value(f"{NETWORK}refusals_total") == 0
        assert metrics.value(f"{NETWORK}repairs_total") == 0

        lab.described_qemu(network.nic(floor=600)).create_fails()
        assert served.scrape().value(f"{NETWORK}refusals_total") == 1

        run("tc", "qdisc", "del", "dev", network.bridge, "root")
        wait_until("it is counted", lambda: served.scrape().value(f"{NETWORK}repairs_total") == 1)
        assert served.scrape().value(f"{INTERFACE}rate_bytes_per_second") == 600_000
        states = {
            labels["state"]: metrics.value(f"{NETWORK}condition", **labels)
            for labels in metrics.labels(f"{NETWORK}condition")
        }
        assert states == {"kept": 1, "contested": 0, "broken": 0, "absent": 0}


def test_lost_bridge_is_a_condition(lab: Workbench) -> None:
    network = lab.network()
    lab.qemu(network.nic(floor=500))
    with exporter() as served:
        run("ip", "link", "del", network.bridge)
        wait_until("it is told", lambda: served.scrape().value(f"{NETWORK}condition", state="absent") == 1)
        metrics = served.scrape()
        assert metrics.value(f"{NETWORK}condition", state="kept") == 0
        assert metrics.value(f"{INTERFACE}floor_bytes_per_second") == 500_000
        assert metrics.values(f"{INTERFACE}rate_bytes_per_second") == []
        assert metrics.value("virt_floor_scrape_collector_success", collector="kernel") == 1


def test_unprivileged_it_lacks_what_only_root_may_read(lab: Workbench) -> None:
    network = lab.network()
    nic = network.nic(floor=500)
    lab.lxc(nic)
    with exporter(user=UNPRIVILEGED) as served:
        for _ in range(3):
            metrics = served.scrape()
        assert metrics.value(f"{INTERFACE}floor_bytes_per_second", mac=nic.mac) == 500_000
        assert metrics.values(f"{INTERFACE}sent_bytes_total", mac=nic.mac)
        for absent in ("refusals_total", "repairs_total", "condition"):
            assert metrics.values(NETWORK + absent) == []
        assert metrics.value("virt_floor_scrape_collector_success", collector="status") == 0
        (warning,) = served.errors()
        assert "only root" in warning and str(status.STATUS_DIR) in warning


def test_names_are_escaped(lab: Workbench) -> None:
    name = 'R&D "<Büro>"\'s \\ 研究'
    lab.network(name=name)
    with exporter() as served:
        metrics = served.scrape()
    assert metrics.labels(f"{NETWORK}limit_bytes_per_second") == [{"network": name}]


@pytest.mark.parametrize("address", ["127.0.0.1", "[::1]", "0.0.0.0"])
def test_it_listens_where_it_is_told_and_nowhere_else(address: str) -> None:
    with exporter(listen=f"{address}:0") as served:
        port = urllib.parse.urlsplit(served.url).port
        listeners = {line.split()[3] for line in run("ss", "-Hltn").splitlines() if line.split()[3].endswith(f":{port}")}
        assert listeners == {f"{address}:{port}"}
        assert served.scrape().value("virt_floor_build_info") == 1


def test_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        error = fails(3, "exporter", "--listen", address)
    assert address in error and "in use" in error


@pytest.mark.parametrize(
    "address", ["", "localhost:1", ":1", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "::1:80", "[127.0.0.1]:1", "1,2:3"]
)
def test_address_must_be_one(address: str) -> None:
    assert "--listen" in fails(2, "exporter", "--listen", address)


def test_both_signals_end_it_well() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        with exporter() as served:
            served.process.send_signal(number)
            assert served.process.wait(10) == 0
            assert served.errors() == []


def test_odd_requests_are_refused_and_survived() -> None:
    with exporter() as served:
        assert served.ask("/") == 200
        assert served.ask("/metrics", "HEAD") == 200
        for path in ("/metric", "/metrics/", "/../../etc/passwd", "/" + "x" * 5000):
            assert served.ask(path) == 404, path
        assert served.ask("/metrics?x=" + "y" * 1000) == 200
        assert served.ask("/%00") in (200, 404)
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE"):
            assert served.ask("/metrics", method, b"x" * 100) == 405
        assert served.ask("/metrics", body=b"x" * 100, method="GET") == 400
        hurl(served, b"\0\xff" * 1000 + b"\r\n\r\n")
        hurl(served, b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\n\r\n")
        hurl(served, b"GET /metrics HTTP/1.1\r\n" + b"A: b\r\n" * 100_000 + b"\r\n")
        hurl(served, b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n")
        assert served.scrape().value("virt_floor_build_info") == 1


def hurl(served: Exporter, request: bytes) -> None:
    """Sends it, and waits for whatever comes, be it the end."""
    address = urllib.parse.urlsplit(served.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as link:
        try:
            link.sendall(request)
            link.shutdown(socket.SHUT_WR)
            while link.recv(65536):
                pass
        except OSError:
            pass  # it refused to read on


def test_clients_that_send_nothing_hold_up_nobody() -> None:
    with exporter() as served:
        address = urllib.parse.urlsplit(served.url)
        links = [socket.create_connection((address.hostname, address.port)) for _ in range(20)]
        for link in links:
            link.sendall(b"GET /metrics HTTP/1.1\r\n")
        assert served.scrape(5).value("virt_floor_build_info") == 1
        for link in links:
            link.close()


def test_many_interfaces_are_told_quickly(lab: Workbench) -> None:
    network = lab.network(average=400_000, peak=None)
    ports = [network.create_port(network.nic(mac=f"52:54:00:aa:00:{i:02x}", floor=100)) for i in range(200)]
    with exporter() as served:
        served.scrape()
        start = time.monotonic()
        assert len(served.scrape().values(f"{INTERFACE}sent_bytes_total")) == 200
        assert time.monotonic() - start < 3
    for port in ports:
        network.delete_port(port)
