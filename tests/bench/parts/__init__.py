# SPDX-License-Identifier: LGPL-2.1-or-later
"""The parts of the benchmark suite, one module each.

A part has a TITLE; measure(options), which runs it and returns what goes into its JSON file, a
dictionary with the list "goals" (see measuring.goal) and whatever else section() shows; and
section(results, page), which writes its section of the report from that dictionary alone.
"""

ALL = ("ports", "peer", "packets", "floors", "fairness", "restart", "growth")
"""In the order of the report."""

