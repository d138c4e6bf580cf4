# SPDX-License-Identifier: GPL-3.0-or-later
"""Which permits a phase has: docs/security.md as code.

A permit is the word between policy and nft: it says *what* may pass; `firewall.py` says how each hook spells it. Adding
a way out of the machine means adding a permit here, a row to docs/security.md, and a form per hook there.
"""

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import Final, Self

from aovpnd.clock import Clock
from aovpnd.filters import Filter
from aovpnd.model import Phase
from aovpnd.ruleset import Address, Device, Network
from aovpnd.tunnel import Endpoint
from aovpnd.users import EVERYBODY, Use


@dataclass(frozen=True, slots=True)
class Loopback:
    """The machine speaks with itself."""


@dataclass(frozen=True, slots=True)
class LinkSetup:
    """DHCP and what of neighbour discovery a link needs; ``neighbours``: on-link gateways with global addresses."""

    neighbours: tuple[IPv6Address, ...] = ()


@dataclass(frozen=True, slots=True)
class Handshake:
    """Outer packets of the tunnel: marked, UDP, to this address and port."""

    endpoint: Endpoint


@dataclass(frozen=True, slots=True)
class Window:
    """From when until when (CLOCK_BOOTTIME) the kernel keeps something open; it closes it by itself, on two clocks.

    ``ends_wall``: the whole second of the wall clock that is over before ``expires_at``.
    """

    opened_at: float
    expires_at: float
    ends_wall: int

    @classmethod
    def between(cls, opened_at: float, expires_at: float, now: Clock) -> Self:
        """Both ends on CLOCK_BOOTTIME; what the wall says at the second one, the clocks say ``now``."""
        return cls(opened_at, expires_at, now.second_before(expires_at))


class Asks(Enum):
    """How names are looked up: by which protocols, to which port."""

    PLAIN = "DNS (RFC 1035), UDP and TCP to port 53"
    TLS = "DNS over TLS (RFC 7858), TCP to port 853"


@dataclass(frozen=True, slots=True)
class LookUp:
    """A question of our own: marked, by one link, to these resolvers, while the window is open."""

    device: Device
    resolvers: tuple[Address, ...]
    asks: Asks
    window: Window


@dataclass(frozen=True, slots=True)
class TemporaryAccess:
    """Everything by one link while the window is open, DNS to the lease's resolvers alone."""

    device: Device
    resolvers: tuple[Address, ...]
    window: Window


@dataclass(frozen=True, slots=True)
class Tunnel:
    """Everything by the verified tunnel; where it has ``filters``, what they name, and answers to it.

    ``narrow``: bytes of the largest packet that passes in one piece, where the link itself cannot be told so little.
    ``others``: addresses of others, neither shown nor asked for here; ``own``: its own. ``use``: whose programs may.
    """

    device: Device
    narrow: int | None = None
    filters: tuple[Filter, ...] = ()
    others: tuple[Address, ...] = ()
    use: Use = EVERYBODY
    own: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class Transformed:
    """What went into the verified tunnel and is about to become ESP for this gateway.

    Behind an XFRM interface the kernel shows it to postrouting once more before it transforms it, as a packet that
    leaves by the uplink (xfrm4_output, xfrm6_output).
    """

    gateway: Address


@dataclass(frozen=True, slots=True)
class TunnelAddresses:
    """What is permitted to the tunnel alone: no other link may be asked for its addresses, or show them."""

    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class HostOnly:
    """Everything between the host and a network of its own guests.

    ``here``: while no tunnel takes what they send, all that they can reach; None: it is routed.
    """

    device: Device
    here: tuple[Network, ...] | None = None


DISCOVERY: Final = (
    IPv4Address("224.0.0.251"),
    IPv4Address("239.255.255.250"),
    IPv4Address("255.255.255.255"),
    IPv6Address("ff02::fb"),
    IPv6Address("ff02::1:3"),
)
"""Where devices of a local network are asked for: mDNS, SSDP, broadcast, LLMNR."""


@dataclass(frozen=True, slots=True)
class Lan:
    """The private on-link prefixes of an uplink, and discovery on it."""

    device: Device
    prefixes: tuple[Network, ...]


@dataclass(frozen=True, slots=True)
class Excluded:
    """Networks kept out of the tunnel, by an uplink, but for uids that are ``barred``; in come answers alone."""

    device: Device
    networks: tuple[Network, ...]
    barred: tuple[int, ...] = ()


OfTunnel = Handshake | Tunnel | Transformed | TunnelAddresses
Permit = Loopback | LinkSetup | OfTunnel | LookUp | TemporaryAccess | HostOnly | Lan | Excluded


@dataclass(frozen=True, slots=True)
class Facts:
    """What the permits are made of; `facts` has verified each of these.

    ``endpoints`` and ``addresses`` of the chosen tunnel, ``tunnel`` once its link is verified, ``transformed`` where
    that link hands its packets to the kernel's ESP, ``companions`` what those beside it may in every phase, ``look_up``
    while one runs, ``access`` while a grant is alive.
    """

    endpoints: tuple[Endpoint, ...] = ()
    addresses: tuple[Address, ...] = ()
    tunnel: Tunnel | None = None
    transformed: tuple[Transformed, ...] = ()
    companions: tuple[OfTunnel, ...] = ()
    look_up: LookUp | None = None
    access: TemporaryAccess | None = None
    neighbours: tuple[IPv6Address, ...] = ()
    host_only: tuple[HostOnly, ...] = ()
    beside: tuple[Lan | Excluded, ...] = ()


def permits(phase: Phase, facts: Facts) -> tuple[Permit, ...]:
    """The permits of ``phase``, in tier order. ``unblocked`` has no table and must not be asked for: `ValueError`."""
    always: tuple[Permit, ...] = (Loopback(), LinkSetup(facts.neighbours))
    beside: tuple[Permit, ...] = (*facts.companions, *facts.host_only, *facts.beside)
    handshakes = tuple(Handshake(endpoint) for endpoint in facts.endpoints)
    look_up = (facts.look_up,) if facts.look_up is not None else ()
    tunnel = (facts.tunnel, *facts.transformed) if facts.tunnel is not None else ()
    own = (TunnelAddresses(facts.addresses),) if facts.addresses else ()
    match phase:
        case Phase.BLOCKED:  # a companion may ask for its gateway's name
            return (*always, *look_up, *beside)
        case Phase.OFFLINE:
            return (*always, *handshakes, *tunnel, *own, *beside)
        case Phase.CONNECTING | Phase.CONNECTED | Phase.RESTING:
            return (*always, *handshakes, *look_up, *tunnel, *own, *beside)
        case Phase.TEMPORARY_ACCESS:
            access = (facts.access,) if facts.access is not None else ()
            return (*always, *handshakes, *look_up, *access, *tunnel, *own, *beside)
        case _:
            raise ValueError(f"phase {phase} has no permits: there is no table then")
