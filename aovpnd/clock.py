# SPDX-License-Identifier: GPL-3.0-or-later
"""Now, on the clocks that matter: one that runs on through suspend, and the one on the wall, which may be set."""

import math
from dataclasses import dataclass
from typing import Final

LAST_S: Final = 9_000_000_000
"""In the year 2255, which the kernel's nanoseconds since the epoch just hold (63 bits)."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Seconds: ``boot`` on CLOCK_BOOTTIME, ``wall`` since the epoch, ``slept_s`` asleep since the machine booted."""

    boot: float
    wall: float
    slept_s: float = 0.0

    def wall_at(self, at: float) -> float:
        """A moment on CLOCK_BOOTTIME as seconds since the epoch, as far as today's clock knows."""
        return self.wall - self.boot + at

    def second_before(self, at: float) -> int:
        """The whole second since the epoch that is over before a moment on CLOCK_BOOTTIME, or with it."""
        return min(max(math.floor(self.wall_at(at)), 0), LAST_S)
