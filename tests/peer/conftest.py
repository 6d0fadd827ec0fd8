# SPDX-License-Identifier: LGPL-2.1-or-later
"""The fixtures are the lab's. These tests run in the virtual machine's sandbox (./run test peer)."""

import pytest

pytest.register_assert_rewrite("lab", "test_network", "test_plug", "test_takeover", "test_traffic", "test_update")
pytest_plugins = ["lab.fixtures"]
