# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnctl doctor``: look at the whole machine, change nothing, and say what is well, what is not, and what to do.

It needs no daemon and no valid configuration. `gathering` reads, within bounds and deadlines, into one frozen value
(`facts`); `judge` is a pure function of it; `tell` puts the findings into words. What somebody may not see is said.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from aovpnd.ctl.doctor.gathering import gather
from aovpnd.ctl.doctor.judge import judge
from aovpnd.ctl.doctor.tell import document, is_well, lines
from aovpnd.ctl.terminal import style

if TYPE_CHECKING:
    from aovpnd.ctl.arguments import Arguments

WELL, TO_DO = 0, 1


def run(arguments: Arguments) -> int:
    """Examine this machine. Exit status 1 when there is something to do."""
    facts = gather(arguments.runtime_dir, arguments.config_dir, arguments.state_dir)
    findings = judge(facts)
    if arguments.json:
        print(json.dumps(document(facts, findings), indent=2))
    else:
        print("\n".join(lines(facts, findings, style(sys.stdout))))
    return WELL if is_well(findings) else TO_DO
