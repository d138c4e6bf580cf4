# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnctl status``: phase, network, tunnel, temporary access with the time left, problems with hints.

What is shown comes from one published file; nothing wakes the daemon.
"""

from __future__ import annotations

import sys

from aovpnd.ctl.reading import RUNNING, read
from aovpnd.ctl.terminal import style
from aovpnd.ctl.view import lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from aovpnd.ctl.arguments import Arguments

DONE, UNREACHABLE = 0, 3


def run(arguments: Arguments) -> int:
    """Show the status, once or for as long as somebody looks."""
    if arguments.has("--watch"):
        from aovpnd.ctl import watch

        return watch.run(arguments)
    reading = read(arguments.runtime_dir)
    if arguments.json:
        import json

        print(json.dumps(reading.public(), indent=2))
    else:
        print("\n".join(lines(reading, style(sys.stdout))))
    return DONE if reading.daemon == RUNNING else UNREACHABLE
