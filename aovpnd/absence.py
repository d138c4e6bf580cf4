# SPDX-License-Identifier: GPL-3.0-or-later
"""What is true while no daemon runs, for everybody who has to say it; `aovpnctl status` imports it, so it is quick."""

from __future__ import annotations

import os

from aovpnd import names

MARKER = os.path.join(names.CONFIG_DIR, names.UNBLOCKED_MARKER)


def without_daemon() -> tuple[str, str]:
    """What to say, and what can be done. The block outlives the daemon, unless an administrator took it off."""
    if os.path.exists(MARKER):
        return (
            "daemon not running, and the block is off: nothing is protected",
            "to put it on: systemctl start aovpnd, then aovpnctl block",
        )
    return "daemon not running; the block remains as loaded", "to start it: systemctl start aovpnd"
