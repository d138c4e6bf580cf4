# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told while the system cannot be read: what was seen last, and that nobody vouches for it any more."""

from dataclasses import replace

from aovpnd.errors import SystemFault
from aovpnd.model import Desired, Problem, Severity, Snapshot


def sightless(snapshot: Snapshot, desired: Desired, fault: SystemFault) -> tuple[Snapshot, Desired]:
    """The last settled look, of which the ruleset is no longer known, and the reason before its other problems."""
    text = f"the system cannot be read, the block stays as it was loaded: {fault.text}"
    problem = Problem("system-unreadable", Severity.ERROR, text, fault.hint or "it is being tried again")
    return replace(snapshot, ruleset=None), replace(desired, problems=(problem, *desired.problems))
