# SPDX-License-Identifier: LGPL-2.1-or-later
"""virt-floor exporter, and a Prometheus server that scrapes it."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, Iterator, Optional

from lab import wait_until
from prometheus_client.parser import text_string_to_metric_families

ROOT = pathlib.Path(__file__).parents[2]
MONITORING = ROOT / "docs" / "monitoring"
# Debian's binaries, unpacked by ./run test.
PROMETHEUS_BIN = pathlib.Path(os.environ.get("BUILD_DIR", "build")).absolute() / "prometheus"
INTERFACE = "virt_floor_interface_"


class Metrics:
    """What a scrape gave."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = list(text_string_to_metric_families(text))
        self.samples = [sample for family in self.families for sample in family.samples]

    def values(self, name: str, **labels: str) -> list[float]:
        """Of all series of that name that have these labels."""
        return [s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items()]

    def value(self, name: str, **labels: str) -> float:
        """Of the only one."""
        (found,) = self.values(name, **labels)
        return found

    def labels(self, name: str, **labels: str) -> list[dict[str, str]]:
        return [s.labels for s in self.samples if s.name == name and labels.items() <= s.labels.items()]

    def names(self) -> set[str]:
        """Of series, as queries name them."""
        return {sample.name for sample in self.samples}


class Exporter:
    def __init__(self, process: subprocess.Popen[str], errors: pathlib.Path) -> None:
        self.process, self._errors = process, errors
        line = process.stdout.readline()
        found = re.search(r"http://\S+(?=/metrics)", line)
        assert found, f"it does not say where it is: {line!r} {self.errors()!r}"
        self.url = found[0]

    def scrape(self, seconds: float = 10) -> Metrics:
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=seconds) as answer:
            assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
            return Metrics(answer.read().decode())

    def ask(self, path: str, method: str = "GET", body: Optional[bytes] = None) -> int:
        """The status of an answer."""
        try:
            request = urllib.request.Request(self.url + path, method=method, data=body)
            with urllib.request.urlopen(request, timeout=10) as answer:
                answer.read()
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    def errors(self) -> list[str]:
        """What it said on stderr."""
        return self._errors.read_text().splitlines()


@contextlib.contextmanager
def exporter(*options: str, user: Optional[int] = None, listen: str = "127.0.0.1:0") -> Iterator[Exporter]:
    """It runs while the block lasts, and must end by SIGTERM with 0."""
    with tempfile.TemporaryDirectory() as folder:
        errors = pathlib.Path(folder, "stderr")
        with errors.open("w") as stderr:
            process = subprocess.Popen(
                ["virt-floor", "exporter", "--listen", listen, *options],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
                env={**os.environ, "LC_ALL": "C.UTF-8"},
            )
        try:
            yield Exporter(process, errors)
            process.terminate()
            assert process.wait(10) == 0
        finally:
            process.kill()
            process.communicate()


class Prometheus:
    URL = "http://127.0.0.1:9090/api/v1"

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that it has for it now."""
        data = urllib.parse.urlencode({"query": expression}).encode()
        try:
            with urllib.request.urlopen(f"{self.URL}/query", data=data, timeout=10) as answer:
                return json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            if error.code == 503:  # it only starts
                raise
            raise AssertionError(f"{expression}: {error.read().decode()}") from error

    def value(self, expression: str) -> Optional[float]:
        """Of the only series, nothing as long as it has none, or does not answer yet."""
        try:
            found = self.query(expression)
        except urllib.error.URLError:
            return None
        return float(found[0]["value"][1]) if len(found) == 1 else None


@contextlib.contextmanager
def prometheus(config: str) -> Iterator[Prometheus]:
    """A server with the configuration, whose rule files are those of the documentation."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "prometheus.yml")
        file.write_text(config.replace("alerts.yml", str(MONITORING / "alerts.yml")))
        log = pathlib.Path(folder, "log")
        with log.open("w") as output:
            process = subprocess.Popen(
                [
                    PROMETHEUS_BIN / "prometheus",
                    f"--config.file={file}",
                    f"--storage.tsdb.path={folder}/data",
                    "--web.listen-address=127.0.0.1:9090",
                ],
                stdout=output,
                stderr=output,
            )
        try:
            server = Prometheus()
            wait_until("Prometheus answers", lambda: server.value("vector(1)") == 1, seconds=30)
            yield server
        except AssertionError as error:
            error.args = (f"{error}\n{log.read_text()[-2000:]}",)
            raise
        finally:
            process.terminate()
            process.wait(30)


def promtool(*args: str, stdin: str = "") -> str:
    """What it printed, where it must be content."""
    done = subprocess.run(
        [PROMETHEUS_BIN / "promtool", *args], input=stdin, capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
