# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnd-clock``: raise a clock that is behind the time of the last tunnel, once at boot.

WireGuard's first message carries the time, and a gateway takes one that is not after the last one's for a replay, in
silence. A machine whose hardware clock is dead, or in local time, would stay shut until the clock has caught up, and
could not ask for the time through a tunnel that does not come up. So the daemon notes the time of the tunnel's
handshakes, and at boot the clock is raised to the last one noted. From there on whoever keeps the time goes on.
"""

import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from aovpnd import names, regular
from aovpnd.clock import LAST_S
from aovpnd.logs import to_stderr
from aovpnd.options import Parser

log = logging.getLogger("aovpnd.clock")

FILE: Final = "clock"
"""In STATE: the time (seconds since the epoch) of a handshake that a gateway answered."""
EVERY_S: Final = 600
"""The file is written so often at most; what is noted may be older than the last handshake by that."""
_LOCAL_S: Final = 26 * 3600
"""No two time zones are further apart. A clock that is behind by more was not merely set in another one."""
_LARGEST: Final = 32
_DATED: Final = ("/usr/lib/clock-epoch", "/var/lib/dpkg/status", "/etc/machine-id", names.__file__)
"""Files that are not older than the system: a clock before them has no idea of the time."""


def raised(now: float, noted: int, newest: float) -> int | None:
    """What to set the clock to, or None where it is left alone; ``newest``: the time of the newest file of the system.

    Left alone is a clock that is ahead, and one that is behind by more than time zones explain and still later than all
    files: then the noted time is as likely to be wrong as the clock's.
    """
    wanted = noted + EVERY_S
    behind = wanted - now
    return wanted if behind > 0 and (behind <= _LOCAL_S or now < newest) else None


def noted(state_dir: Path) -> int | None:
    """The time in the file; None where there is none, or something else than a time."""
    try:
        text = regular.read(state_dir / FILE, _LARGEST).strip()
    except OSError:
        return None
    return int(text) if text.isdigit() and 0 < int(text) < LAST_S else None


def main(arguments: list[str] | None = None, put: Callable[[int, float], object] = time.clock_settime) -> int:
    """Raise the clock; 0 also where there was nothing to do, 1 when it cannot be set."""
    to_stderr("aovpnd-clock: %(message)s")
    parser = Parser(prog="aovpnd-clock", description="raises a clock that is behind the last tunnel")
    parser.add_argument("--state-dir", type=Path, default=Path(names.STATE_DIR), metavar="DIR")
    at, now = noted(parser.parse_args(arguments).state_dir), time.time()
    wanted = raised(now, at, max(map(_changed, _DATED))) if at is not None else None
    if wanted is None:
        return 0
    said = f"the clock said {_date(now)}, before the last tunnel"
    try:
        put(time.CLOCK_REALTIME, wanted)
    except OSError as error:
        log.error("%s, and cannot be set: %s", said, error.strerror)  # noqa: TRY400 - one line for a person
        return 1
    log.info("%s; it says %s now, until somebody knows better", said, _date(wanted))
    return 0


def _changed(path: str) -> float:
    try:
        return Path(path).stat().st_mtime
    except OSError:
        return 0.0


def _date(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))


if __name__ == "__main__":
    sys.exit(main())
