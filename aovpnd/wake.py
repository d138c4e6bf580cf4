# SPDX-License-Identifier: GPL-3.0-or-later
"""When the loop looks again: at once, or when a burst of events is over; and not ever faster because somebody changes
something a hundred times a second.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
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
REPAIR_S: Final = 0.1
"""The pace of repairs after as many of them: what is put back is gone again at once, and meanwhile the guard holds."""


@dataclass(slots=True)
class Wake:
    """Calls for a pass. ``now`` for whatever could tighten, ``repair`` for what others break, ``soon`` for bursts."""

    event: asyncio.Event = field(default_factory=asyncio.Event)
    reasons: list[str] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None
    rung: "deque[float]" = field(default_factory=partial(deque, maxlen=BURST))
    broken: "deque[float]" = field(default_factory=partial(deque, maxlen=BURST))

    def now(self, reason: str) -> None:
        """A pass at once."""
        self._because(reason)
        self.event.set()

    def repair(self, reason: str) -> None:
        """A pass at once, or within `REPAIR_S` while somebody breaks without end what we put right."""
        self._because(reason)
        self._at_once_or_paced()
        self.broken.append(asyncio.get_running_loop().time())

    def soon(self, reason: str) -> None:
        """A pass within `DEBOUNCE_S`, or `HECTIC_S` while there is no end of reasons."""
        self._because(reason)
        if self.timer is None and not self.event.is_set():
            self._within(HECTIC_S if self._is_hectic(self.rung) else DEBOUNCE_S)

    def again(self, reasons: str) -> None:
        """One more pass for the same reasons as the last one, which had something to do; as quickly as `repair`."""
        self.reasons = [*reasons.split(", "), *(reason for reason in self.reasons if reason not in reasons)]
        self._at_once_or_paced()

    def take(self) -> str:
        """The reasons so far, and silence."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.event.clear()
        reasons, self.reasons = self.reasons, []
        return ", ".join(reasons) or "time"

    async def wait(self, seconds: float, every_s: float | None, look: Callable[[], Awaitable[bool]]) -> None:
        """Until somebody calls, the time is over, or a ``look``, which is taken ``every_s``, shows that it is."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while True:
            left = end - loop.time()
            with suppress(TimeoutError):
                async with asyncio.timeout(left if every_s is None else min(left, every_s)):
                    await self.event.wait()
            if self.event.is_set() or loop.time() >= end or every_s is None:
                return None
            if await look():
                return self.now("traffic")

    def _because(self, reason: str) -> None:
        if reason not in self.reasons:
            self.reasons.append(reason)

    def _at_once_or_paced(self) -> None:
        if self._is_hectic(self.broken):
            self._within(REPAIR_S)
        else:
            self.event.set()

    def _is_hectic(self, moments: "deque[float]") -> bool:
        return len(moments) == BURST and asyncio.get_running_loop().time() - moments[0] < BURST_S

    def _within(self, seconds: float) -> None:
        """Ring after so long, unless it rings before anyway."""
        loop = asyncio.get_running_loop()
        if self.timer is not None:
            if self.timer.when() <= loop.time() + seconds:
                return
            self.timer.cancel()
        self.timer = loop.call_later(seconds, self._ring)

    def _ring(self) -> None:
        self.timer = None
        self.rung.append(asyncio.get_running_loop().time())
        self.event.set()
