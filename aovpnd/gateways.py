# SPDX-License-Identifier: GPL-3.0-or-later
"""What must be remembered of tunnels: over what one runs, when it was shaken and heard; and of several, which one
carries, which were left and why, which one is on trial. Frozen values; `core` is how they change.

Times are seconds on CLOCK_BOOTTIME.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from aovpnd.filters import Filter
from aovpnd.tunnel import Endpoint, Interface
from aovpnd.users import EVERYBODY, Use


@dataclass(frozen=True, slots=True)
class Path:
    """Over what the tunnel runs: when any of it changes, only a new handshake proves the tunnel."""

    tunnel: str
    digest: str
    endpoints: tuple[Endpoint, ...]
    link: int
    networks: tuple[str, ...]

    def fingerprint(self) -> str:
        """A short digest, for the daemon that comes after this one."""
        return hashlib.blake2b(repr(self).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class PathMtu:
    """What was found out of the size of packets that a path (its fingerprint) carries.

    ``inner`` bytes of the largest packet inside the tunnel that is known to pass, None while nothing speaks against
    what uplink and routes say; ``lost``: larger ones vanish without a word. Programs have sent since ``since`` (None
    until the pass that learns of an answer), when ``tx_bytes`` was the count; ``wait_s`` at least from then on until it
    is measured again, 0.0 while it never was.
    """

    path: str
    since: float | None
    tx_bytes: int
    inner: int | None = None
    lost: bool = False
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Provoked:
    """The last time that we made the tunnel shake hands, and how often on this path."""

    path: Path
    at: float
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class Heard:
    """When the tunnel last received anything, and the counters then; ``put_bytes`` as in `TunnelState`."""

    at: float
    rx_bytes: int
    tx_bytes: int
    handshake_wall: int | None
    put_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Rest:
    """A tunnel that rests until its link has counted more than ``tries`` packets: which one, by name and digest, on
    which link. ``path``: over which its session was given up, so that the next one proves it; None while it was not.
    """

    tunnel: str
    digest: str
    link: int
    tries: int
    path: Path | None = None


class Role(StrEnum):
    """What a tunnel's link is for."""

    CARRIES = "carries"
    COMPANION = "companion"
    TRIAL = "trial"


@dataclass(frozen=True, slots=True)
class Companion:
    """What is remembered of a tunnel that stands beside the one that carries, of whom `Intent` remembers the same."""

    tunnel: str
    provoked: Provoked | None = None
    heard: Heard | None = None
    connected_at: float | None = None
    counted_from: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Doubt:
    """What came of the probes of one path (its fingerprint), since data last came back by itself: so many in a row went
    unanswered, or were answered. ``at`` the last one; None until the pass that learns of it.
    """

    path: str
    at: float | None
    unanswered: int = 0
    answered: int = 0


class Why(StrEnum):
    """Why a tunnel of the order was left."""

    SILENT = "silent"
    """Its gateway answers no handshake: it is off, something on the way filters UDP, or it does not know our key.
    WireGuard answers a stranger with silence, so the three look alike from here."""
    DEAD_EXIT = "dead-exit"
    """Its gateway shakes hands and sends keepalives, but nothing that was sent through it comes back."""
    UNSENT = "unsent"
    """Nothing that goes to its gateway leaves the machine: another firewall drops it, or there is no route."""
    NO_WAY = "no-way"
    """This network leads to none of its gateway's addresses: it has only the other family."""
    NAMELESS = "nameless"
    """Its gateway has a name of which no address is known, and nobody has answered a look-up. Nobody was asked to shake
    hands."""
    UNSIGNED = "unsigned"
    """It asks for a password that nobody has given, or that the gateway has refused."""


@dataclass(frozen=True, slots=True)
class Left:
    """A tunnel that was left. ``times`` in a row, ``networks`` those of the path over which it failed; it is tried
    again from ``retry_at`` on. ``back_at``: since when it carries again, and has yet to show that it stays.
    """

    tunnel: str
    why: Why
    at: float
    retry_at: float
    times: int = 1
    networks: tuple[str, ...] = ()
    back_at: float | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """A better tunnel whose gateway is being asked, on a link beside the one that carries, whether it is back."""

    tunnel: str
    began: float


@dataclass(frozen=True, slots=True)
class Made:
    """The tunnel link that was verified last: identity and whole configuration, what its tunnel's filters let through,
    and whose programs. As long as it is just that, and the next tunnel lets through the same, it may be given the next
    configuration in place.
    """

    index: int
    name: str
    kind: str
    digest: str
    addresses: frozenset[Interface]
    filters: tuple[Filter, ...] = ()
    use: Use = EVERYBODY


@dataclass(frozen=True, slots=True)
class Gateways:
    """The memory of fail-over. ``carrier`` names the tunnel of the order that carries, None the first.

    ``seed`` makes the jitter of this machine another than its neighbour's, and the same in every test. ``wayless_at``:
    since when this network leads to none of the carrier's addresses.
    """

    carrier: str | None = None
    left: tuple[Left, ...] = ()
    trial: Trial | None = None
    made: Made | None = None
    seed: int = 0
    wayless_at: float | None = None

    def entry(self, tunnel: str) -> Left | None:
        """What is remembered of a tunnel that was left, whether it carries again or not."""
        return next((left for left in self.left if left.tunnel == tunnel), None)


FRESH: Final = Gateways()
"""Nothing was found out yet."""
