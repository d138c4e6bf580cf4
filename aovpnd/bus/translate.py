# SPDX-License-Identifier: GPL-3.0-or-later
"""Between D-Bus and the daemon: method to command, answer to return values, code to error name, status to properties.
Pure.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aovpnd import names
from aovpnd.absence import without_daemon
from aovpnd.bus.calls import Call
from aovpnd.bus.sealed import Sealed
from aovpnd.errors import AovpndError, CommandRefused, DaemonUnreachable
from aovpnd.shape import fits, moment

VERSION: Final = 1
"""Of the control protocol: the docstring of `aovpnd.control`."""
ERROR_PREFIX: Final = f"{names.BUS_NAME}.Error."
TEXT_LIMIT: Final = 1000
"""Characters of any text argument: more than the daemon takes of any, so that it can say itself what is wrong."""
PORTAL: Final = "to sign in to the network"
"""The reason that a portal's window is given."""
NAME_LIMIT: Final = 64
"""Characters of a user's name that the daemon takes."""
MICROSECONDS: Final = 1_000_000

Request = dict[str, object]
Document = Mapping[str, Any]


# -- commands ---------------------------------------------------------------------------------------------------------
def request(call: Call) -> Request:
    """The line for the daemon; `CommandRefused` for what can be no command. 0 seconds and an empty name mean: as usual.

    The types of the arguments are the interface's, GDBus has held them to it.
    """
    if any(isinstance(argument, str) and len(argument) > TEXT_LIMIT for argument in call.arguments):
        raise CommandRefused(f"a text is longer than {TEXT_LIMIT} characters", code="bad-request")
    return {"v": VERSION} | _REQUESTS[call.method](*call.arguments)


def on_behalf(line: Request, user: str) -> Request:
    """The same line, with the name of the person it is for, where the daemon wants to know."""
    return line | {"user": user} if line["command"] == "allow-temp" else line


def _allow(seconds: object = 0, reason: object = "") -> Request:
    return {"command": "allow-temp", "duration_s": seconds or None, "reason": reason}


def _answers(given: Sealed) -> dict[str, str]:
    """What is in them the daemon looks at."""
    try:
        found = json.loads(given.text)
        if not isinstance(found, dict) or not all(isinstance(answer, str) for answer in found.values()):
            raise ValueError  # noqa: TRY301 - as below
    except (ValueError, RecursionError):
        raise CommandRefused(
            "the answers are no table of texts in JSON", hint='{"1": "…"}, by rounds', code="bad-request"
        ) from None
    return found


_REQUESTS: Final[Mapping[str, Callable[..., Request]]] = {
    "AllowTemporaryAccess": _allow,
    "OpenPortal": lambda seconds: _allow(seconds, PORTAL),
    "CancelTemporaryAccess": lambda: {"command": "cancel-temp"},
    "Connect": lambda name: {"command": "connect", "name": name or None},
    "Explain": lambda destination: {"command": "explain", "destination": destination or None},
    "Disconnect": lambda: {"command": "disconnect"},
    "Block": lambda: {"command": "block"},
    "Unblock": lambda: {"command": "unblock"},
    "Confirm": lambda: {"command": "confirm"},
    "Reload": lambda: {"command": "reload"},
    "Questions": lambda: {"command": "questions"},
    "SignIn": lambda name, answers: {"command": "sign-in", "name": name, "answers": _answers(answers)},
}


def user_name(name: str, uid: int) -> str:
    """A name that can be shown and logged: the one that the system has for a uid, or the number."""
    return name if 0 < len(name) <= NAME_LIMIT and name.isprintable() else f"uid {uid}"


# -- answers ----------------------------------------------------------------------------------------------------------
OPENS: Final = frozenset({"AllowTemporaryAccess", "OpenPortal"})
"""Methods that also return when the window ends."""
TELLS: Final = frozenset({"Questions", "SignIn"})
"""Methods that also return JSON."""


def answer(method: str, line: bytes) -> tuple[object, ...]:
    """What a method returns, from the daemon's answer; raises what the daemon refused it with."""
    try:
        found = json.loads(line)
        if found["ok"] is not True:
            raise CommandRefused(str(found["text"]), hint=str(found["hint"]), code=str(found["code"]))
        text, until = _sendable(str(found["text"])), found["expires_at"] or 0.0
        if not fits(until, moment):
            raise ValueError  # noqa: TRY301 - as below
        data = json.dumps(found.get("data"))
    except (ValueError, KeyError, TypeError, RecursionError):
        hint = "aovpnd-bus and aovpnd must be of the same release"
        raise CommandRefused("the daemon's answer cannot be understood", hint=hint, code="protocol") from None
    if method == "Explain":
        return text, round(until * MICROSECONDS), data
    if method in TELLS:
        return text, data
    return (text, round(until * MICROSECONDS)) if method in OPENS else (text,)


# -- errors -----------------------------------------------------------------------------------------------------------
def error_name(code: str) -> str:
    """``too-long`` as ``org.aovpnd1.Error.TooLong``; a code that has no such form is ``Failed``."""
    words = code.split("-")
    plain = all(word.isascii() and word.isalnum() for word in words)
    return ERROR_PREFIX + ("".join(word.capitalize() for word in words) if plain else "Failed")


def error_text(error: AovpndError) -> str:
    """What goes with the name: what is wrong, with what to do in parentheses; never a NUL, which D-Bus has not."""
    return _sendable(str(error))


def _sendable(text: str) -> str:
    """A text as D-Bus takes it: UTF-8 without NUL."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\x00")


# -- status -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class State:
    """What the properties show. ``until_us``: end of temporary access on CLOCK_BOOTTIME in µs, 0 without one."""

    phase: str = ""
    protected: bool = False
    tunnel: str = ""
    until_us: int = 0

    def properties(self) -> dict[str, object]:
        """By the names of the interface."""
        return {
            "Phase": self.phase,
            "Protected": self.protected,
            "Tunnel": self.tunnel,
            "TemporaryAccessUntil": self.until_us,
        }


NO_DAEMON: Final = State()
"""Nobody says anything; what was loaded stays loaded."""


def state(document: Document | None) -> State:
    """The properties, from what the daemon has published; None while no daemon runs."""
    if document is None:
        return NO_DAEMON
    access = document["temporary_access"]
    chosen = (tunnel["name"] for tunnel in document["tunnels"] if tunnel["role"] == "chosen")
    return State(
        phase=str(document["phase"] or ""),
        protected=document["protected"] is True,
        tunnel=str(next(chosen, "")),
        until_us=0 if access is None else round(float(access["_expires_boot"]) * MICROSECONDS),
    )


def public(document: Document | None, now: float) -> str:
    """The status as JSON, as ``aovpnctl status --json`` has it but for the counters of bytes, which are as published.

    ``now`` on CLOCK_BOOTTIME. `DaemonUnreachable` while no daemon runs.
    """
    if document is None:
        text, hint = without_daemon()
        raise DaemonUnreachable(text, hint=hint)
    shown = _without_private(document)
    access = document["temporary_access"]
    if access is not None:
        shown["temporary_access"]["remaining_s"] = max(0, math.ceil(float(access["_expires_boot"]) - now))
    return json.dumps(shown)


def _without_private(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, Mapping):
        return {key: _without_private(inner) for key, inner in value.items() if not key.startswith("_")}
    if isinstance(value, list):
        return [_without_private(inner) for inner in value]
    return value
