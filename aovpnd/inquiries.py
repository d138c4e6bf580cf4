# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions to the outside world whose answer takes longer than a pass may, and the answers.

`decide` names the questions that are open (`Desired.inquiries`), equal values being one question. The loop asks each of
them once, beside its passes and only while the ruleset is loaded that permits it, and hands the answer to
`core.intent.learn`. A question that is no longer desired when its answer comes was asked in vain.

Below: what is known of gateways that have names, which is all that is looked up.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from aovpnd.pages import Page
from aovpnd.ruleset import Address
from aovpnd.tunnel import Endpoint


class Dnssec(StrEnum):
    """Whether an answer must prove itself by DNSSEC (RFC 4035)."""

    OFF = "off"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class LookUp:
    """The addresses of ``host``, asked of these resolvers in turn and over that link alone.

    ``tls_name`` is the name that the resolvers' certificate must have; then they are asked over TLS (RFC 7858), and
    otherwise over UDP and TCP in clear.
    """

    host: str
    link: int
    link_name: str
    resolvers: tuple[Address, ...]
    tls_name: str = ""
    dnssec: Dnssec = Dnssec.OFF

    def describe(self) -> str:
        """One line for the log."""
        return f"look up {self.host}"


@dataclass(frozen=True, slots=True)
class ProbeTunnel:
    """Whether anything behind the tunnel's gateway answers: ``targets`` by TCP, or ``resolvers`` with a look-up of
    theirs. Asked over the tunnel's link alone; ``path`` is the fingerprint of the path that is in doubt.
    """

    link: int
    link_name: str
    path: str
    targets: tuple[Endpoint, ...] = ()
    resolvers: tuple[Address, ...] = ()

    def describe(self) -> str:
        """One line for the log."""
        return f"probe through {self.link_name}"


@dataclass(frozen=True, slots=True)
class MeasurePath:
    """The largest of ``sizes`` (bytes of a whole packet inside the tunnel, descending) that comes back from one of
    ``targets``, or to whose question one answers. Asked over the tunnel's link alone; ``path`` is the fingerprint of
    the path that is measured.
    """

    link: int
    link_name: str
    path: str
    targets: tuple[Address, ...]
    sizes: tuple[int, ...]

    def describe(self) -> str:
        """One line for the log."""
        return f"measure what {self.link_name} carries"


@dataclass(frozen=True, slots=True)
class VisitPage:
    """Whether a page behind the tunnel's gateway is there, or leads to another one where somebody has to sign in. Asked
    over the tunnel's link alone, as is the page's name, of ``resolvers``; ``path`` is the fingerprint of the path.
    """

    link: int
    link_name: str
    path: str
    page: Page
    resolvers: tuple[Address, ...] = ()

    def describe(self) -> str:
        """One line for the log."""
        return f"ask for a page through {self.link_name}"


Inquiry = LookUp | ProbeTunnel | MeasurePath | VisitPage


@dataclass(frozen=True, slots=True)
class LookedUp:
    """The addresses that ``resolver`` said, IPv4 and IPv6, in the order of the answer; none when there are none."""

    inquiry: LookUp
    addresses: tuple[Address, ...]
    resolver: Address


@dataclass(frozen=True, slots=True)
class Reached:
    """Something behind the gateway answered."""

    inquiry: ProbeTunnel


@dataclass(frozen=True, slots=True)
class Measured:
    """Packets of ``size`` bytes inside the tunnel pass; of larger ones that were tried, none did."""

    inquiry: MeasurePath
    size: int


@dataclass(frozen=True, slots=True)
class Visited:
    """The page is there, or ``wanted`` is the URL where somebody has to sign in with a browser before."""

    inquiry: VisitPage
    wanted: str | None = None


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Nothing was found out, and why."""

    inquiry: Inquiry
    text: str
    hint: str = ""


Finding = LookedUp | Reached | Measured | Visited | Unanswered


# -- gateways by name ------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Pinned:
    """A resolver that is asked over TLS instead of the network's own, and the name in its certificate."""

    addr: Address
    name: str


@dataclass(frozen=True, slots=True)
class EndpointPolicy:
    """``[endpoint]``: how the names of gateways are looked up."""

    resolver: Pinned | None = None
    dnssec: Dnssec = Dnssec.OFF


BUILT_IN_ENDPOINT: Final = EndpointPolicy()


@dataclass(frozen=True, slots=True)
class Host:
    """What is known of a gateway's name, and how far the trial of its addresses has come.

    ``good`` are those where a handshake succeeded, the last one first; ``answered`` is the last answer, as it came from
    the ``network`` of that time. ``current`` is the one that is tried now. ``vain`` counts trials in vain since the
    last answer, ``turns`` those since the last handshake or change of network. After ``attempts`` look-ups since the
    last handshake the next one begins not before ``retry_at`` (CLOCK_BOOTTIME), in the network where it was
    ``asked_in``; ``said`` is why the last one failed, in words.
    """

    name: str
    good: tuple[Address, ...] = ()
    answered: tuple[Address, ...] = ()
    network: str = ""
    current: Address | None = None
    vain: int = 0
    turns: int = 0
    attempts: int = 0
    retry_at: float = 0.0
    asked_in: str = ""
    said: str = ""


@dataclass(frozen=True, slots=True)
class OpenLookUp:
    """The one look-up that runs, on the network where it was begun; its permit ends at ``expires_at``."""

    inquiry: LookUp
    network: str
    asked_at: float
    expires_at: float
