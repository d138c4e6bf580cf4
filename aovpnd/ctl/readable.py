# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether who asks may read the configuration at all: half of it would be shown as if it were the whole."""

from __future__ import annotations

import os

from aovpnd import names
from aovpnd.ctl.arguments import Arguments
from aovpnd.errors import CommandRefused


def require_readable(arguments: Arguments) -> None:
    """`CommandRefused` where a directory of the configuration is closed to this user."""
    for directory in (arguments.config_dir, os.path.join(arguments.config_dir, names.TUNNELS), arguments.state_dir):
        if os.path.isdir(directory) and not os.access(directory, os.R_OK | os.X_OK):
            text = f"only root may read the whole configuration, and {directory} is part of it"
            raise CommandRefused(text, hint="try sudo", code="not-authorised")
