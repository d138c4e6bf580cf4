# SPDX-License-Identifier: GPL-3.0-or-later
"""logind: close what is open before the machine sleeps, and look again when it wakes.

A kernel timer stands still in suspend (facts T12), so a window of temporary access would still be open after waking.
The inhibitor of type ``delay`` makes sleep wait until the daemon has answered, for as long as logind permits
(InhibitDelayMaxSec= of logind.conf(5), 5 s).
"""

import asyncio
import logging
import os
from typing import Final

from aovpnd.bus.calls import Bus, BusError, Match, Target, owner_changes
from aovpnd.bus.daemon import Line

log = logging.getLogger("aovpnd.bus")

NAME: Final = "org.freedesktop.login1"
MANAGER: Final = Target(NAME, "/org/freedesktop/login1", f"{NAME}.Manager")
AGAIN_S: Final = (2.0, 10.0, 60.0, 600.0)
"""After so long logind is asked again that has not answered, or has refused: at boot it may have too much to do. The
last one is repeated.
"""
SLEEPS: Final = Match(NAME, MANAGER.interface, "PrepareForSleep", MANAGER.path)


class Sleep:
    """Follows logind, on one connection to the bus."""

    def __init__(self, bus: Bus, line: Line) -> None:
        self._bus = bus
        self._line = line
        self._news: list[bool | None] = []
        self._look = asyncio.Event()
        self._inhibitor = -1
        self._failed = 0
        """How often in a row it could not be had; 0 too while none is wanted."""

    async def run(self) -> None:
        """Follow logind; never returns. `BusError` when the bus is lost."""
        await self._bus.subscribe(SLEEPS, lambda values: self._hear(_is_true(values)))
        await self._bus.subscribe(owner_changes(NAME), lambda _: self._hear(None))
        try:
            await self._hold()
            while True:
                pause_s = AGAIN_S[min(self._failed, len(AGAIN_S)) - 1] if self._failed else None
                try:
                    await asyncio.wait_for(self._look.wait(), pause_s)
                except TimeoutError:
                    await self._hold()
                self._look.clear()
                while self._news:
                    await self._heard(self._news.pop(0))
        finally:
            self._release()

    def _hear(self, news: bool | None) -> None:  # noqa: FBT001
        """Keep the last word of each kind: of a thousand that wait, the others are no news."""
        if news in self._news:
            self._news.remove(news)
        self._news.append(news)
        self._look.set()

    async def _heard(self, sleeping: bool | None) -> None:  # noqa: FBT001 - logind's own word, None: logind is another
        if sleeping is None:
            self._release()
            await self._hold()
        elif sleeping:
            await self._line.report({"command": "prepare-sleep"})
            self._release()  # whatever the daemon said: whoever closes the lid is not kept waiting for ever
        else:
            await self._hold()
            await self._line.report({"command": "woke"})

    async def _hold(self) -> None:
        if self._inhibitor >= 0:
            return
        try:
            reply = await self._bus.call(
                MANAGER, "Inhibit", "(ssss)", "sleep", "aovpnd", "Temporary internet access is closed first", "delay"
            )
        except BusError as error:
            if not self._failed:
                log.info("sleep will not wait for us, so a window may be open after waking: %s", error)
            self._failed += 1
            return
        if self._failed:
            log.info("sleep waits for us again")
        self._failed = 0
        self._inhibitor, *others = reply.descriptors or (-1,)
        for descriptor in others:
            os.close(descriptor)

    def _release(self) -> None:
        self._failed = 0
        if self._inhibitor >= 0:
            os.close(self._inhibitor)
            self._inhibitor = -1


def _is_true(values: tuple[object, ...]) -> bool:
    return len(values) == 1 and values[0] is True
