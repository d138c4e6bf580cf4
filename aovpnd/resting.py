# SPDX-License-Identifier: GPL-3.0-or-later
"""What there is to say of a tunnel that rests while nobody sends (docs/decisions/0057). Frozen values; `core.rest` is
when it does.

Times are seconds on CLOCK_BOOTTIME.
"""

from dataclasses import dataclass
from enum import StrEnum


class Shake(StrEnum):
    """When a tunnel whose session is given up shakes hands."""

    NOW = "now"
    WANTED = "when it is wanted"


class Queue(StrEnum):
    """Whether what programs put into a link goes on, or is kept until there is an SA."""

    OPEN = "open"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class Rouse:
    """What ends a rest: a link that has counted another number of packets than ``tries``; looked at so often."""

    link: int
    tries: int
    every_s: float


@dataclass(frozen=True, slots=True)
class Moved:
    """When anything last went through the tunnel's link, and its counters then, as in `TunnelState`."""

    at: float
    link: int
    tries: int
    got_bytes: int


@dataclass(frozen=True, slots=True)
class Rested:
    """What is known of the rest of a daemon that died: the fingerprint of its path, and ``tries`` as in `Rest`."""

    path: str
    tries: int
