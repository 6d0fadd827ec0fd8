# SPDX-License-Identifier: LGPL-2.1-or-later
"""docs/monitoring.md and what it comes with: rules, dashboard and scrape configuration agree with a real scrape."""

from __future__ import annotations

import json
import re
from typing import Any, Iterator

from lab import Workbench, wait_until
from scraping import MONITORING, ROOT, Metrics, exporter, prometheus, promtool
from prometheus_client.metrics_core import Metric

PAGE = ROOT / "docs" / "monitoring.md"
CONFIG = (MONITORING / "prometheus.yml").read_text()
RULES = (MONITORING / "alerts.yml").read_text()
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
ADDRESS = "127.0.0.1:19753"  # where it listens unless it is told otherwise


def full_scrape(lab: Workbench) -> Metrics:
    """With all metrics that there are."""
    network = lab.network(average=4000, peak=8000)
    lab.lxc(network.nic(floor=500))
    with exporter() as served:
        return served.scrape()


def expressions(node: Any) -> Iterator[str]:
    """All queries of the dashboard."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("expr", "definition") and isinstance(value, str):
                yield value
            else:
                yield from expressions(value)
    elif isinstance(node, list):
        for value in node:
            yield from expressions(value)


def names_in(text: str) -> set[str]:
    return set(re.findall(r"\bvirt_floor_\w+", text))


def name_of(family: Metric) -> str:
    """As it stands in a scrape; the parser takes a counter's ending off."""
    return family.name + ("_total" if family.type == "counter" else "")


def test_promtool_is_content_with_a_scrape(lab: Workbench) -> None:
    promtool("check", "metrics", stdin=full_scrape(lab).text)


def test_each_alert_fires_when_it_should_and_only_then() -> None:
    promtool("check", "rules", "docs/monitoring/alerts.yml")
    promtool("check", "config", "docs/monitoring/prometheus.yml")
    promtool("test", "rules", "tests/tool/alerts_test.yml")


def test_each_alert_is_tested_both_ways_and_told_of() -> None:
    cases = (ROOT / "tests" / "tool" / "alerts_test.yml").read_text()
    for alert in re.findall(r"- alert: (\w+)", RULES):
        asked = re.findall(rf"alertname: {alert}\n\s+exp_alerts:(.*)\n", cases)
        assert "" in asked, f"no case in which {alert} fires"
        assert f"`{alert}`" in PAGE.read_text()


def test_rules_and_dashboard_name_metrics_that_there_are(lab: Workbench) -> None:
    known = full_scrape(lab).names()
    in_rules = names_in("\n".join(re.findall(r"^        expr:(.*?)^        \w", RULES, re.MULTILINE | re.DOTALL)))
    in_dashboard = names_in("\n".join(expressions(DASHBOARD)))
    assert len(in_rules) >= 9 and len(in_dashboard) >= 15
    assert in_rules - known == set()
    assert in_dashboard - known == set()



def test_the_page_lists_all_metrics(lab: Workbench) -> None:
    rows = [
        f"| `{name_of(family)}` | {family.type} | {', '.join(f'`{label}`' for label in family.samples[0].labels)} | "
        f"{family.documentation} |"
        for family in full_scrape(lab).families
    ]
    written = [line for line in PAGE.read_text().splitlines() if line.startswith("| `virt_floor_")]
    assert sorted(written) == sorted(rows), "the table should be:\n" + "\n".join(sorted(rows))


def test_a_prometheus_server_has_the_figures(lab: Workbench) -> None:
    network = lab.network(average=4000, peak=8000)
    nic = network.nic(floor=500)
    guest = lab.lxc(nic)
    assert ADDRESS in CONFIG
    config = CONFIG.replace("scrape_interval: 15s", "scrape_interval: 1s\n  evaluation_interval: 1s")
    with exporter(listen=ADDRESS), prometheus(config) as server:
        floor = f'virt_floor_interface_floor_bytes_per_second{{domain="{guest.name}"}}'
        wait_until("the server has the floor", lambda: server.value(floor) == 500_000, seconds=30)
        assert server.value('up{job="virt-floor"}') == 1
        check_dashboard(server.query)
        # And an alert of its: all is promised.
        lab.lxc(network.nic(floor=7500))
        alert = 'ALERTS{alertname="VirtFloorCapacityNearlyPromised",alertstate="pending"}'
        wait_until("the server has the alert", lambda: server.query(alert), seconds=30)


def check_dashboard(query: Any) -> None:
    """All its queries are sound, and those with figures of now have some."""
    found = list(expressions(DASHBOARD["panels"]))
    assert len(found) >= 15
    for expression in found:
        for variable in ("instance", "network", "domain"):
            expression = expression.replace(f"${variable}", ".*")
        expression = expression.replace("$__rate_interval", "1m")
        assert "$" not in expression, "a variable that the dashboard does not have"
        answer = query(expression)
        if "[" not in expression:
            assert answer, f"no figure for {expression}"


def test_the_dashboard_has_the_variables_that_it_uses() -> None:
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    text = json.dumps(DASHBOARD)
    used = set(re.findall(r"\$\{?(\w+)", text)) - {"__rate_interval", "__all"}
    assert used == variables == {"datasource", "instance", "network", "domain"}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
