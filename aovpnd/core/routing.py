# SPDX-License-Identifier: GPL-3.0-or-later
"""Our route tables and rules, whole: what stays here, what may go beside the tunnel, the tunnel, nothing behind."""

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Final

from aovpnd import names
from aovpnd.core import uplinks, using
from aovpnd.core.beside import excluded, excluded_from_it, lans, lies_in, overlap
from aovpnd.core.view import Beside, View, carries_everything, written
from aovpnd.ipsec import TunnelSpec
from aovpnd.model import Config, Snapshot, TunnelState, Uplink
from aovpnd.routes import Lane, Route, Routing
from aovpnd.ruleset import Network

IPV4, IPV6 = 4, 6
_IPV6_KEYS: Final = "net/ipv6/"


def routing(config: Config, snapshot: Snapshot, now: View) -> Routing:
    """Our table: what stays on this host, the open LAN, excluded networks, the tunnel, and ``unreachable`` behind it.

    Only a grant takes both ends away, ours and the rule's behind it, so that look-ups fall through to main. The
    tunnel's prefixes stand only once the tunnel is up. Who has a tunnel to himself has such a table of his own.
    """
    families = (IPV4, IPV6) if snapshot.ipv6 else (IPV4,)
    near = _near(config, snapshot, now)
    routes = near | set(_companions(config, now)) | set(_through(now, now.spec, now.state))
    routes |= set(_excluded(snapshot, excluded_from_it(config, now), now))
    # Not for IPv4: a rule that ends look-ups would make the kernel refuse every default route ("invalid gateway").
    shut = tuple(family for family in families if family == IPV6 and now.grant is None)
    lanes = tuple(lane for each in now.companions if each.private for lane in _lanes(config, now, each, near, families))
    sysctls = tuple((key, value) for key, value in names.SYSCTLS if snapshot.ipv6 or not key.startswith(_IPV6_KEYS))
    return Routing(families, _sorted(routes, families), sysctls, shut, lanes)


def _sorted(routes: set[Route], families: tuple[int, ...]) -> tuple[Route, ...]:
    return tuple(sorted((r for r in routes if r.dst.version in families), key=lambda route: route.order))


def _near(config: Config, snapshot: Snapshot, now: View) -> set[Route]:
    """What goes beside every tunnel."""
    near = {
        (prefix, link.index) for link in uplinks.host_only(snapshot) for prefix in uplinks.on_link(snapshot, link.index)
    }
    near |= {(prefix, uplink.link.index) for uplink, prefixes in lans(config, now) for prefix in prefixes}
    # A metric per link: two bridges may have the same prefix (fe80::/64 always), and equal routes would become one
    # multipath route.
    routes = {Route(prefix, link, metric=names.TUNNEL_METRIC + link) for prefix, link in near}
    return routes | set(_excluded(snapshot, excluded(config, now), now))


def _through(now: View, spec: TunnelSpec | None, state: TunnelState | None) -> Iterator[Route]:
    """The tunnel, and nothing behind it; in a window neither."""
    if now.grant is not None:
        return
    yield from (Route(_default(family), None, metric=names.CLOSED_METRIC) for family in (IPV4, IPV6))
    if state is not None and state.link.up and spec is not None and not now.sealed:
        yield from (Route(prefix, state.link.index, metric=names.TUNNEL_METRIC) for prefix in spec.prefixes)


def _lanes(config: Config, now: View, each: Beside, near: set[Route], families: tuple[int, ...]) -> Iterator[Lane]:
    """What somebody's own tunnel leads to, as if it carried; in a window there is nothing to be led past."""
    place = using.lanes(config).index(each.spec.name)
    if now.grant is not None or place >= len(names.LANE_TABLES):
        return
    users = using.owners(config, each.spec.name)
    routes = near | set(_through(now, each.spec, each.state))
    for family in families:
        own = sorted((i.ip for i in each.spec.addresses if i.version == family), key=int)
        table = names.LANE_TABLES[place]
        yield Lane(family, table, users, each.link_name, tuple(own), _sorted(routes, (family,)))


def _companions(config: Config, now: View) -> Iterator[Route]:
    """What each companion leads to, and no other tunnel: behind its routes, which the kernel takes off with its link,
    that is closed, also while it does not stand. What several name is the first one's, before all that of the tunnel
    that carries. In a window, what the network itself is in stays with it, its portal and resolvers.
    """
    taken = set(now.spec.prefixes) if now.spec is not None else set[Network]()
    granted = (uplink for uplink in now.uplinks if now.grant is not None and uplink.link.index == now.grant.link)
    near = [prefix for uplink in granted for prefix in uplink.prefixes]
    links = {
        each.spec.name: each.state.link.index
        for each in now.companions
        if each.state is not None and each.state.link.up and not now.sealed
    }
    for spec in written(config, config.companions):
        if carries_everything(spec) or (now.spec is not None and spec.name == now.spec.name):
            continue
        for prefix in spec.prefixes:
            if prefix in taken or any(overlap(prefix, here) for here in near):
                continue
            yield Route(prefix, None, metric=names.CLOSED_METRIC)
            if spec.name in links:
                yield Route(prefix, links[spec.name], metric=names.TUNNEL_METRIC)
        taken |= set(spec.prefixes)


def _excluded(snapshot: Snapshot, found: list[tuple[Uplink, tuple[Network, ...]]], now: View) -> Iterator[Route]:
    """Those of the networks that are kept out of the tunnel, as the main table's default route leads there. None while
    there are no rules that would keep names, guests and users out of them.
    """
    for uplink, networks in found if not now.sealed else ():
        link = uplink.link.index
        for network in networks:
            ways = (route for route in snapshot.main if (route.link, route.dst) == (link, _default(network.version)))
            way = min(ways, key=lambda route: route.metric)
            near = any(lies_in(network, prefix) for prefix in uplink.prefixes)
            yield Route(network, link, None if near else way.gateway, names.TUNNEL_METRIC + link)


def _default(family: int) -> Network:
    return ip_network("0.0.0.0/0" if family == IPV4 else "::/0")
