# SPDX-License-Identifier: GPL-3.0-or-later
"""What is true while no daemon runs, for everybody who has to say it; `aovpnctl status` imports it, so it is quick."""

from __future__ import annotations

import os

from aovpnd import names

MARKER = os.path.join(names.CONFIG_DIR, names.UNBLOCKED_MARKER)
TUNNELS = os.path.join(names.CONFIG_DIR, names.TUNNELS)
LOCK = os.path.join(names.RUNTIME_DIR, names.LOCK_FILE)
"""Is there once a daemon has run in this boot."""


def without_daemon() -> tuple[str, str]:
    """What to say, and what can be done. The block outlives the daemon, unless an administrator took it off."""
    if os.path.exists(MARKER):
        return (
            "daemon not running, and the block is off: nothing is protected",
            "to put it on: systemctl start aovpnd, then aovpnctl block",
        )
    if _not_begun():
        return "daemon not running: there is no tunnel yet, and nothing is protected", "sudo aovpnctl import FILE"
    return "daemon not running; the block remains as loaded", "to start it: systemctl start aovpnd"


def _not_begun() -> bool:
    """Whether the block waits for the first tunnel, as the units do. Only root can tell, who alone sees the tunnels."""
    try:
        return not os.listdir(TUNNELS) and not os.path.exists(LOCK)
    except OSError:
        return False
