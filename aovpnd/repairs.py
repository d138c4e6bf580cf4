# SPDX-License-Identifier: GPL-3.0-or-later
"""What others do to what is ours: repairs that they may undo (`core.fights` is what follows from it), and rules of
theirs that are asked before ours.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Repairs:
    """When an action of one kind was performed lately, the last time last (seconds on CLOCK_BOOTTIME)."""

    action: str
    at: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class RuleAhead:
    """A routing rule of somebody else that the kernel asks before ours. ``action`` as in ip-rule(8): "lookup main"."""

    priority: int
    action: str
