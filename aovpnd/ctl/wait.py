# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnctl wait --protected``: for scripts that must not start before nothing can leave outside the tunnel."""

from __future__ import annotations

import time

from aovpnd import durations
from aovpnd.ctl.arguments import UsageError
from aovpnd.ctl.reading import RUNNING, Reading, read
from aovpnd.errors import AovpndError, DaemonUnreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from aovpnd.ctl.arguments import Arguments

DONE = 0
NEVER = float("inf")
LOOK_S = 0.1
"""How often the published file is looked at; a script that waits does so once."""


def run(arguments: Arguments) -> int:
    """Return when the machine is protected. `AovpndError` when the time is over, `DaemonUnreachable` if nobody came."""
    deadline = _deadline(arguments.value("--timeout"))
    while not (reading := read(arguments.runtime_dir)).document["protected"]:
        if time.monotonic() >= deadline:
            raise _too_late(reading)
        time.sleep(LOOK_S)
    if arguments.json:
        print('{"ok": true, "protected": true}')
    return DONE


def _deadline(span: str | None) -> float:
    if span is None:
        return NEVER
    try:
        return time.monotonic() + durations.parse(span)
    except ValueError as error:
        raise UsageError(f"--timeout: {error}") from error


def _too_late(reading: Reading) -> AovpndError:
    if reading.daemon == RUNNING:
        return AovpndError(f"still not protected: {reading.document['phase']}", hint="aovpnctl status", code="timeout")
    problem = reading.document["problems"][0]
    return DaemonUnreachable(problem["text"], hint=problem["hint"])
