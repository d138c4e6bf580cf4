# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnctl sign-in`` for a tunnel whose gateway wants a browser: show where, have it opened where there is a desktop,
and wait until the daemon has seen that the gateway lets through.

The URL comes from a gateway. The daemon has judged it; it is judged here once more, is never a part of a command that a
shell reads, and is never opened as root.
"""

from __future__ import annotations

import os
import sys
import time

from aovpnd.ctl.reading import RUNNING, read
from aovpnd.ctl.terminal import plain
from aovpnd.errors import AovpndError, StateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from aovpnd.ctl.arguments import Arguments

OPENER = "/usr/bin/xdg-open"
DISPLAYS = ("WAYLAND_DISPLAY", "DISPLAY")
PERSON_S = 600.0
"""How long somebody may take with a page, unless he says otherwise."""
LOOK_S = 0.2
LONGEST_URL = 2048
MOST_TOLD = 3
"""Pages of one tunnel that are shown before it lets somebody through: there is no end to those that a gateway can make
up."""


def pages(document: dict[str, Any], tunnel: str | None = None) -> dict[str, str]:
    """Where to sign in, by tunnels: of one, or of all that wait for a browser."""
    found = {str(each["name"]): each.get("sign_in_url") for each in document["tunnels"]}
    return {name: url for name, url in found.items() if _is_fit(url) and tunnel in {None, name}}


def _is_fit(url: object) -> bool:
    """As the daemon has it: printable ASCII, http or https."""
    fit = isinstance(url, str) and len(url) <= LONGEST_URL and url.isascii() and url.isprintable() and " " not in url
    return fit and str(url).startswith(("http://", "https://"))


class Told:
    """What has been shown of each tunnel since somebody was last seen to be in; lives as long as the command."""

    __slots__ = ("_shown",)

    def __init__(self) -> None:
        self._shown: dict[str, set[str]] = {}

    def news(self, document: dict[str, Any], tunnel: str | None = None) -> dict[str, str]:
        """Where to sign in, if it was not shown yet. What only differs behind its ``?`` is the same page: such are new
        each time that they are asked for.
        """
        for name in list(self._shown):
            if _is_in(document, name):
                del self._shown[name]
        fresh = {}
        for name, url in pages(document, tunnel).items():
            shown, page = self._shown.setdefault(name, set()), url.partition("?")[0]
            if page not in shown and len(shown) < MOST_TOLD:
                shown.add(page)
                fresh[name] = url
        return fresh


def sentence(tunnel: str, url: str) -> str:
    """What a person is to do."""
    return plain(f"{tunnel}: sign in with a browser, at {url}")


def sign_in(arguments: Arguments, tunnel: str, timeout_s: float | None) -> str:
    """Show where, have it opened, and wait; what to say of it then. `AovpndError` when nobody has signed in in time."""
    timeout_s = PERSON_S if timeout_s is None else timeout_s
    deadline = time.monotonic() + timeout_s
    told = Told()
    out = sys.stderr if arguments.json else sys.stdout
    while True:
        document = _document(arguments.runtime_dir)
        if document is not None:
            for url in told.news(document, tunnel).values():
                print(sentence(tunnel, url), file=out, flush=True)
                _open(url)
            if _is_in(document, tunnel):
                return f"signed in: the gateway of {tunnel} lets through"
        if time.monotonic() >= deadline:
            text = f"nobody has signed in to {tunnel} within {timeout_s:.0f} s"
            raise AovpndError(text, hint=f"aovpnctl sign-in {tunnel}", code="timeout")
        time.sleep(LOOK_S)


def _document(runtime_dir: str) -> dict[str, Any] | None:
    """What a daemon that runs has published."""
    try:
        reading = read(runtime_dir)
    except StateError:
        return None
    return reading.document if reading.daemon == RUNNING else None


def _is_in(document: dict[str, Any], tunnel: str) -> bool:
    """Whether the daemon has seen it: that nothing is wanted any more may only mean that nobody answers."""
    return any(each["name"] == tunnel and each.get("sign_in") == "done" for each in document["tunnels"])


def _open(url: str) -> None:
    """In the browser of whoever sits there, where he does; what it says, nobody reads."""
    if os.geteuid() == 0 or not any(os.environ.get(name) for name in DISPLAYS):
        return
    import subprocess

    quiet = subprocess.DEVNULL
    try:
        subprocess.Popen([OPENER, url], stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
    except OSError:
        return  # it is on the screen
