# SPDX-License-Identifier: GPL-3.0-or-later
"""Which way the kernel routes a packet of an ordinary program: unmarked, from a socket that is bound to nothing.

The rules in their order, as in ip-rule(8): what is local; ours, which leads to our route table; behind it, for IPv6,
the one that ends the look-up; then main. Rules and tables of other programs are not known here.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address

from aovpnd.destinations import Destination
from aovpnd.links import Link
from aovpnd.model import LinkAddress, Route, Snapshot
from aovpnd.ruleset import Address

LOOPBACK = 1


class By(Enum):
    """What answers the look-up, in words."""

    LOCAL = "the local table"
    OURS = "our route table"
    SHUT = "our rule that ends every look-up"
    MAIN = "the main table"
    NOBODY = "no route"


class Turn(Enum):
    """What the answer is."""

    HERE = "it is this machine"
    OUT = "by a link"
    NOWHERE = "nowhere: the program is told at once"


@dataclass(frozen=True, slots=True)
class Way:
    """The answer. ``link`` is the one by which it goes (the loopback, when it stays), ``route`` the one that was found,
    ``source`` the address that it gets where there is only one to choose.
    """

    by: By
    turn: Turn
    link: Link | None = None
    route: Route | None = None
    source: Address | None = None


def way(snapshot: Snapshot, to: Destination) -> Way:
    """Route ``to`` as the kernel does, as far as ``snapshot`` knows."""
    links = {link.index: link for link in snapshot.links}
    bound = next((link for link in snapshot.links if to.link and link.name == to.link), None)
    if to.link and bound is None:
        return Way(By.NOBODY, Turn.NOWHERE)
    if (local := _local(snapshot, links, to.address, bound)) is not None:
        return local
    version = to.address.version
    if version in snapshot.routing.rules:
        # The kernel keeps the unreachable default of IPv6 on lo: a socket that is bound to a link does not see it.
        routes = [r for r in snapshot.routing.routes if bound is None or r.link == bound.index]
        if (route := best(routes, to.address)) is not None:
            return _by(By.OURS, route, links, snapshot, to.address)
    if version in snapshot.routing.shut:
        return Way(By.SHUT, Turn.NOWHERE)
    if (route := best([r for r in snapshot.main if bound is None or r.link == bound.index], to.address)) is not None:
        return _by(By.MAIN, route, links, snapshot, to.address)
    return Way(By.NOBODY, Turn.NOWHERE)


def best(routes: Iterable[Route], address: Address) -> Route | None:
    """The route with the longest prefix that holds ``address``, and of those the one with the smallest metric."""
    fitting = (route for route in routes if route.dst.version == address.version and address in route.dst)
    return min(fitting, key=lambda route: (-route.dst.prefixlen, route.metric), default=None)


def _local(snapshot: Snapshot, links: dict[int, Link], address: Address, bound: Link | None) -> Way | None:
    """The local table, which the kernel fills by itself: own addresses, broadcasts, and IPv6 multicast by any link."""
    own = {(own.link, own.interface.ip) for own in snapshot.addresses}
    if _is_loopback(address) or any(ip == address and bound in {None, links.get(link)} for link, ip in own):
        return Way(By.LOCAL, Turn.HERE, links.get(LOOPBACK), source=address)
    if bound is not None and address.is_multicast:
        return Way(By.LOCAL, Turn.OUT, bound) if bound.up else Way(By.NOBODY, Turn.NOWHERE)
    for there in snapshot.addresses:
        link = links.get(there.link)
        if link is not None and link.up and _is_broadcast(there, address):
            return Way(By.LOCAL, Turn.OUT, link, source=there.interface.ip)
    return None


def _is_loopback(address: Address) -> bool:
    """``127.0.0.0/8`` is local as a whole, of IPv6 one address (RFC 4291, 2.5.3)."""
    return address.is_loopback


def _is_broadcast(there: LinkAddress, address: Address) -> bool:
    """Whether ``address`` is the directed broadcast of a prefix; links between two have none (RFC 3021)."""
    network = there.interface.network
    return isinstance(address, IPv4Address) and network.prefixlen < 31 and address == network.broadcast_address  # noqa: PLR2004


def _by(by: By, route: Route, links: dict[int, Link], snapshot: Snapshot, address: Address) -> Way:
    link = links.get(route.link) if route.link is not None else None
    if link is None:
        return Way(by, Turn.NOWHERE, route=route)
    return Way(by, Turn.OUT, link, route, _source(snapshot, link, address))


def _source(snapshot: Snapshot, link: Link, address: Address) -> Address | None:
    """The address that the packet gets, where the choice (RFC 6724) is plain: the link's only one of this scope."""
    own = [there.interface.ip for there in snapshot.addresses if there.link == link.index]
    fitting = [ip for ip in own if ip.version == address.version and ip.is_link_local is address.is_link_local]
    return fitting[0] if len(fitting) == 1 else None
