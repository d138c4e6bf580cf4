# SPDX-License-Identifier: GPL-3.0-or-later
"""Which way the kernel routes a packet of an ordinary program: unmarked, from a socket that is bound to nothing.

The rules in their order, as in ip-rule(8): what is local; a user's own; ours, which leads to our route table; behind
it, for IPv6, the one that ends the look-up; then main. Rules and tables of other programs are not known here; what the
kernel says when it is asked (`corrected`) makes up for them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from ipaddress import IPv4Address, ip_network
from typing import Final

from aovpnd.destinations import Destination, Routed
from aovpnd.links import Link
from aovpnd.model import Snapshot
from aovpnd.routes import LinkAddress, Route
from aovpnd.ruleset import Address

IPV4: Final = 4
LOOPBACK: Final = 1
POINT_TO_POINT: Final = 31
"""Bits of a prefix, or more, in which no address is left for a broadcast."""


class By(Enum):
    """What answers the look-up, in words."""

    LOCAL = "the local table"
    OURS = "our route table"
    USERS = "the user's own route table"
    SHUT = "our rule that ends every look-up"
    MAIN = "the main table"
    NOBODY = "no route"
    OTHERS = "a rule or route that is not ours, as the kernel says"
    PROTOCOL = "TCP connects to one machine, and this is the address of many"


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
    if to.protocol == "tcp" and _is_many(snapshot, links, to.address):
        return Way(By.PROTOCOL, Turn.NOWHERE)
    bound = next((link for link in snapshot.links if to.link and link.name == to.link), None)
    if to.link and bound is None:
        return Way(By.NOBODY, Turn.NOWHERE)
    if (local := _local(snapshot, links, to.address, bound)) is not None:
        return local
    version = to.address.version
    own = next((lane for lane in snapshot.routing.lanes if lane.family == version and to.uid in lane.users), None)
    if own is not None and bound is None and (route := best(own.routes, to.address)) is not None:
        return _by(By.USERS, route, links, snapshot, to.address)
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


def corrected(found: Way, said: Routed, snapshot: Snapshot, to: Destination) -> Way:
    """The way as the kernel has ``said`` it is. What is known here explains it; where it does not, rules or routes of
    others do, and then the kernel is believed.
    """
    if found.by is By.PROTOCOL:
        return found
    link = next((link for link in snapshot.links if link.index == (LOOPBACK if said.here else said.link)), None)
    turn = Turn.NOWHERE if link is None else Turn.HERE if said.here else Turn.OUT
    known = said.gateway is None or any(route.gateway == said.gateway for route in snapshot.main)
    if (turn, link) == (found.turn, found.link) and known:
        return replace(found, source=said.source or found.source)
    if link is None or said.here:
        return Way(By.OTHERS, turn, link, source=said.source)
    return Way(By.OTHERS, turn, link, Route(ip_network(to.address), link.index, said.gateway), said.source)


def best(routes: Iterable[Route], address: Address) -> Route | None:
    """The route with the longest prefix that holds ``address``, and of those the one with the smallest metric."""
    fitting = (route for route in routes if route.dst.version == address.version and address in route.dst)
    return min(fitting, key=lambda route: (-route.dst.prefixlen, route.metric), default=None)


def _local(snapshot: Snapshot, links: dict[int, Link], address: Address, bound: Link | None) -> Way | None:
    """The local table, which the kernel fills by itself: own addresses, broadcasts, and IPv6 multicast by any link."""
    own = {(own.link, own.interface.ip) for own in snapshot.addresses}
    # 127.0.0.0/8 is local as a whole, of IPv6 one address (RFC 4291, 2.5.3).
    if address.is_loopback or any(ip == address and bound in {None, links.get(link)} for link, ip in own):
        return Way(By.LOCAL, Turn.HERE, links.get(LOOPBACK), source=address)
    if bound is not None and address.is_multicast:
        return Way(By.LOCAL, Turn.OUT, bound) if bound.up else Way(By.NOBODY, Turn.NOWHERE)
    there = _broadcast(snapshot, links, address)
    return None if there is None else Way(By.LOCAL, Turn.OUT, links[there.link], source=there.interface.ip)


def _is_many(snapshot: Snapshot, links: dict[int, Link], address: Address) -> bool:
    """Whether it is a multicast or broadcast address; the kernel connects no TCP socket to one (tcp_v4_connect)."""
    everybody = address.is_multicast or address == IPv4Address("255.255.255.255")
    return everybody or _broadcast(snapshot, links, address) is not None


def _broadcast(snapshot: Snapshot, links: dict[int, Link], address: Address) -> LinkAddress | None:
    """Our address in the prefix whose directed broadcast this is; a prefix of two addresses has none (RFC 3021)."""
    for there in snapshot.addresses:
        network, link = there.interface.network, links.get(there.link)
        if link is None or not link.up or network.version != IPV4 or network.prefixlen >= POINT_TO_POINT:
            continue
        if address == network.broadcast_address:
            return there
    return None


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
