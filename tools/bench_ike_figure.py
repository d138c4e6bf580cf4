# SPDX-License-Identifier: GPL-3.0-or-later
"""What was measured in ``make bench-ike``, kept as it is measured, and the tables that say it: arithmetic alone."""

import json
import math
import statistics
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

OURS, PLAIN = "aovpnd", "plain charon"
RATIO: Final = 0.98
"""What we aim at: our throughput, to that of the plain one."""
TURNS: Final = 60
"""Turns of the streams of one pair of laptops."""
FEWEST: Final = 4
"""Pairs of which anything can be said."""
NEVER: Final = math.inf
"""A time that was not awaited to its end."""


class What(StrEnum):
    """What is measured. Times are in seconds."""

    START = "start"
    CONNECT = "connect"
    SILENT = "silent"
    ROAM = "roam"
    SPEED = "speed"
    """Mbit/s of one stream."""
    COST = "cost"
    """The processor's seconds for a gigabyte of it."""


TIMES: Final = {
    What.START: "program started to first answer",
    What.CONNECT: "told to connect to first answer",
    What.ROAM: "roam: new default route to first answer",
    What.SILENT: "roam: old network gone to first answer",
}


@dataclass(slots=True)
class Samples:
    """What was measured so far, and the file that keeps it: one JSON list per line."""

    path: Path
    found: dict[tuple[What, str, int], float] = field(default_factory=dict)
    """By what it is, whose, and its number."""

    @classmethod
    def open(cls, path: Path) -> Self:
        """What an earlier run has left; a line that was cut short is none."""
        samples = cls(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        for line in text[: text.rfind("\n") + 1].splitlines():
            what, whose, number, value = json.loads(line)
            samples.found[What(what), whose, number] = value
        return samples

    def add(self, what: What, whose: str, number: int, value: float) -> None:
        """Keep one."""
        self.found[what, whose, number] = value
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([what, whose, number, value]) + "\n")

    def of(self, what: What, whose: str) -> list[float]:
        """All of a kind, in the order of their numbers."""
        return [value for (kind, who, _), value in sorted(self.found.items()) if (kind, who) == (what, whose)]

    def holds(self, what: What, whose: str, number: int) -> bool:
        """Whether it is measured already."""
        return (what, whose, number) in self.found


def ratios(samples: Samples, what: What) -> list[float]:
    """Of each pair of laptops the median of its turns' ratios, ours to the plain one's."""
    turns: dict[int, list[float]] = {}
    for (kind, whose, number), mine in sorted(samples.found.items()):
        if (kind, whose) == (what, OURS) and samples.holds(what, PLAIN, number):
            turns.setdefault(number // TURNS, []).append(mine / samples.found[what, PLAIN, number])
    return [statistics.median(found) for found in turns.values()]


def interval(values: list[float]) -> tuple[float, float]:
    """Where the median of endlessly many would lie, with 95 %: between two of the values, since each is above it or
    below as a coin falls (the sign test). All there is where they are few.
    """
    found, half = sorted(values), 0.98 * math.sqrt(len(values))
    first = max(math.floor(len(found) / 2 - half), 0)
    return found[first], found[len(found) - 1 - first]


def verdict(samples: Samples) -> str:
    """Whether our throughput is what we aim at: ``met`` or ``missed`` where all of the median's `interval` is on one
    side, otherwise ``not decided``.
    """
    found = ratios(samples, What.SPEED)
    if len(found) < FEWEST:
        return "not decided"
    lower, upper = interval(found)
    return "met" if lower >= RATIO else "missed" if upper < RATIO else "not decided"


def times(samples: Samples) -> list[str]:
    """The table of times."""
    lines = ["| what | tunnel | n | median | worst | never |", "|---|---|---:|---:|---:|---:|"]
    for what, words in TIMES.items():
        for whose in (OURS, PLAIN):
            values = samples.of(what, whose)
            if values:
                spread = f"{_seconds(statistics.median(values))} | {_seconds(max(values))}"
                lines.append(f"| {words} | {whose} | {len(values)} | {spread} | {values.count(NEVER)} |")
    return lines


def speeds(samples: Samples) -> list[str]:
    """The table of throughput."""
    head = (
        "| one TCP stream | pairs | aovpnd, median | plain, median | ratio, median of the pairs | with 95 % | aim | |"
    )
    lines = [head, "|---|---:|---:|---:|---:|---|---|---|"]
    aim = f"at least {RATIO:g} | {verdict(samples)}"
    each = ", ".join(f"{ratio:.3f}" for ratio in sorted(ratios(samples, What.SPEED)))
    return [
        *lines,
        _speed(samples, "Mbit/s", What.SPEED, aim),
        _speed(samples, "CPU seconds a gigabyte", What.COST, " | "),
        "",
        f"The pairs' ratios of Mbit/s: {each}.",
    ]


def _speed(samples: Samples, words: str, what: What, aim: str) -> str:
    mine, beside, found = samples.of(what, OURS), samples.of(what, PLAIN), ratios(samples, what)
    medians = f"{statistics.median(mine):.1f} | {statistics.median(beside):.1f} | {statistics.median(found):.3f}"
    lower, upper = interval(found)
    return f"| {words} | {len(found)} | {medians} | {lower:.3f} to {upper:.3f} | {aim} |"


def _seconds(value: float) -> str:
    return "never" if value == NEVER else f"{value:.3f} s"
