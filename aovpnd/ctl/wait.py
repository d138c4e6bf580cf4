# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnctl wait``: for scripts and units that must not start before nothing can leave outside the tunnel
(``--protected``), or before the tunnel carries (``--connected``).
"""

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
CONNECTED = "connected"
CARRYING = {CONNECTED, "resting"}
"""A tunnel that rests connects when somebody sends: waiting sends nothing, and would never end."""


def run(arguments: Arguments) -> int:
    """Return when it is so. `AovpndError` when the time is over, `DaemonUnreachable` if nobody came."""
    deadline = _deadline(arguments.value("--timeout"))
    wanted = CONNECTED if arguments.has("--connected") else "protected"
    while not _holds(wanted, reading := read(arguments.runtime_dir)):
        if time.monotonic() >= deadline:
            raise _too_late(wanted, reading)
        time.sleep(LOOK_S)
    if arguments.json:
        print(f'{{"ok": true, "{wanted}": true}}')
    return DONE


def _holds(wanted: str, reading: Reading) -> bool:
    """Connected is more than protected: nothing is, without a daemon that vouches for it."""
    document = reading.document
    return bool(document["protected"]) and (wanted != CONNECTED or document["phase"] in CARRYING)


def _deadline(span: str | None) -> float:
    if span is None:
        return NEVER
    try:
        return time.monotonic() + durations.parse(span)
    except ValueError as error:
        raise UsageError(f"--timeout: {error}") from error


def _too_late(wanted: str, reading: Reading) -> AovpndError:
    if reading.daemon == RUNNING:
        return AovpndError(f"still not {wanted}: {reading.document['phase']}", hint="aovpnctl status", code="timeout")
    problem = reading.document["problems"][0]
    return DaemonUnreachable(problem["text"], hint=problem["hint"])
