# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon's first start, by `aovpnctl import`: before the first tunnel its unit does nothing (its conditions).

Only a daemon that boots with the machine is started: one that an administrator has disabled, or that belongs to other
directories than the unit's, is somebody else's business.
"""

from __future__ import annotations

import os
import subprocess

from aovpnd import names
from aovpnd.errors import CommandRefused

SYSTEMCTL = "/usr/bin/systemctl"
SYSTEMD = "/run/systemd/system"
"""Is there when systemd is the system's manager, sd_booted(3)."""
PATIENCE_S = 60.0
"""How long the first passes may take."""


def start(config_dir: str, runtime_dir: str) -> bool:
    """Start the daemon, and wait until it blocks; False where that is not ours to do.

    `CommandRefused` when it does not start.
    """
    if (config_dir, runtime_dir) != (names.CONFIG_DIR, names.RUNTIME_DIR) or not os.path.isdir(SYSTEMD):
        return False
    try:
        if _call("is-enabled", "--quiet", names.UNIT).returncode != 0:
            return False
        started = _call("start", names.UNIT)
    except (OSError, subprocess.TimeoutExpired):
        reason = "systemctl does not answer"
    else:
        if started.returncode == 0:
            return True
        reason = " ".join(started.stderr.split())[:200]
    raise CommandRefused(f"the daemon does not start: {reason}", hint="journalctl -u aovpnd", code="not-started")


def _call(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SYSTEMCTL, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=PATIENCE_S,
        check=False,
        env={"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )
