# SPDX-License-Identifier: GPL-3.0-or-later
"""What a call's report says of each roam: pure arithmetic, for `bench_vm`."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tests.lab.call import longest_silence
from tools.bench_figure import percentile

SILENCE_S: Final = 1.0
"""What we aim at, for the call, at the 99th percentile."""


@dataclass(frozen=True, slots=True)
class Report:
    """What the guest's caller wrote (tests/vm/guest/caller.py): seconds since power-on."""

    echoes: tuple[float, ...]
    pieces: tuple[float, ...]
    """Of the stream."""
    connections: int
    """How many the stream needed: one, if it lived."""


@dataclass(frozen=True, slots=True)
class Span:
    """The time of one roam: from before it was brought about until after all was quiet, seconds since power-on."""

    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Roam:
    """What one roam cost: the longest silence of the call, and of the stream, in seconds."""

    call: float
    stream: float
    arrived: bool
    """Whether the call was heard in time by the new network."""


def read_report(text: str) -> Report:
    """Read a report; a last line that is still being written is left out."""
    found: dict[str, list[float]] = {"e": [], "d": [], "c": []}
    for line in text[: text.rfind("\n") + 1].splitlines():
        what, moment = line.split()
        found[what].append(float(moment))
    return Report(tuple(found["e"]), tuple(found["d"]), len(found["c"]))


def silence(moments: Iterable[float], span: Span) -> float:
    """The longest time within a span in which nothing came; the whole span when nothing came at all."""
    return longest_silence(moments, span.start, span.end)


def what_it_cost(report: Report, span: Span, *, arrived: bool) -> Roam:
    """What the roam of a span cost."""
    return Roam(silence(report.echoes, span), silence(report.pieces, span), arrived)


def seconds(values: Iterable[float]) -> str:
    """Median, 99th percentile and worst, as cells of a table."""
    ordered = list(values)
    return " | ".join(f"{value:.2f} s" for value in (percentile(ordered, 50), percentile(ordered, 99), max(ordered)))


def row(kind: str, name: str, roams: list[Roam]) -> str:
    """One row of the table: what happened, with which tunnel, and what it cost."""
    lost = sum(not roam.arrived for roam in roams)
    count = f"{len(roams)}, {lost} of them never" if lost else str(len(roams))
    calls = [roam.call for roam in roams]
    verdict = "met" if percentile(calls, 99) <= SILENCE_S and not lost else "missed"
    return f"| {kind} | {name} | {count} | {seconds(calls)} | {verdict} | {seconds(roam.stream for roam in roams)} |"
