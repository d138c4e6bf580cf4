# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon's first start, by `aovpnctl import`: before the first tunnel its unit does nothing (its conditions). And
its start anew, after which it sees what systemd decrypts for it (`encrypting`).

Only a daemon that boots with the machine is started: one that an administrator has disabled, or that belongs to other
directories than the unit's, is somebody else's business.
"""

from __future__ import annotations

import os
import subprocess

from aovpnd import names
from aovpnd.ctl.calling import SYSTEMCTL, SYSTEMD, call, output
from aovpnd.ctl.remote import forewarn_start
from aovpnd.errors import CommandRefused, ToolError

PATIENCE_S = 60.0
"""How long the first passes may take."""


def start(config_dir: str, runtime_dir: str, *, anew: bool = False) -> bool:
    """Start the daemon, ``anew`` where it runs, and wait until it blocks; False where that is not ours to do.

    `CommandRefused` when it does not start.
    """
    if (config_dir, runtime_dir) != (names.CONFIG_DIR, names.RUNTIME_DIR) or not os.path.isdir(SYSTEMD):
        return False
    try:
        if call(SYSTEMCTL, "is-enabled", "--quiet", names.UNIT, patience_s=PATIENCE_S).returncode != 0:
            return False
        forewarn_start()
        started = call(SYSTEMCTL, "restart" if anew else "start", names.UNIT, patience_s=PATIENCE_S)
    except OSError as error:
        reason = f"systemctl cannot be run: {error.strerror or error}"
    except subprocess.TimeoutExpired:
        text = f"the daemon has not blocked within {PATIENCE_S:.0f} s, and may still come to it"
        raise CommandRefused(text, hint="aovpnctl status; journalctl -u aovpnd", code="not-started") from None
    else:
        if started.returncode == 0:
            return True
        reason = " ".join(started.stderr.split())[:200]
    raise CommandRefused(f"the daemon does not start: {reason}", hint="journalctl -u aovpnd", code="not-started")


def reread_units() -> None:
    """Have systemd read the daemon's unit again. `CommandRefused` when it does not."""
    try:
        output(SYSTEMCTL, "daemon-reload", patience_s=PATIENCE_S)
    except ToolError as error:
        text = f"systemd does not read its unit again: {error.text}"
        raise CommandRefused(text, hint="systemctl daemon-reload", code="not-started") from None
