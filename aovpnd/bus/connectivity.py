# SPDX-License-Identifier: GPL-3.0-or-later
"""What to do about NetworkManager's connectivity check (docs/decisions/0018). Pure.

It asks a web server by each link. While we block, no answer comes: it would call every network limited and give its
routes a worse metric.
"""

from enum import StrEnum


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


def block_of(phase: str) -> Block:
    """From a published phase; "" while no daemon runs."""
    if not phase:
        return Block.UNKNOWN
    return Block.OFF if phase == "unblocked" else Block.ON
