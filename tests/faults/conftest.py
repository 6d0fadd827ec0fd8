# SPDX-License-Identifier: LGPL-2.1-or-later
"""Trouble of each kind, made to happen many times. It uses the lab of the e2e tests, and reports figures.

VIRFLOOR_LONG=1 in the environment asks for the long form: more rounds, longer loads.
FAULT_REPORT names a file that the figures are added to, a line of JSON each: {"what": …, "how": …,
"value": …, "unit": …}; `./run test faults` prints them in one table.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
from typing import Union

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "e2e"))
pytest.register_assert_rewrite("lab")
pytest.register_assert_rewrite("rig")
pytest_plugins = ["lab.fixtures", "rig"]

Number = Union[int, float]


class Report:
    """Figures of a run. Those of the same name are added up, or the worst of them counts."""

    def count(self, what: str, value: Number = 1, unit: str = "") -> None:
        self._write(what, "sum", value, unit)

    def highest(self, what: str, value: Number, unit: str = "") -> None:
        self._write(what, "highest", value, unit)

    def lowest(self, what: str, value: Number, unit: str = "") -> None:
        self._write(what, "lowest", value, unit)

    def _write(self, what: str, how: str, value: Number, unit: str) -> None:
        path = os.environ.get("FAULT_REPORT")
        if path:
            with open(path, "a") as file:
                file.write(json.dumps({"what": what, "how": how, "value": value, "unit": unit}) + "\n")


@pytest.fixture(scope="session")
def report() -> Report:
    return Report()


@pytest.fixture(scope="session")
def long_form() -> bool:
    """Whether the long form was asked for, which takes hours rather than minutes."""
    return os.environ.get("VIRFLOOR_LONG") == "1"
