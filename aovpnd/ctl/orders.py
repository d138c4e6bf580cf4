# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that the daemon carries out: allow-temp, connect, disconnect, unblock, block, confirm.

What is permitted is the daemon's to say: nothing is clamped here, and nothing retried.
"""

from __future__ import annotations

import os
import time

from aovpnd import durations
from aovpnd.ctl.arguments import Arguments, UsageError
from aovpnd.ctl.asking import ask
from aovpnd.ctl.terminal import countdown, plain
from aovpnd.errors import DaemonUnreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DONE = 0
USER_NAME_LENGTH = 64


def run(arguments: Arguments) -> int:
    """Have the command carried out, and say what came of it."""
    try:
        answer = _ask(arguments)
    except DaemonUnreachable as error:
        if arguments.command == "confirm":
            from aovpnd.ctl.remote import confirm_offline

            answer = {"text": confirm_offline(arguments.state_dir), "expires_at": None}
        elif arguments.command != "unblock":
            raise
        else:
            hint = f"{error.hint}; without the daemon: aovpnctl unblock --offline"
            raise DaemonUnreachable(error.text, hint=hint) from error
    if arguments.json:
        import json

        print(json.dumps(_document(answer)))
    else:
        print(sentence(answer))
    if arguments.command == "connect":
        from aovpnd.ctl.remote import remind

        remind(arguments.runtime_dir)
    return DONE


def _ask(arguments: Arguments) -> dict[str, Any]:
    place = arguments.runtime_dir
    match arguments.command:
        case "allow-temp" if arguments.has("--cancel"):
            return ask(place, "cancel-temp")
        case "allow-temp":
            seconds = _seconds(arguments.argument)
            return ask(place, "allow-temp", duration_s=seconds, reason=arguments.value("--reason"), user=_user())
        case "connect":
            return ask(place, "connect", name=arguments.argument)
        case "block":
            from aovpnd.ctl.remote import forewarn_block

            forewarn_block(place)
            return ask(place, "block")
        case word:
            return ask(place, word)


def _seconds(span: str | None) -> int | None:
    if span is None:
        return None
    try:
        return durations.parse(span)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _user() -> str | None:
    """Who stands behind root, as far as sudo(8) says. Only for the record: it grants nothing."""
    user = os.environ.get("SUDO_USER", "")
    return user if user.isprintable() and 0 < len(user) <= USER_NAME_LENGTH else None


def sentence(answer: dict[str, Any]) -> str:
    """The answer for a person; what ends says when, by the clock on the wall."""
    text = plain(answer["text"])
    if answer["expires_at"] is None:
        return text
    left = _left(answer)
    return f"{text} until {time.strftime('%H:%M:%S', time.localtime(time.time() + left))} ({countdown(round(left))})"


def _document(answer: dict[str, Any]) -> dict[str, Any]:
    document = {"ok": True, "text": answer["text"], "expires_at": None, "remaining_s": None}
    if answer["expires_at"] is not None:
        left = _left(answer)
        document["expires_at"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(round(time.time() + left)))
        document["remaining_s"] = round(left)
    return document


def _left(answer: dict[str, Any]) -> float:
    return max(0.0, float(answer["expires_at"]) - time.clock_gettime(time.CLOCK_BOOTTIME))
