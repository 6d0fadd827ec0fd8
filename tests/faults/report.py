# SPDX-License-Identifier: LGPL-2.1-or-later
"""Prints the figures that a run of the faults wrote (see conftest.py): report.py FILE"""

import json
import pathlib
import sys

FOLD = {"sum": sum, "highest": max, "lowest": min}

figures = {}
for line in pathlib.Path(sys.argv[1]).read_text().splitlines():
    figure = json.loads(line)
    figures.setdefault((figure["what"], figure["how"], figure["unit"]), []).append(figure["value"])
for (what, how, unit), values in sorted(figures.items()):
    value = FOLD[how](values)
    text = f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
    print(f"{what:<56} {text:>14} {unit}".rstrip())
