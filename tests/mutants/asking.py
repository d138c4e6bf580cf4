# SPDX-License-Identifier: GPL-3.0-or-later
"""Weakenings of who may command: polkit's answers, the caller's name, the peers of the control socket, sleep."""

from typing import Final

from tests.mutants.mutant import BUS, CONTROL, INTENT, OVER_TIME, TURNS, Mutant

_ACCESS: Final = "aovpnd/bus/access.py"
_POLKIT: Final = "aovpnd/bus/polkit.py"
_MANAGER: Final = "aovpnd/bus/manager.py"
_TURNS: Final = "aovpnd/bus/turns.py"
_CONTROL: Final = "aovpnd/control.py"
_INTENT: Final = "aovpnd/core/intent.py"

ASKING: Final = (
    Mutant(
        "challenge-is-a-yes",
        _ACCESS,
        "    if verdict.authorised:\n",
        "    if verdict.authorised or verdict.challenge:\n",
        "whoever would have to give a password need not",
        (BUS,),
    ),
    Mutant(
        "portal-without-a-password",
        _ACCESS,
        '    "OpenPortal": (Action.PORTAL, Action.ALLOW_TEMP),\n',
        '    "OpenPortal": (Action.PORTAL,),\n',
        "the window that opens everything is had for nothing under another name",
        (BUS,),
    ),
    Mutant(
        "first-action-suffices",
        _MANAGER,
        "for action in access.ACTIONS[call.method]:",
        "for action in access.ACTIONS[call.method][:1]:",
        "of two permissions one is asked",
        (BUS,),
    ),
    Mutant(
        "dead-polkit-is-a-yes",
        _POLKIT,
        "    except BusError as error:\n        raise unanswered(error.text) from error\n    finally:\n        if",
        "    except BusError:\n        return\n    finally:\n        if",
        "killing polkit authorises everybody",
        (BUS,),
    ),
    Mutant(
        "vanished-caller-is-a-yes",
        _MANAGER,
        "        if await self._caller(call) != uid:\n            raise _gone()\n",
        "",
        "polkit may have looked at nobody (CVE-2021-3560)",
        (BUS,),
    ),
    Mutant(
        "subject-is-nobody-in-particular",
        _POLKIT,
        '{"name": Typed("s", sender)}',
        '{"name": Typed("s", AUTHORITY.name)}',
        "the permission of another program counts",
        (BUS,),
    ),
    Mutant(
        "any-name-is-a-caller",
        _MANAGER,
        'if not call.sender.startswith(":"):',
        "if not call.sender:",
        "a name changes hands while polkit looks at it",
        (BUS,),
    ),
    Mutant(
        "flood-without-end",
        _TURNS,
        "        if len(mine) >= IN_HAND_EACH or self._count >= IN_HAND:\n            return Turn.BUSY\n",
        "",
        "one program's flood stands before everybody's next call, and fills the memory",
        (TURNS,),
    ),
    Mutant(
        "flood-that-wants-no-answer",
        _TURNS,
        "        if not wants_answer:\n            return Turn.IGNORE\n",
        "",
        "no answer ever makes room again, and the bus lets anybody send any number",
        (TURNS,),
    ),
    Mutant(
        "one-user-takes-all-places",
        _TURNS,
        "        if mine >= PLACES_EACH or (mine and self._waiting.total() >= PLACES):\n            return False\n",
        "",
        "one user keeps all others from giving commands",
        (TURNS,),
    ),
    Mutant(
        "everybody-is-the-bus",
        _CONTROL,
        "return Peer.BUS if uid == self._bus_uid else None",
        "return Peer.BUS",
        "any user commands, over the socket, without polkit",
        (CONTROL,),
    ),
    Mutant(
        "bus-opens-what-is-roots",
        _INTENT,
        "if config.openers is Openers.ROOT:",
        "if config.openers is not Openers.ROOT and False:",
        "whoever takes over aovpnd-bus opens the network although the configuration keeps that for root",
        (INTENT,),
    ),
    Mutant(
        "bus-goes-for-root",
        _CONTROL,
        "command = replace(command, by=Door.BUS)",
        "command = replace(command, by=Door.SOCKET)",
        "what comes over D-Bus is taken for root's own word",
        (CONTROL,),
    ),
    Mutant(
        "sleep-keeps-the-window",
        "aovpnd/core/told.py",
        'return replace(intent, grant=None), Answer("nothing is left open")',
        'return intent, Answer("nothing is left open")',
        "the machine wakes in another place with a window open (T12)",
        (INTENT, OVER_TIME),
    ),
)
