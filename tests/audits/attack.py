# SPDX-License-Identifier: GPL-3.0-or-later
"""What an attack is, and in which phases of the laptop's life it is tried."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING
from zlib import crc32

from tests.lab import plan
from tests.lab.frames import Endpoint

if TYPE_CHECKING:
    from tests.audits.scene import Scene


class Phase(StrEnum):
    """The states of a machine on a network in which somebody may attack it."""

    BLOCKED = "blocked"
    """Disconnected on purpose: nothing but the block."""
    CONNECTING = "connecting"
    """The gateway is silent: handshakes go out, and nothing comes back."""
    CONNECTED = "connected"
    ACCESS = "temporary-access"
    """A window is open. What leaves while it is may leave; the window ends while the attack goes on, and then nothing
    may.
    """


class Harmless(Exception):
    """The attack did nothing to an unprotected laptop: what it does not do to a protected one says nothing."""


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack. ``ident`` is its class (A1, D6: docs/security.md), ``name`` tells it from its siblings."""

    ident: str
    name: str
    title: str
    """For the table: what is done, and to whom it was done first (a CVE, an audit's finding, a paper)."""
    run: Callable[["Scene", int], None]
    """Do it so many times, and give back what it took from the laptop; AssertionError when something that the judge
    does not see is wrong (an answer that should not come).
    """
    control: Callable[["Scene"], None] | None = None
    """The same against the laptop without protection: `Harmless` when it does not work there. None where the senders'
    own control is enough.
    """
    tries: int = 3
    """How often in ``make test``."""
    many: int = 20
    """How often in ``make audit``."""
    phases: tuple[Phase, ...] = tuple(Phase)
    brief: tuple[Phase, ...] | None = None
    """Those of ``make test``, where they are others than `sliced` would choose."""
    prepare: Callable[["Scene"], None] | None = None
    """What comes first, and is judged, but is no time of service: joining a hostile network is what people do
    themselves.
    """
    give_back: Callable[["Scene"], None] | None = None
    """What comes last, and is judged, but is no time of service either: leaving that network."""
    endpoints: tuple[Endpoint, ...] = ()
    """Where handshakes may go besides the gateway: what a lie makes of its address."""
    callee: IPv4Address | IPv6Address = plan.ECHO4
    """Whom the call is with that measures the service."""
    of_wireguard: bool = False
    """Whether it writes a tunnel's file of WireGuard, and is left out where the tunnel is one of IKE."""
    service: float | None = None
    """Least share of echoes that must come back through the tunnel meanwhile, where it is connected: blocking is not
    enough against what only lures traffic away. None where the tunnel itself is what is attacked.
    """

    @property
    def sliced(self) -> tuple[Phase, ...]:
        """The phases of ``make test``: two of them, connected where that is one; which the other is, the name says."""
        if self.brief is not None:
            return self.brief
        others = [phase for phase in self.phases if phase is not Phase.CONNECTED]
        drawn = (others[crc32(self.id.encode()) % len(others)],) if others else ()
        return (*(phase for phase in self.phases if phase is Phase.CONNECTED), *drawn)

    @property
    def id(self) -> str:
        """The name of the attack in tests and records."""
        return f"{self.ident}-{self.name}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one attack in one phase."""

    attack: str
    phase: Phase
    tries: int
    """How often the attack was made."""
    attempts: int
    """Payloads that programs tried to send while nothing was permitted."""
    clear: int
    """Frames outside the allow-list that the far side saw then."""
    first: str = ""
    """For people: what they were, and when."""
    service: float | None = None
    """Share of echoes that came back through the tunnel, where it was connected."""
    seconds: float = 0.0
    wrong: str = ""
    """What else was wrong: what the attack itself saw, or why it could not be made."""
    told: dict[str, int] = field(default_factory=dict)
    """What permitted frames told about the machine (`tests.lab.identity.Trace`), and how many of them."""
    void: bool = False
    """It did nothing to a laptop without protection, so that all the rest says nothing."""

    def complaint(self, attack: Attack) -> str:
        """Why this does not pass; "" when it does."""
        if self.void:
            return f"does nothing to an unprotected laptop: {self.wrong}"
        if self.wrong:
            return self.wrong
        if self.clear:
            return f"{self.clear} frames in clear: {self.first}"
        if not self.attempts:
            return "nobody tried to send"
        if attack.service is not None and self.service is not None and self.service < attack.service:
            return f"the tunnel carried {100 * self.service:.1f} % of a call, not {100 * attack.service:g} %"
        return ""
