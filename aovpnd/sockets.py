# SPDX-License-Identifier: GPL-3.0-or-later
"""Which sockets are closed when the network that they were made on is closed or gone. Pure; shared by core and adapter.

A program whose connection went out directly waits for minutes until it notices that nothing comes back any more. A
socket that is closed tells it at once (ECONNABORTED), and the new one that it opens goes through the tunnel. What
leaves does not depend on any of this: the ruleset judges packets, whatever sockets there are.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from aovpnd import names
from aovpnd.ruleset import Address, Network

OWN_BUSINESS: Final = frozenset({68, 500, 546, 4500})
"""Local UDP ports of DHCP clients (RFC 2131, RFC 8415) and IKE daemons (RFC 7296): they know what to do when a network
goes, and some connect(2) their sockets to the server."""


class Transport(StrEnum):
    """What a socket speaks."""

    TCP = "tcp"
    UDP = "udp"


@dataclass(frozen=True, slots=True)
class Socket:
    """A connected socket as sock_diag(7) reports it; IPv4-mapped addresses (RFC 4291) are shown as IPv4."""

    transport: Transport
    local: Address
    port: int
    remote: Address
    mark: int = 0
    uid: int = 0
    """Whose it is; of one that its program has closed the kernel says 0."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """Close all connected sockets but these. ``why`` is the state of things for which it is done: once for each.

    ``inside`` are the addresses of the tunnel, of the loopback and of host-only networks; ``own`` all of the machine's:
    what it says to itself leaves by no link. ``beside`` pairs an uplink's address with a network that it may reach
    beside the tunnel, ``beside_but`` one that some users may not reach. ``barred`` pairs a user with an address of a
    tunnel that is not for him, ``alone`` an address of a tunnel that some users have to themselves with those users.
    """

    why: tuple[str, ...]
    inside: frozenset[Address]
    own: frozenset[Address]
    beside: frozenset[tuple[Address, Network]] = frozenset()
    beside_but: frozenset[tuple[Address, Network, frozenset[int]]] = frozenset()
    barred: frozenset[tuple[int, Address]] = frozenset()
    alone: frozenset[tuple[Address, frozenset[int]]] = frozenset()

    def closes(self, socket: Socket) -> bool:
        """Whether a socket has to go."""
        if (socket.uid, socket.local) in self.barred or self._is_others(socket):
            return socket.remote not in self.own | self.inside
        return not (
            socket.local.is_loopback
            or socket.local in self.inside
            or (socket.local in self.own and socket.remote in self.own)
            or socket.mark & names.FWMARK_MASK == names.FWMARK
            or (socket.transport is Transport.UDP and socket.port in OWN_BUSINESS)
            or any(socket.local == own and socket.remote in prefix for own, prefix in self.beside)
            or any(
                socket.local == own and socket.remote in prefix and socket.uid not in users
                for own, prefix, users in self.beside_but
            )
        )

    def _is_others(self, socket: Socket) -> bool:
        """Whether it is on an address of somebody else's own tunnel. Root may be there."""
        return any(socket.local == own and socket.uid not in {0, *users} for own, users in self.alone)
