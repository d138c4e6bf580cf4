# SPDX-License-Identifier: GPL-3.0-or-later
"""What aovpnd-rollback has written of a version that went again (docs/decisions/0043), and how that is told."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from aovpnd import names

LARGEST: Final = 512
"""Bytes of its record; two versions and a word."""
VERSION: Final = re.compile(r"[A-Za-z0-9.+~:-]{1,200}")
"""As deb-version(7) has it."""


class Outcome(StrEnum):
    """What became of the tunnel when the version before had returned."""

    WAITING = "waiting"
    CONNECTED = "connected"
    IN_VAIN = "in-vain"
    FAILED = "failed"
    """The version before could not be installed."""


@dataclass(frozen=True, slots=True)
class RolledBack:
    """``refused`` had not brought the tunnel back, so ``returned`` was installed again."""

    refused: str
    returned: str
    outcome: Outcome


def parse(text: str) -> RolledBack | None:
    """The record; None for what is not as it is written, an empty one too."""
    words = text.split()
    if len(words) != len(RolledBack.__slots__) or words[2] not in {outcome.value for outcome in Outcome}:
        return None
    if not all(VERSION.fullmatch(word) for word in words[:2]):
        return None
    return RolledBack(words[0], words[1], Outcome(words[2]))


def told(found: RolledBack) -> tuple[str, str]:
    """What there is to say, and what to do."""
    begin = f"with version {found.refused} the tunnel did not come back, so version {found.returned}"
    journal = "what happened: journalctl -u aovpnd-rollback"
    if found.outcome is Outcome.FAILED:
        by_hand = f"by hand: sudo dpkg --install {names.KEPT_PACKAGE}"
        return f"{begin} should have been installed again, and could not be", f"{by_hand}; {journal}"
    text = f"{begin} was installed again"
    if found.outcome is Outcome.IN_VAIN:
        text = f"{text}, and has no tunnel either: it may be the network or the gateway"
    return text, f"another version is installed as ever; to have that one: sudo rm {names.PIN_FILE}; {journal}"
