# SPDX-License-Identifier: LGPL-2.1-or-later
"""Figures from a noisy machine: interleaved samples, medians, spread, ratios of pairs, goals."""

from __future__ import annotations

import dataclasses
import pathlib
import statistics
from typing import Any, Callable, Mapping, Sequence

Figure = dict[str, float]
"""A summary, as it stands in a JSON file: median, low and high (10th and 90th percentile), samples."""


@dataclasses.dataclass(frozen=True)
class Options:
    quick: bool
    build_dir: pathlib.Path
    """The release build."""


def summary(values: Sequence[float]) -> Figure:
    ordered = sorted(values)
    last = len(ordered) - 1
    return {
        "median": statistics.median(ordered),
        "low": ordered[round(last * 0.1)],
        "high": ordered[round(last * 0.9)],
        "samples": len(ordered),
    }


def ratio(over: Sequence[float], under: Sequence[float]) -> Figure:
    """Of pairs of samples that were taken one after the other, so that what slows both goes out."""
    return summary([a / b for a, b in zip(over, under, strict=True)])


def interleaved(calls: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Each call's values, of rounds in which each is made once, in alternating order."""
    values: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for number in range(rounds):
        for name in names if number % 2 else reversed(names):
            values[name].append(calls[name]())
    return values


def goal(
    what: str, figure: Figure | float, at_most: float | None = None, at_least: float | None = None
) -> dict[str, Any]:
    """A goal of the suite, and whether the figure (its median) meets it."""
    figure = figure if isinstance(figure, dict) else {"median": figure}
    met = (at_most is None or figure["median"] <= at_most) and (at_least is None or figure["median"] >= at_least)
    return {"what": what, "figure": figure, "at_most": at_most, "at_least": at_least, "met": met}
