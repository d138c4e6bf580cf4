# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a laptop was offline, and whether its uplink was the reason: arithmetic on what its meter noted.

The meter (`tests/vm/guest/meter.py`) asks an echo service through the tunnel some times a second, by both families, and
notes what came back, and whether the laptop had an uplink at that moment: a card with carrier whose default route leads
to a router behind which, as the lab knows, there is an internet. Without a lease, or before a captive portal is passed,
there is none.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

SILENCE_S: Final = 1.0
"""So long nothing may come back before the laptop counts as offline; then the whole of the silence counts."""
MISSED: Final = 3
"""So many questions in a row have to be without an answer: a meter that was kept waiting itself has not asked."""


@dataclass(frozen=True, slots=True)
class Tick:
    """One line of the meter: seconds since power-on without sleep, whether there is an uplink, answers of each family
    since the line before.
    """

    at: float
    uplink: bool
    four: int
    six: int


@dataclass(frozen=True, slots=True)
class Account:
    """Seconds of a span of time: online by both families, offline for want of an uplink, offline in spite of one; and
    the longest time offline in spite of one at a stretch.
    """

    online_s: float
    without_uplink_s: float
    offline_s: float
    longest_s: float


def read_ticks(report: str) -> list[Tick]:
    """The whole lines of a report."""
    lines = (line.split() for line in report.splitlines(keepends=True) if line.endswith("\n"))
    return [Tick(float(at), uplink == "1", int(four), int(six)) for at, uplink, four, six in lines]


def account(ticks: Sequence[Tick], start: int = 0) -> Account:
    """What became of the time from the tick ``start`` on; what was before says whether it began in a silence.

    A span between two ticks is offline when it is part of a silence of either family, and that is the uplink's fault
    when at either of its ends there was none.
    """
    silent = _silent((bool(tick.four) for tick in ticks), ticks) | _silent((bool(tick.six) for tick in ticks), ticks)
    online = without = offline = longest = stretch = 0.0
    for number, (before, after) in enumerate(pairwise(ticks)):
        if number < start:
            continue
        seconds = after.at - before.at
        if number not in silent:
            online += seconds
            stretch = 0.0
        elif before.uplink and after.uplink:
            offline += seconds
            stretch += seconds
            longest = max(longest, stretch)
        else:
            without += seconds
            stretch = 0.0
    return Account(online, without, offline, longest)


def _silent(heard: Iterable[bool], ticks: Sequence[Tick]) -> set[int]:
    """The spans (by the number of the tick at which each begins) that are part of a silence."""
    edges = [0, *(number for number, came in enumerate(heard) if came), len(ticks) - 1]
    return {
        number
        for begin, end in pairwise(edges)
        if end - begin > MISSED and ticks[end].at - ticks[begin].at > SILENCE_S
        for number in range(begin, end)
    }
