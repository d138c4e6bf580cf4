# SPDX-License-Identifier: GPL-3.0-or-later
"""One line of a benchmark's result, and a spread of times in words."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the result. ``aim`` is what we want it to be, ``met`` None where there is no aim."""

    what: str
    measured: str
    beside: str = ""
    aim: str = ""
    met: bool | None = None


def spread(values: Iterable[float], *, unit: str = "ms", scale: float = 1e3) -> str:
    """Median and extremes, as text."""
    ordered = sorted(value * scale for value in values)
    return f"{statistics.median(ordered):.1f} {unit} ({ordered[0]:.1f} to {ordered[-1]:.1f}, n = {len(ordered)})"


def percentile(values: Iterable[float], which: int) -> float:
    """The smallest value that at least ``which`` per cent do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * which // 100) - 1)]
