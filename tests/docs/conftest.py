# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether what the documentation shows is so. It uses the lab of the e2e tests."""

from __future__ import annotations

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "e2e"))
pytest.register_assert_rewrite("lab")
pytest_plugins = ["lab.fixtures"]
