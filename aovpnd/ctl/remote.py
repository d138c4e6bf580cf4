# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said to whom a block would cut off, while he can still read it; and ``aovpnctl confirm`` without a daemon.

A machine's first block undoes itself where somebody is logged in over the network, unless it is confirmed: see
`confirmation`. What is said here decides nothing.
"""

from __future__ import annotations

import os
import sys
import time

from aovpnd import names
from aovpnd.confirmation import CONFIRM_WITHIN_S, GIVEN, Logins, spell
from aovpnd.ctl import view
from aovpnd.ctl.reading import read
from aovpnd.ctl.terminal import complain, plain
from aovpnd.errors import CommandRefused, StateError
from aovpnd.logins import logins

UNCONFIRMED = "block-unconfirmed"
"""The code of the problem that says that the block is about to undo itself."""
TOLD_S = 0.5
"""How long what is said here may take to arrive, before nothing does any more."""
WARNING = (
    f"somebody is logged in over the network: this machine's first block cuts such connections, and undoes itself after"
    f" {CONFIRM_WITHIN_S:.0f} s, when they go on (not so under a mandatory policy). To keep it, run by a way in that"
    f" still works, or now and start anew: aovpnctl confirm"
)


def forewarn_start() -> None:
    """Before a daemon is started that may never have blocked this machine."""
    _forewarn(first=not os.path.exists(os.path.join(names.STATE_DIR, names.CONFIRMATION_FILE)))


def forewarn_block(runtime_dir: str) -> None:
    """Before a running daemon is asked for the block."""
    try:
        block = read(runtime_dir).document["block"]
    except StateError:
        return
    _forewarn(first=block.get("confirmed") is False)


def _forewarn(*, first: bool) -> None:
    if first and logins()[0] is Logins.REMOTE:
        complain(WARNING)
        sys.stderr.flush()
        time.sleep(TOLD_S)


def remind(runtime_dir: str) -> None:
    """After a command was carried out: the block is about to undo itself."""
    try:
        problems = read(runtime_dir).document["problems"]
    except StateError:
        return
    for problem in problems:
        if problem["code"] == UNCONFIRMED:
            complain(f"{problem['text']}{view.until(problem)} ({problem['hint']})")


def confirm_offline(state_dir: str) -> str:
    """Write down what the daemon would: the first block will stay. What to say of it.

    `CommandRefused` when we are not root, `StateError` when it cannot be written.
    """
    if os.geteuid() != 0:
        raise CommandRefused("without the daemon only root may confirm", hint="try sudo", code="not-authorised")
    from pathlib import Path

    from aovpnd import regular

    path = Path(state_dir, names.CONFIRMATION_FILE)
    try:
        regular.put(path, spell(GIVEN, ""))
    except OSError as error:
        raise StateError(
            f"{plain(str(path))}: {error.strerror}", hint="is the file system full or read-only?"
        ) from error
    return "confirmed: when the daemon runs, its block stays, whoever is logged in over the network"
