# SPDX-License-Identifier: LGPL-2.1-or-later
"""The fixtures are the lab's, which the tests of faults use too."""

import pytest

pytest.register_assert_rewrite("lab")
pytest_plugins = ["lab.fixtures"]
