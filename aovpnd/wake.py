# SPDX-License-Identifier: GPL-3.0-or-later
"""When the loop looks again: at once, or when a burst of events is over; and not ever faster because somebody changes
something a hundred times a second.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import Final

DEBOUNCE_S: Final = 0.015
"""A burst of link events becomes one pass; short, because the first handshake waits for it."""
BURST: Final = 20
BURST_S: Final = 2.0
HECTIC_S: Final = 0.25
"""After `BURST` passes of this kind within `BURST_S` the next ones come at this pace: a roam takes a few, a fight with
another program over routes would take a whole core."""


@dataclass(slots=True)
class Wake:
    """Calls for a pass. ``now`` for whatever could tighten, ``soon`` for bursts."""

    event: asyncio.Event = field(default_factory=asyncio.Event)
    reasons: list[str] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None
    rung: "deque[float]" = field(default_factory=partial(deque, maxlen=BURST))

    def now(self, reason: str) -> None:
        """A pass at once."""
        if reason not in self.reasons:
            self.reasons.append(reason)
        self.event.set()

    def soon(self, reason: str) -> None:
        """A pass within `DEBOUNCE_S`, or `HECTIC_S` while there is no end of reasons."""
        if reason not in self.reasons:
            self.reasons.append(reason)
        if self.timer is None and not self.event.is_set():
            loop = asyncio.get_running_loop()
            hectic = len(self.rung) == BURST and loop.time() - self.rung[0] < BURST_S
            self.timer = loop.call_later(HECTIC_S if hectic else DEBOUNCE_S, self._ring)

    def again(self, reasons: str) -> None:
        """A pass at once, for the same reasons as the last one."""
        self.reasons = [*reasons.split(", "), *(reason for reason in self.reasons if reason not in reasons)]
        self.event.set()

    def _ring(self) -> None:
        self.timer = None
        self.rung.append(asyncio.get_running_loop().time())
        self.event.set()

    def take(self) -> str:
        """The reasons so far, and silence."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.event.clear()
        reasons, self.reasons = self.reasons, []
        return ", ".join(reasons) or "time"
