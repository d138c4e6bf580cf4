# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask polkit whether somebody may do something. Whatever goes wrong, the answer is no.

The subject is the caller's unique bus name, which the bus gives to one connection and never again; a process id could
belong to somebody else by the time that polkit looks (CVE-2013-4288). Who vanishes while polkit thinks is refused:
polkit itself once took a caller that it could not find for root (CVE-2021-3560).
"""

import asyncio
from itertools import count
from typing import Any, Final

from aovpnd.bus.access import Action, Verdict, judge, unanswered
from aovpnd.bus.calls import Bus, BusError, Target, Typed, owner_changes, uid_of
from aovpnd.errors import CommandRefused

AUTHORITY: Final = Target(
    "org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority", "org.freedesktop.PolicyKit1.Authority"
)
ALLOW_USER_INTERACTION: Final = 1
"""CheckAuthorizationFlags."""
PATIENCE_S: Final = 10.0
"""For an answer that takes no person."""
PERSON_PATIENCE_S: Final = 180.0
"""For one that may take a password."""
_SIGNATURE: Final = "((sa{sv})sa{ss}us)"
_numbers = count(1)


async def authorise(bus: Bus, sender: str, action: Action, *, interactive: bool) -> None:
    """Return if polkit authorises ``sender`` for ``action``, now and for this once; otherwise `CommandRefused`."""
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def owner_changed(values: tuple[object, ...]) -> None:
        if values[:1] == (sender,) and not gone.done():
            gone.set_result(None)

    try:
        forget = await bus.subscribe(owner_changes(sender), owner_changed)
    except BusError as error:
        raise unanswered(error.text) from error
    try:
        await _still_there(bus, sender)  # whoever went before the subscription stood is not heard of
        await _ask(bus, sender, action, gone, interactive=interactive)
    finally:
        forget()


async def _still_there(bus: Bus, sender: str) -> None:
    try:
        await uid_of(bus, sender)
    except BusError as error:
        raise CommandRefused("whoever asked has gone", code="caller-gone") from error


async def _ask(bus: Bus, sender: str, action: Action, gone: "asyncio.Future[None]", *, interactive: bool) -> None:
    number = f"aovpnd-{next(_numbers)}"
    subject = ("system-bus-name", {"name": Typed("s", sender)})
    flags = ALLOW_USER_INTERACTION if interactive else 0
    patience = PERSON_PATIENCE_S if interactive else PATIENCE_S
    asking = asyncio.ensure_future(
        bus.call(
            AUTHORITY,
            "CheckAuthorization",
            _SIGNATURE,
            subject,
            action.value,
            {},
            flags,
            number,
            timeout_s=patience,
            start=True,
        )
    )
    answered = False
    try:
        waiting: set[asyncio.Future[Any]] = {asking, gone}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if gone.done():
            raise CommandRefused("whoever asked has gone", code="caller-gone")
        verdict = _verdict(asking.result().values)
        answered = True
        judge(action, verdict)
    except BusError as error:
        raise unanswered(error.text) from error
    finally:
        if not answered:
            asking.cancel()
            # Nobody waits for the dialogue any more, so it should not stay on somebody's screen.
            asyncio.get_running_loop().create_task(_cancel(bus, number), name="polkit cancel").add_done_callback(_heard)


async def _cancel(bus: Bus, number: str) -> None:
    try:
        await bus.call(AUTHORITY, "CancelCheckAuthorization", "(s)", number)
    except BusError:
        return  # it was over, or polkit is


def _heard(task: "asyncio.Task[None]") -> None:
    if not task.cancelled():
        task.exception()


def _verdict(values: tuple[object, ...]) -> Verdict:
    """Read ``(bba{ss})``; anything else is a `BusError`, for it authorises nobody."""
    match values:
        case ((bool(authorised), bool(challenge), dict(details)),):
            return Verdict(authorised, challenge, details)
        case _:
            raise BusError("polkit's answer cannot be understood")
