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
FEWEST: Final = 4
"""Turns of which anything can be said."""
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
    ALIKE = "alike"
    """Mbit/s of the plain one with the MTU of our link."""


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


def ratios(samples: Samples, ours: What, plain: What) -> list[float]:
    """Of each turn, ours to the plain one's."""
    pairs = zip(samples.of(ours, OURS), samples.of(plain, PLAIN), strict=False)
    return [mine / beside for mine, beside in pairs]


def verdict(samples: Samples) -> str:
    """Whether our throughput is what we aim at: ``met`` or ``missed`` where the middle half of the turns says so, and
    ``not decided`` where they lie on both sides.
    """
    found = ratios(samples, What.SPEED, What.SPEED)
    if len(found) < FEWEST:
        return "not decided"
    lower, _, upper = statistics.quantiles(found, n=4)
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
    head = "| one TCP stream | n | aovpnd, median | plain, median | ratio, median of the turns | middle half | aim | |"
    lines = [head, "|---|---:|---:|---:|---:|---|---|---|"]
    aim = f"at least {RATIO:g}"
    kinds = (
        ("Mbit/s", What.SPEED, What.SPEED, f"{aim} | {verdict(samples)}"),
        ("Mbit/s, the plain one with our MTU", What.SPEED, What.ALIKE, " | "),
        ("CPU seconds a gigabyte", What.COST, What.COST, " | "),
    )
    return lines + [_speed(samples, *kind) for kind in kinds]


def _speed(samples: Samples, words: str, ours: What, plain: What, aim: str) -> str:
    mine, beside, found = samples.of(ours, OURS), samples.of(plain, PLAIN), ratios(samples, ours, plain)
    medians = f"{statistics.median(mine):.1f} | {statistics.median(beside):.1f} | {statistics.median(found):.3f}"
    quarters = statistics.quantiles(found, n=4) if len(found) >= FEWEST else [min(found), 0.0, max(found)]
    return f"| {words} | {len(found)} | {medians} | {quarters[0]:.3f} to {quarters[2]:.3f} | {aim} |"


def _seconds(value: float) -> str:
    return "never" if value == NEVER else f"{value:.3f} s"
