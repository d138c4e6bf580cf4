# SPDX-License-Identifier: GPL-3.0-or-later
"""Which links carry us outside, which stay on this host: read off a snapshot."""

from collections.abc import Iterable
from ipaddress import IPV6LENGTH, IPv6Address
from typing import Final

from aovpnd.links import Link, Side, sides
from aovpnd.model import Snapshot, Uplink
from aovpnd.ruleset import Address, Network

IPV4: Final = 4


def uplinks(snapshot: Snapshot) -> tuple[Uplink, ...]:
    """Outside links that carry a default route of the main table, the one with the best metric first."""
    side = sides(snapshot.links)
    best: dict[int, int] = {}
    for route in snapshot.main:
        if route.dst.prefixlen == 0 and route.link is not None:
            best[route.link] = min(route.metric, best.get(route.link, route.metric))
    found = [
        link
        for link in snapshot.links
        if link.index in best and side[link.index] is Side.OUTSIDE and link.up and link.carrier and link.nameable
    ]
    return tuple(_uplink(snapshot, link) for link in sorted(found, key=lambda link: (best[link.index], link.index)))


def _uplink(snapshot: Snapshot, link: Link) -> Uplink:
    routes = [route for route in snapshot.main if route.link == link.index]
    defaults = [route for route in routes if route.dst.prefixlen == 0]
    gateways = sorted({route.gateway for route in defaults if route.gateway is not None}, key=_address_key)
    prefixes = on_link(snapshot, link.index)
    return Uplink(
        link=link,
        network=_network(link, gateways, prefixes),
        gateways=tuple(gateways),
        prefixes=prefixes,
        families=(families := tuple(sorted({route.dst.version for route in defaults}))),
        metrics=tuple(min(r.metric for r in defaults if r.dst.version == family) for family in families),
    )


def carrying(found: tuple[Uplink, ...], families: frozenset[int]) -> tuple[Uplink, ...]:
    """Those that carry packets of these families: for each the one with the best metric, or several with the same.
    Where no family has any, all.

    Another uplink beside the best one may come and go without anything being different for the tunnel.
    """
    carriers = {
        uplink.link.index
        for family in families
        for uplink in found
        if (metric := _metric(uplink, family)) is not None
        and metric == min(m for other in found if (m := _metric(other, family)) is not None)
    }
    return tuple(uplink for uplink in found if uplink.link.index in carriers) or found


def _metric(uplink: Uplink, family: int) -> int | None:
    return dict(zip(uplink.families, uplink.metrics, strict=True)).get(family)


def _network(link: Link, gateways: list[Address], prefixes: tuple[Network, ...]) -> str:
    """The identity of the L2 network.

    The count of carriers tells one café's 192.168.1.1 from the next one's: nobody roams without losing the link. Beside
    it one family speaks, IPv4 where it is there, so that a router advertisement that comes a second after the lease is
    not a move. Nor is DHCPv6's address, a /128 that comes a second after the advertisement and names no network.
    """
    version = min((gateway.version for gateway in gateways), default=IPV4)
    shared = [network for network in prefixes if network.prefixlen < IPV6LENGTH]
    known = [item for item in (*gateways, *shared) if item.version == version]
    return " ".join(map(str, (link.carrier_ups, *known)))


def resolvers(snapshot: Snapshot, uplink: Uplink) -> tuple[Address, ...]:
    """Who answers names on an uplink: the lease's name servers, or its gateways where there are none.

    One of a family that the uplink has not is what another network has left behind.
    """
    given = tuple(address for address in snapshot.resolvers if address.version in uplink.families)
    return given or uplink.gateways


def on_link(snapshot: Snapshot, link: int) -> tuple[Network, ...]:
    """The prefixes of a link's own addresses, sorted."""
    return in_order({address.interface.network for address in snapshot.addresses if address.link == link})


def in_order(networks: Iterable[Network]) -> tuple[Network, ...]:
    """One order for networks of both families, so that equal sets are equal values."""
    return tuple(sorted(networks, key=lambda net: (net.version, int(net.network_address), net.prefixlen)))


def host_only(snapshot: Snapshot) -> tuple[Link, ...]:
    """Bridges that lead to guests of this host alone, by index."""
    side = sides(snapshot.links)
    return tuple(
        link
        for link in snapshot.links
        if side[link.index] is Side.HOST_ONLY and link.kind == "bridge" and link.nameable
    )


def on_link_gateways(found: tuple[Uplink, ...]) -> tuple[IPv6Address, ...]:
    """IPv6 gateways that are not link-local: their neighbour discovery needs a permit of its own."""
    return tuple(
        dict.fromkeys(
            gateway
            for uplink in found
            for gateway in uplink.gateways
            if isinstance(gateway, IPv6Address)
            and not gateway.is_link_local
            and any(gateway in p for p in uplink.prefixes)
        )
    )


def _address_key(address: Address) -> tuple[int, int]:
    return (address.version, int(address))
