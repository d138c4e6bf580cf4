# SPDX-License-Identifier: GPL-3.0-or-later
"""What may go through a tunnel, where somebody has said so: frozen values, in the words of aovpnd.conf(5).

Filters are alternatives, and what one of them names is a conjunction. A tunnel without any carries everything. As soon
as it has one, of whichever direction, both directions are closed but for what filters name, and for answers to it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from aovpnd.ruleset import L4, Address, Network, Port, is_among

FAMILIES: Final = (4, 6)
_OTHERS: Final = {4: L4.ICMPV6, 6: L4.ICMP}
"""What a family has not: its own ICMP is another."""
_PORTED: Final = frozenset({L4.TCP, L4.UDP})


TABLE: Final = "filter"
"""What the settings call them."""


def setting(tunnel: str) -> str:
    """The name of a tunnel's filters, as settings have names."""
    return f"{TABLE}.{tunnel}"


class Direction(StrEnum):
    """Which way a connection, or a question, goes that a filter names."""

    OUT = "out"
    IN = "in"


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter. ``addresses`` are always the others', ``ports`` those at which is asked: out of this machine theirs,
    into it ours. What is empty names everything.

    ``ValueError`` for one that could name nothing, or would name more than it says.
    """

    direction: Direction
    addresses: tuple[Network, ...] = ()
    protocols: tuple[L4, ...] = ()
    ports: tuple[Port, ...] = ()

    def __post_init__(self) -> None:
        if self.ports and not (self.protocols and _PORTED.issuperset(self.protocols)):
            raise ValueError("only TCP and UDP have ports")
        reached = {protocol for _, _, protocols in self.by_family() for protocol in protocols}
        if reached != set(self.protocols):
            raise ValueError("none of the addresses has that protocol")

    def by_family(self) -> Iterator[tuple[int, tuple[Network, ...], tuple[L4, ...]]]:
        """IP version, addresses of it (none: all of them) and protocols in it (none: all of them)."""
        for version in FAMILIES:
            networks = tuple(network for network in self.addresses if network.version == version)
            protocols = tuple(protocol for protocol in self.protocols if protocol is not _OTHERS[version])
            if (networks or not self.addresses) and (protocols or not self.protocols):
                everybody = any(network.prefixlen == 0 for network in networks)
                yield version, () if everybody else networks, protocols

    def names(self, address: Address, protocol: L4, port: int = 0) -> bool:
        """Whether it is about packets of this protocol between this machine and ``address``, asked at ``port``."""
        return any(
            version == address.version
            and (not networks or any(address in network for network in networks))
            and (not protocols or protocol in protocols)
            and (not self.ports or is_among(port, self.ports))
            for version, networks, protocols in self.by_family()
        )

    def __str__(self) -> str:
        words = (self.direction, *self.protocols, *self.addresses)
        ports = f"port {', '.join(map(str, self.ports))}" if self.ports else ""
        return " ".join(filter(None, (*map(str, words), ports)))


def lets_out(filters: tuple[Filter, ...], address: Address, protocol: L4, port: int = 0) -> bool:
    """Whether a tunnel with these filters carries such packets of this machine to ``address``."""
    out = (each for each in filters if each.direction is Direction.OUT)
    return not filters or any(each.names(address, protocol, port) for each in out)
