# SPDX-License-Identifier: LGPL-2.1-or-later
"""virt-floor, as a person runs it, in the lab of the e2e tests."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "e2e"))
pytest.register_assert_rewrite("lab", "virt_floor")
pytest_plugins = ["lab.fixtures"]
