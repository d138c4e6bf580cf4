# SPDX-License-Identifier: GPL-3.0-or-later
"""What wakes the loop: reasons, at once or gathered for a moment. A reason is for the log, and carries no decision."""

import asyncio
from dataclasses import dataclass, field
from typing import Final

DEBOUNCE_S: Final = 0.015
"""A burst of link events becomes one pass; short, because the first handshake waits for it."""


@dataclass(slots=True)
class Wake:
    """Calls for a pass. ``now`` for whatever could tighten, ``soon`` for bursts."""

    event: asyncio.Event = field(default_factory=asyncio.Event)
    reasons: list[str] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None

    def now(self, reason: str) -> None:
        """A pass at once."""
        if reason not in self.reasons:
            self.reasons.append(reason)
        self.event.set()

    def soon(self, reason: str) -> None:
        """A pass within `DEBOUNCE_S`."""
        if reason not in self.reasons:
            self.reasons.append(reason)
        if self.timer is None and not self.event.is_set():
            self.timer = asyncio.get_running_loop().call_later(DEBOUNCE_S, self._ring)

    def again(self, reasons: str) -> None:
        """A pass at once, for the same reasons as the last one."""
        self.reasons = [*reasons.split(", "), *(reason for reason in self.reasons if reason not in reasons)]
        self.event.set()

    def _ring(self) -> None:
        self.timer = None
        self.event.set()

    def take(self) -> str:
        """The reasons so far, and silence."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.event.clear()
        reasons, self.reasons = self.reasons, []
        return ", ".join(reasons) or "time"
