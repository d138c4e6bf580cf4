# SPDX-License-Identifier: GPL-3.0-or-later
"""What to do about NetworkManager's connectivity check (docs/decisions/0018). Pure.

It asks a web server by each link. While we block, no answer comes: it would call every network limited and give its
routes a worse metric.
"""

from enum import StrEnum
from typing import Final

LIMITED: Final = 3
"""NM_CONNECTIVITY_LIMITED."""


class Check(StrEnum):
    """What NetworkManager says of its check."""

    ON = "on"
    OFF = "off"
    ABSENT = "absent"


class Block(StrEnum):
    """What the daemon says of the block; while none runs, nothing is known."""

    ON = "on"
    OFF = "off"
    UNKNOWN = "unknown"


class Owner(StrEnum):
    """Who turned the check off, by our own record."""

    WE = "we"
    NOT_WE = "not-we"


class Step(StrEnum):
    """What to do."""

    LEAVE = "leave"
    TURN_OFF = "turn-off"
    TURN_ON = "turn-on"


def step(check: Check, block: Block, owner: Owner) -> Step:
    """Off while we block; on again after that, if it was we who had turned it off."""
    if block is Block.ON and check is Check.ON:
        return Step.TURN_OFF
    if block is Block.OFF and check is not Check.ABSENT and owner is Owner.WE:
        return Step.TURN_ON
    return Step.LEAVE


def is_outdated(connectivity: object, primary: object) -> bool:
    """Whether NetworkManager, with its check off, still calls a machine with a default route limited.

    It guesses once, when a link has come up, by whether there is such a route then; one that comes a moment later
    changes nothing (nm-device.c, `concheck_update_state`, 1.42 to 1.52). ``connectivity`` and ``primary`` are its
    properties Connectivity (NMConnectivityState) and PrimaryConnection ("/": no link has a default route).
    """
    return connectivity == LIMITED and primary != "/"


def block_of(phase: str) -> Block:
    """From a published phase; "" while no daemon runs."""
    if not phase:
        return Block.UNKNOWN
    return Block.OFF if phase == "unblocked" else Block.ON
