# SPDX-License-Identifier: GPL-3.0-or-later
"""What a tunnel is, as its file describes it: frozen values, in wg(8)'s words."""

import hashlib
import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import Final

from aovpnd.ruleset import LARGEST_PORT, Address, Network

Interface = IPv4Interface | IPv6Interface
TUNNEL_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")


@dataclass(frozen=True, slots=True)
class Secret:
    """A key. Compares like one, never prints like one."""

    value: str = field(repr=False)

    def __str__(self) -> str:
        return "(hidden)"

    __repr__ = __str__


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the outer packets go (WireGuard's Endpoint); always UDP in this version."""

    addr: Address
    port: int

    def __str__(self) -> str:
        host = f"[{self.addr}]" if isinstance(self.addr, IPv6Address) else str(self.addr)
        return f"{host}:{self.port}"


HOST_NAME: Final = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""Two labels at least, each of 1 to 63 letters, digits and hyphens (RFC 1035 section 2.3.1, RFC 1123
section 2.1); the last one begins with a letter, so that no number in odd clothes (127.1, 0x7f.1) is taken for a name.
"""
LONGEST_NAME: Final = 253
"""Characters; 255 bytes on the wire."""


@dataclass(frozen=True, slots=True)
class HostPort:
    """Where the outer packets go, by name: lower case, A-labels (RFC 5890), no final dot. ``ValueError`` for anything
    else: a name that was once accepted goes into questions, messages and files as it is.
    """

    host: str
    port: int

    def __post_init__(self) -> None:
        if HOST_NAME.fullmatch(self.host) is None or len(self.host) > LONGEST_NAME:
            msg = f"{self.host!r} is no host name"
            raise ValueError(msg)
        if not 1 <= self.port <= LARGEST_PORT:
            msg = f"{self.port} is no port"
            raise ValueError(msg)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def unfit(addr: Address) -> str | None:
    """Why no gateway can have this address, in words, or None. Private ones are fine: a gateway may stand in the same
    house.
    """
    kinds = (
        (addr.is_unspecified, "the unspecified address"),
        (addr.is_loopback, "a loopback address"),
        (addr.is_multicast, "a multicast address"),
        (addr == IPv4Address("255.255.255.255"), "the broadcast address"),
        (is_reserved(addr), "a reserved address"),
        (isinstance(addr, IPv6Address) and addr.is_link_local, "a link-local address"),
        (isinstance(addr, IPv6Address) and addr.ipv4_mapped is not None, "an IPv4 address in IPv6 clothes"),
    )
    return next((name for applies, name in kinds if applies), None)


def is_reserved(addr: Address) -> bool:
    """Whether an address lies in 0.0.0.0/8 or 240.0.0.0/4, which are nobody's (RFC 6890)."""
    return isinstance(addr, IPv4Address) and (addr.packed[0] == 0 or addr.packed[0] >= 240)  # noqa: PLR2004 - RFC 6890


@dataclass(frozen=True, slots=True)
class Peer:
    """A WireGuard peer, as in wg(8). ``keepalive_s`` 0 means off.

    A peer whose file names its gateway has a ``host``, and no ``endpoint`` until `core.endpoints` has given it one.
    """

    public_key: str
    allowed: tuple[Network, ...]
    endpoint: Endpoint | None = None
    preshared_key: Secret | None = None
    keepalive_s: int = 0
    host: HostPort | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """A line of a tunnel's file: one value of a key, as it was written; never a key of WireGuard's."""

    key: str
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class WireGuard:
    """A tunnel that a wg-quick(8) file describes. ``source`` is the file; ``mtu`` bytes or None for the default.

    ``written`` says where in it its values stand; a file whose lines were moved is the same tunnel.
    """

    name: str
    source: str
    private_key: Secret
    public_key: str
    addresses: tuple[Interface, ...]
    peers: tuple[Peer, ...]
    mtu: int | None = None
    listen_port: int | None = None
    dns: tuple[Address, ...] = ()
    search: tuple[str, ...] = ()
    written: tuple[Written, ...] = field(default=(), compare=False, repr=False)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where handshakes go."""
        return tuple(peer.endpoint for peer in self.peers if peer.endpoint is not None)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The gateways' names, each once."""
        return tuple(dict.fromkeys(peer.host.host for peer in self.peers if peer.host is not None))

    @property
    def named(self) -> tuple[tuple[HostPort, Endpoint | None], ...]:
        """The gateways that are known by name, each with the endpoint that it has now."""
        return tuple((peer.host, peer.endpoint) for peer in self.peers if peer.host is not None)

    @property
    def prefixes(self) -> tuple[Network, ...]:
        """What the tunnel carries: every peer's AllowedIPs."""
        return tuple(dict.fromkeys(network for peer in self.peers for network in peer.allowed))

    def carries(self, address: Address) -> bool:
        """Whether packets to an address go into the tunnel."""
        return any(address.version == prefix.version and address in prefix for prefix in self.prefixes)

    def reaches(self, address: Address) -> bool:
        """Whether the tunnel carries packets to an address, and has one of its family to send them from."""
        return address.version in {interface.version for interface in self.addresses} and self.carries(address)

    def digest(self) -> str:
        """A short digest of all that the device is configured with, endpoints excepted; says whether a device is as we
        want it.
        """
        parts = [self.private_key.value]
        for peer in sorted(self.peers, key=lambda peer: peer.public_key):
            preshared = peer.preshared_key.value if peer.preshared_key else ""
            parts += [peer.public_key, preshared, *sorted(map(str, peer.allowed))]
        return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()
