#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes docs/benchmarks.md and its plots from the JSON files of the benchmark suite, and from nothing else.

    report.py RESULTS_DIR DOCS_DIR           writes DOCS_DIR/benchmarks.md and DOCS_DIR/benchmarks/*.svg
    report.py --check RESULTS_DIR DOCS_DIR   fails if the text that stands there is another
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import json
import pathlib
import sys
from typing import Any, Iterable, Mapping, Sequence

sys.path[:0] = [str(pathlib.Path(__file__).parent), str(pathlib.Path(__file__).parents[1] / "e2e")]

import parts

Series = Mapping[str, Sequence[tuple[float, float]]]
"""Points (x, y) by what the legend calls them."""

INTRODUCTION = """\
# Benchmarks

`./run bench` measures, `./run bench report` writes this page from the results in
`docs/benchmarks`. Every figure that compares is a ratio of samples taken in one run, one after the other
in turn; it stands here as the median, with the 10th and the 90th percentile behind it. Times in
microseconds are for orientation: they are of one machine on one day.
"""


class Page:
    """Markdown, and the plots it shows. before: results by part, of the suite on the product as it was before what
    it showed was mended."""

    def __init__(self, before: Mapping[str, Any]) -> None:
        self.before = before
        self.text = INTRODUCTION
        self.plots: dict[str, tuple[dict[str, Any], Series]] = {}

    def heading(self, text: str, level: int = 2) -> None:
        self.text += f"\n{'#' * level} {text}\n"

    def paragraph(self, text: str) -> None:
        self.text += f"\n{text}\n"

    def table(self, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        self.text += "\n| " + " | ".join(header) + " |\n|" + "---|" * len(header) + "\n"
        for row in rows:
            self.text += "| " + " | ".join(map(str, row)) + " |\n"

    def plot(self, name: str, title: str, xlabel: str, ylabel: str, series: Series, **options: bool) -> None:
        """A line plot; options are logx and logy."""
        self.plots[name] = {"title": title, "xlabel": xlabel, "ylabel": ylabel, **options}, series
        self.text += f"\n![{title}](benchmarks/{name}.svg)\n"


def figure(value: Mapping[str, float], digits: int = 3) -> str:
    """A summary as a cell of a table."""
    text = f"{value['median']:.{digits}g}"
    if "low" in value:
        text += f" ({value['low']:.{digits}g} – {value['high']:.{digits}g})"
    return text


def bound(goal: Mapping[str, Any]) -> str:
    bounds = [f"≥ {goal['at_least']:g}"] if goal["at_least"] is not None else []
    bounds += [f"≤ {goal['at_most']:g}"] if goal["at_most"] is not None else []
    return ", ".join(bounds)


def write_plots(page: Page, folder: pathlib.Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.hashsalt": "libvirt-floor", "svg.fonttype": "none", "font.size": 9}
    from matplotlib import pyplot

    for name, (labels, series) in page.plots.items():
        drawing, axes = pyplot.subplots(figsize=(6, 3.4), layout="constrained")
        for legend, points in series.items():
            axes.plot([x for x, _ in points], [y for _, y in points], marker="o", markersize=3, label=legend)
        axes.set(title=labels["title"], xlabel=labels["xlabel"], ylabel=labels["ylabel"])
        if labels.get("logx"):
            axes.set_xscale("log")
        if labels.get("logy"):
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend()
        drawing.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
        pyplot.close(drawing)


def results_in(folder: pathlib.Path) -> dict[str, Any]:
    files = {name: folder / f"{name}.json" for name in parts.ALL}
    return {name: json.loads(path.read_text()) for name, path in files.items() if path.exists()}


def render(results_dir: pathlib.Path) -> Page:
    page = Page(results_in(results_dir / "before"))
    results = results_in(results_dir)
    page.heading("Goals")
    page.table(
        ("goal", "bound", "measured", "met"),
        [
            (goal["what"], bound(goal), figure(goal["figure"]), "yes" if goal["met"] else "**no**")
            for result in results.values()
            for goal in result["goals"]
        ],
    )
    for name, result in results.items():
        part = importlib.import_module(f"parts.{name}")
        page.heading(part.TITLE)
        part.section(result, page)
        machine = result["machine"]
        page.paragraph(
            f"<sub>{machine['processors']} × {machine['processor']}, kernel {machine['kernel']}, "
            f"libvirt {machine['libvirt']}; {result['seconds']} s{', short form' if result['quick'] else ''}.</sub>"
        )
    return page


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("results", type=pathlib.Path)
    parser.add_argument("docs", type=pathlib.Path)
    arguments = parser.parse_args()
    page = render(arguments.results)
    path = arguments.docs / "benchmarks.md"
    if arguments.check:
        stands = path.read_text()
        lines = stands.splitlines(True), page.text.splitlines(True)
        sys.stdout.writelines(difflib.unified_diff(*lines, str(path), "results"))
        return stands != page.text
    folder = arguments.docs / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(page.text)
    write_plots(page, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
