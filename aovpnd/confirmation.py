# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the block stands for good, or undoes itself unless somebody confirms it in time.

Who administers a machine over the network is cut off by its first block, and it may be the only way in. So the first
one is a "confirmed commit" (RFC 6241, section 8.4), where somebody is logged in like that. What follows from these
values is core's (`core.confirming`); here they are put into words for the disk, and read back.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

CONFIRM_WITHIN_S: Final = 60.0
"""A program's connection outlives a minute of silence; a person who looks for another way in needs most of one."""
_AWAITED: Final = re.compile(r"awaited until ([0-9]{1,10}\.[0-9]{3}) in boot ([0-9a-f-]{0,36})\n")
_ROUNDING_S: Final = 1.0


class Logins(StrEnum):
    """Who is logged in: no person, somebody, or somebody over the network as far as can be told."""

    NOBODY = "nobody"
    LOCAL = "local"
    REMOTE = "remote"


class Standing(StrEnum):
    """What became of this machine's first block. Only AWAITED undoes itself."""

    NEVER = "never"
    """There was none yet, or it has undone itself."""
    AWAITED = "awaited"
    GIVEN = "given"
    """An administrator has confirmed it, or the one to come."""
    NEEDLESS = "needless"
    """There was nobody whom it could cut off, or it is not his to decide."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """``until`` (CLOCK_BOOTTIME, whole milliseconds) an awaited one has to come."""

    standing: Standing = Standing.NEEDLESS
    until: float = 0.0


NEVER, GIVEN, NEEDLESS = (Confirmation(standing) for standing in (Standing.NEVER, Standing.GIVEN, Standing.NEEDLESS))


def awaited(now: float) -> Confirmation:
    """One that has to come within `CONFIRM_WITHIN_S` from ``now`` (CLOCK_BOOTTIME)."""
    return Confirmation(Standing.AWAITED, round(now + CONFIRM_WITHIN_S, 3))


def spell(confirmation: Confirmation, boot_id: str) -> str:
    """What is kept on the disk. `NEVER` is kept by keeping nothing."""
    if confirmation.standing is Standing.AWAITED:
        return f"awaited until {confirmation.until:.3f} in boot {boot_id}\n"
    return f"{confirmation.standing}\n"


def parse(text: str, boot_id: str, now: float) -> Confirmation:
    """Read it back. What is not just as we write it undoes nothing. A boot that has ended has taken its minute along:
    nobody confirmed in it.
    """
    found = _AWAITED.fullmatch(text)
    if found is None:
        return GIVEN if text == spell(GIVEN, boot_id) else NEEDLESS
    if found[2] != boot_id:
        return Confirmation(Standing.AWAITED)
    until = float(found[1])
    return Confirmation(Standing.AWAITED, until) if until <= now + CONFIRM_WITHIN_S + _ROUNDING_S else NEEDLESS
