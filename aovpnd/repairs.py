# SPDX-License-Identifier: GPL-3.0-or-later
"""What others do to what is ours: repairs that they may undo (`core.fights` is what follows from it), and rules of
theirs that are asked before ours; and what of ours failed.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Repairs:
    """When one action was performed lately, the last time last (seconds on CLOCK_BOOTTIME). ``wish`` is a hash of the
    whole action: another one of its kind is no repair, but another wish.
    """

    action: str
    at: tuple[float, ...]
    wish: int


@dataclass(frozen=True, slots=True)
class RuleAhead:
    """A routing rule of somebody else that the kernel asks before ours. ``action`` as in ip-rule(8): "lookup main"."""

    priority: int
    action: str


@dataclass(frozen=True, slots=True)
class Failure:
    """An action that failed: which, how often in a row, when to try again, and why. Behind a space in ``action`` stands
    which tunnel beside the one that carries it was for.
    """

    action: str
    attempts: int
    retry_at: float
    text: str
    hint: str = ""

    @property
    def is_beside(self) -> bool:
        """Whether it is no business of the tunnel that carries."""
        return " " in self.action
