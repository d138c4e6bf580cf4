# SPDX-License-Identifier: GPL-3.0-or-later
"""What is remembered of repairs that others may undo; `core.fights` is what follows from it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Repairs:
    """When an action of one kind was performed lately, the last time last (seconds on CLOCK_BOOTTIME)."""

    action: str
    at: tuple[float, ...]
