# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnctl status --watch``: the status for as long as somebody looks; Ctrl-C ends it, and that is no failure.

On a terminal the screen is drawn anew, in a pipe each change is a line. Whether the published file is another one is
asked four times a second: that costs a stat(2), and the daemon nothing.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

from aovpnd import names
from aovpnd.ctl.reading import RUNNING, Reading, read
from aovpnd.ctl.terminal import Style, countdown, plain, style
from aovpnd.ctl.view import chosen, lines, network_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from aovpnd.ctl.arguments import Arguments

DONE = 0
TICK_S = 1.0
"""How often to draw anew: times that are shown go by in seconds, and a daemon may have died."""
GLANCE_S = 0.25
LATE_S = 0.005
"""How long after a second begins it is shown, so that rounding never shows one twice."""
OTHER_SCREEN, OWN_SCREEN = "\033[?1049h\033[?25l\033[?7l", "\033[?7h\033[?25h\033[?1049l"
"""The alternate screen without cursor and line wrap, and back (xterm's; every terminal of today knows them)."""
HOME, LINE_END, BELOW = "\033[H", "\033[K\r\n", "\033[J"
OPEN = frozenset({"temporary-access", "unblocked"})
"""The phases that are open on purpose."""
VOLATILE = frozenset({"rx_bytes", "tx_bytes", "last_handshake"})
"""What changes all the time and is no news in a pipe."""


def run(arguments: Arguments) -> int:
    """Show the status until Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if arguments.json:
            _follow(arguments.runtime_dir, json_line)
        elif sys.stdout.isatty():
            _draw(arguments.runtime_dir)
        else:
            _follow(arguments.runtime_dir, text_line)
    except KeyboardInterrupt:
        return DONE


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _draw(runtime_dir: str) -> NoReturn:
    sys.stdout.write(OTHER_SCREEN)
    try:
        while True:
            reading = read(runtime_dir)
            height = os.get_terminal_size(sys.stdout.fileno()).lines
            sys.stdout.write(picture(reading, style(sys.stdout), height))  # the window may have another size now
            sys.stdout.flush()
            _pause(runtime_dir, reading)
    finally:
        sys.stdout.write(OWN_SCREEN)
        sys.stdout.flush()


def picture(reading: Reading, to: Style, height: int) -> str:
    """What to write to draw one whole screen over the one before."""
    shown = lines(reading, to)
    shown += ["", "(Ctrl-C ends)"]
    if len(shown) > height:
        shown = [*shown[: height - 1], "…"]
    return HOME + LINE_END.join(shown) + "\033[K" + BELOW


def _follow(runtime_dir: str, line: Callable[[Reading], tuple[str, str]]) -> NoReturn:
    last = ""
    while True:
        reading = read(runtime_dir)
        text, news = line(reading)
        if news != last:
            print(text, flush=True)
            last = news
        _pause(runtime_dir, reading)


def _pause(runtime_dir: str, reading: Reading) -> None:
    """Sleep until another second is to be shown, or another file is there."""
    before = _signature(runtime_dir)
    end = time.monotonic() + until_next_second(reading, time.clock_gettime(time.CLOCK_BOOTTIME))
    reader = select.poll()
    reader.register(sys.stdout, 0)  # only hang-ups: `| head -1` must end us although there is no news
    while (left := end - time.monotonic()) > 0 and _signature(runtime_dir) == before:
        if reader.poll(min(left, GLANCE_S) * 1000):
            raise BrokenPipeError


def until_next_second(reading: Reading, now: float) -> float:
    """Seconds until the countdown shows another number; without a countdown, one."""
    access = reading.document["temporary_access"]
    return TICK_S if access is None else float((access["_expires_boot"] - now) % TICK_S) + LATE_S


def _signature(runtime_dir: str) -> tuple[int, int]:
    """Another one when the file was replaced."""
    try:
        found = os.stat(os.path.join(runtime_dir, names.STATUS_FILE))
    except OSError:
        return 0, 0
    return found.st_ino, found.st_mtime_ns


def text_line(reading: Reading) -> tuple[str, str]:
    """One line, and what of it is news."""
    news = " · ".join(map(plain, _words(reading)))
    return f"{time.strftime('%H:%M:%S')} {news}", news


def _words(reading: Reading) -> list[str]:
    document = reading.document
    access = document["temporary_access"]
    left = [] if access is None else [f"{countdown(access['remaining_s'])} left"]
    if reading.daemon != RUNNING:
        return [document["problems"][0]["text"], *left]
    tunnel = chosen(document)
    held = document["protected"] or document["phase"] in OPEN
    return [
        document["phase"],
        *map(network_name, document["uplinks"]),
        *([] if tunnel is None else [f"{tunnel['name']} {tunnel['state']}"]),
        *left,
        *([] if held else ["NOT PROTECTED"]),
        *(f"{problem['severity']}: {problem['text']}" for problem in document["problems"]),
    ]


def json_line(reading: Reading) -> tuple[str, str]:
    """The document on one line, and what of it is news."""
    import json

    document = reading.public()
    tunnels = [{key: t[key] for key in t if key not in VOLATILE} for t in document["tunnels"]]
    return json.dumps(document), json.dumps({**document, "tunnels": tunnels})
