# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnctl status --watch``: the status for as long as somebody looks; Ctrl-C ends it, and that is no failure.

On a terminal the screen is drawn anew, in a pipe each change is a line. The published file is looked at once a second:
that costs a stat(2), and the daemon nothing.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from aovpnd.ctl.reading import RUNNING, Reading, read
from aovpnd.ctl.status import chosen, lines, network_name
from aovpnd.ctl.terminal import Style, countdown, plain, style

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from aovpnd.ctl.arguments import Arguments

DONE = 0
TICK_S = 1.0
OTHER_SCREEN, OWN_SCREEN = "\033[?1049h\033[?25l", "\033[?25h\033[?1049l"
"""The alternate screen without a cursor, and back (xterm's control sequences; every terminal of today knows them)."""
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
    to = style(sys.stdout)
    sys.stdout.write(OTHER_SCREEN)
    try:
        while True:
            sys.stdout.write(picture(read(runtime_dir), to, os.get_terminal_size(sys.stdout.fileno()).lines))
            sys.stdout.flush()
            time.sleep(TICK_S)
            to = style(sys.stdout)  # the window may have another width now
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
        time.sleep(TICK_S)


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
