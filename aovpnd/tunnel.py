# SPDX-License-Identifier: GPL-3.0-or-later
"""What a tunnel is, as its file describes it: frozen values, in wg(8)'s words."""

import hashlib
import re
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Address, IPv6Interface
from typing import Final

from aovpnd.ruleset import Address, Network

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


@dataclass(frozen=True, slots=True)
class Peer:
    """A WireGuard peer, as in wg(8). ``keepalive_s`` 0 means off."""

    public_key: str
    allowed: tuple[Network, ...]
    endpoint: Endpoint | None = None
    preshared_key: Secret | None = None
    keepalive_s: int = 0


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
    def prefixes(self) -> tuple[Network, ...]:
        """What the tunnel carries: every peer's AllowedIPs."""
        return tuple(dict.fromkeys(network for peer in self.peers for network in peer.allowed))

    def digest(self) -> str:
        """A short digest of all that the device is configured with, endpoints excepted; says whether a device is as we
        want it.
        """
        parts = [self.private_key.value]
        for peer in sorted(self.peers, key=lambda peer: peer.public_key):
            preshared = peer.preshared_key.value if peer.preshared_key else ""
            parts += [peer.public_key, preshared, *sorted(map(str, peer.allowed))]
        return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


TunnelSpec = WireGuard
"""The closed union of tunnel kinds; strongSwan's joins it with its backend."""
