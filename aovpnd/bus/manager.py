# SPDX-License-Identifier: GPL-3.0-or-later
"""A call from its arrival to its answer: who is it, may he, what does the daemon say.

Everything that is found out about a call belongs to this one call, with its caller, its method and its arguments; an
authorisation is never kept.
"""

import asyncio
import logging
import pwd
import time
from collections.abc import Awaitable, Callable
from typing import Final

from aovpnd.bus import access, polkit, translate
from aovpnd.bus.calls import Bus, BusError, Call, uid_of
from aovpnd.bus.translate import Request
from aovpnd.bus.turns import REFUSED, ROOT, Pace, Places
from aovpnd.errors import AovpndError, CommandRefused

log = logging.getLogger("aovpnd.bus")

TO_THE_DAEMON: Final = 16
"""Commands that are carried to the daemon at once: it does one at a time, and lets us have so many connections."""
NAME_PATIENCE_S: Final = 2.0
"""For the system's list of users, which may be a directory somewhere else."""

Ask = Callable[[Request], Awaitable[bytes]]
"""Sends the daemon a line and returns its answer; raises `DaemonUnreachable`."""


class Manager:
    """``org.aovpnd1.Manager`` on one connection to the bus."""

    def __init__(self, bus: Bus, ask: Ask, status: Callable[[], str]) -> None:
        """``status`` returns the status as JSON, or raises."""
        self._bus = bus
        self._ask = ask
        self._status = status
        self._places = Places()
        self._pace = Pace()
        self._door = asyncio.Semaphore(TO_THE_DAEMON)
        self._desk = asyncio.Semaphore(1)  # a key's password keeps the daemon's loop for a good part of a second

    async def handle(self, call: Call) -> tuple[object, ...]:
        """Carry a call out; raises `AovpndError` with what to tell the caller."""
        if call.method == "Status":
            return (self._status(),)
        if call.method not in access.ACTIONS:
            raise CommandRefused("there is no such method", code="bad-request")
        line = translate.request(call)
        uid = await self._caller(call)
        if not self._places.take(uid):
            raise CommandRefused("too many requests at once", hint="try again in a moment", code="busy")
        try:
            await asyncio.sleep(self._pace.wait_s(uid, time.monotonic()))
            return await self._carry_out(call, uid, line)
        finally:
            self._places.leave(uid)

    async def _carry_out(self, call: Call, uid: int, line: Request) -> tuple[object, ...]:
        user = await _user_name(uid)
        who = f"{user} ({call.sender})"
        try:
            await self._authorise(call, uid)
            async with self._desk if call.method == "SignIn" else self._door:
                said = await self._ask(translate.on_behalf(line, user))
            answer = self._read(call, uid, said)
        except AovpndError as error:
            log.info("%s for %s: %s", call.method, who, error.code)
            raise
        log.info("%s for %s: done", call.method, who)
        return answer

    def _read(self, call: Call, uid: int, said: bytes) -> tuple[object, ...]:
        try:
            return translate.answer(call.method, said)
        except CommandRefused:
            if call.method == "SignIn":
                self._pace.wait_s(uid, time.monotonic(), REFUSED)  # whoever guesses waits for his next turn
            raise

    async def _authorise(self, call: Call, uid: int) -> None:
        if uid == ROOT:
            return
        for action in access.ACTIONS[call.method]:
            await polkit.authorise(self._bus, call.sender, action, interactive=call.interactive)
        # Whoever has hung up meanwhile waits for nothing, and polkit may have looked at nobody (CVE-2021-3560).
        if await self._caller(call) != uid:
            raise _gone()

    async def _caller(self, call: Call) -> int:
        if not call.sender.startswith(":"):  # a name that may be somebody else's by the time that polkit looks
            raise _gone()
        try:
            return await uid_of(self._bus, call.sender)
        except BusError as error:
            raise _gone() from error


def _gone() -> CommandRefused:
    return CommandRefused("whoever asked has gone", code="caller-gone")


async def _user_name(uid: int) -> str:
    """For the record, and for status: it grants nothing."""
    try:
        async with asyncio.timeout(NAME_PATIENCE_S):
            entry = await asyncio.get_running_loop().run_in_executor(None, pwd.getpwuid, uid)
    except (KeyError, TimeoutError):
        return translate.user_name("", uid)
    return translate.user_name(entry.pw_name, uid)
