# SPDX-License-Identifier: GPL-3.0-or-later
"""``decide(config, intent, snapshot) -> Desired``: what should be, whole, from facts alone.

Start reading here. Nothing in this file does anything; `plan.diff` says what to do about the answer, and the loop does
it.
"""

from dataclasses import dataclass
from ipaddress import ip_network
from typing import Final

from aovpnd import names
from aovpnd.core import firewall, health, uplinks
from aovpnd.core.permits import Facts, HostOnly, Lan, TemporaryAccess, Tunnel, permits
from aovpnd.core.problems import problems
from aovpnd.links import is_tunnel_shaped
from aovpnd.model import (
    Block,
    Config,
    Desired,
    Grant,
    GuardState,
    Intent,
    LinkWish,
    Path,
    Phase,
    Route,
    Routing,
    Snapshot,
    TunnelSpec,
    TunnelState,
    TunnelWish,
    Uplink,
    Wish,
)
from aovpnd.model import Lan as LanPolicy
from aovpnd.orders import LoadRuleset
from aovpnd.ruleset import Device, Network

IPV4, IPV6 = 4, 6
LAN_RANGES: Final = tuple(
    map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fe80::/10", "fc00::/7"))
)
"""What may be a local network: RFC 1918, RFC 3927, RFC 4291, RFC 4193. A lease that calls public addresses local opens
nothing (TunnelCrack, CVE-2023-36672)."""


GUARD_LOOK_S: Final = 0.5
"""How soon to look whether a guard that is starting holds its tables."""


@dataclass(frozen=True, slots=True)
class View:
    """What one pass reads off configuration, wish and world before it decides anything."""

    uplinks: tuple[Uplink, ...]
    spec: TunnelSpec | None
    link_name: str
    state: TunnelState | None
    """The chosen tunnel's link, once it is verified ours."""
    path: Path | None
    grant: Grant | None
    phase: Phase
    sealed: bool
    """The ruleset cannot be loaded and is not there: routing alone has to keep the machine shut."""


def decide(config: Config, intent: Intent, snapshot: Snapshot) -> Desired:
    """What should be. The same arguments give the same answer."""
    now = view(config, intent, snapshot)
    if now.phase is Phase.UNBLOCKED:
        return Desired(now.phase, None, None, guard=GuardState.MISSING, unblocked=True, uplinks=now.uplinks)
    return Desired(
        phase=now.phase,
        ruleset=firewall.compile(permits(now.phase, _facts(config, snapshot, now))),
        routing=_routing(config, snapshot, now),
        tunnels=_tunnels(intent, snapshot, now),
        uplinks=now.uplinks,
        problems=problems(config, intent, snapshot, now.phase, now.spec),
        wake_at=_wake_at(intent, snapshot, now),
    )


def view(config: Config, intent: Intent, snapshot: Snapshot) -> View:
    """Read what matters, and derive the phase: the first line of docs/security.md's table that fits."""
    found = uplinks.uplinks(snapshot)
    spec = choose(config, intent)
    link_name = free_link_name(snapshot)
    state = own_tunnel(spec, snapshot)
    path = None
    if spec is not None and state is not None and found:
        path = Path(
            spec.name,
            spec.digest(),
            spec.endpoints,
            state.link.index,
            tuple(f"{u.link.index} {u.network}" for u in found),
        )
    sealed = not snapshot.table_present and any(failure.action == LoadRuleset.__name__ for failure in intent.failures)
    grant = None if sealed else live_grant(intent, snapshot, found)
    if intent.block is Block.OFF:
        phase = Phase.UNBLOCKED
    elif grant is not None:
        phase = Phase.TEMPORARY_ACCESS
    elif not found:
        phase = Phase.OFFLINE
    elif spec is None:
        phase = Phase.BLOCKED
    elif health.is_connected(intent, state, path, snapshot.now):
        phase = Phase.CONNECTED
    else:
        phase = Phase.CONNECTING
    return View(found, spec, state.link.name if state else link_name, state, path, grant, phase, sealed)


def choose(config: Config, intent: Intent) -> TunnelSpec | None:
    """The tunnel that the user named, else the preferred one, else the only one; none while disconnected."""
    if intent.wish is Wish.DISCONNECT:
        return None
    for name in (intent.chosen, config.prefer):
        if name is not None:
            return config.tunnel(name)
    return config.tunnels[0] if len(config.tunnels) == 1 else None


def own_tunnel(spec: TunnelSpec | None, snapshot: Snapshot) -> TunnelState | None:
    """The link that carries this tunnel's key and nothing else; the name alone proves nothing (facts T3)."""
    if spec is None:
        return None
    for state in snapshot.tunnels:
        ours = state.digest == spec.digest() and state.fwmark == names.FWMARK and is_tunnel_shaped(state.link)
        if ours and set(state.addresses) == set(spec.addresses):
            return state
    return None


def free_link_name(snapshot: Snapshot) -> str:
    """The first of aovpn0, aovpn1, … that is not somebody else's."""
    ours = {state.link.name for state in snapshot.tunnels}
    foreign = {link.name for link in snapshot.links} - ours
    number = 0
    while f"{names.LINK_PREFIX}{number}" in foreign:
        number += 1
    return f"{names.LINK_PREFIX}{number}"


def live_grant(intent: Intent, snapshot: Snapshot, found: tuple[Uplink, ...]) -> Grant | None:
    """The grant, while its time runs and its link still carries the network that it was given for."""
    grant = intent.grant
    if grant is None or snapshot.now.boot >= grant.expires_at:
        return None
    there = any(
        (uplink.link.index, uplink.link.name, uplink.network) == (grant.link, grant.link_name, grant.network)
        for uplink in found
    )
    return grant if there else None


# -- the three things that follow from the view ------------------------------------------------------------------------
def _facts(config: Config, snapshot: Snapshot, now: View) -> Facts:
    access = None
    if now.grant is not None:
        device = Device(now.grant.link, now.grant.link_name)
        gateways = next(uplink.gateways for uplink in now.uplinks if uplink.link.index == now.grant.link)
        access = TemporaryAccess(device, snapshot.resolvers or gateways, now.grant.granted_at, now.grant.expires_at)
    tunnel = None
    if now.state is not None:
        link = now.state.link
        tunnel = Tunnel(Device(link.index, link.name, link.kind), tuple(i.ip for i in now.state.addresses))
    return Facts(
        endpoints=tuple(dict.fromkeys(now.spec.endpoints)) if now.spec is not None else (),
        tunnel=tunnel,
        access=access,
        neighbours=uplinks.on_link_gateways(now.uplinks),
        host_only=tuple(HostOnly(Device(link.index, link.name)) for link in uplinks.host_only(snapshot)),
        lan=tuple(Lan(Device(u.link.index, u.link.name), prefixes) for u, prefixes in _lans(config, now)),
    )


def _lans(config: Config, now: View) -> list[tuple[Uplink, tuple[Network, ...]]]:
    if config.lan is not LanPolicy.ALLOW:
        return []
    return [(uplink, prefixes) for uplink in now.uplinks if (prefixes := tuple(filter(_is_lan, uplink.prefixes)))]


def _is_lan(prefix: Network) -> bool:
    return any(
        prefix.version == lan.version and prefix.prefixlen >= lan.prefixlen and prefix.network_address in lan
        for lan in LAN_RANGES
    )


def _routing(config: Config, snapshot: Snapshot, now: View) -> Routing:
    """Our table: what stays on this host, the open LAN, the tunnel, and ``unreachable`` behind it.

    Only a grant takes both ends away, ours and the rule's behind it, so that look-ups fall through to main. The
    tunnel's prefixes stand only once the tunnel is up.
    """
    families = (IPV4, IPV6) if snapshot.ipv6 else (IPV4,)
    near = {
        (prefix, link.index) for link in uplinks.host_only(snapshot) for prefix in uplinks.on_link(snapshot, link.index)
    }
    near |= {(prefix, uplink.link.index) for uplink, prefixes in _lans(config, now) for prefix in prefixes}
    # A metric per link: two bridges may have the same prefix (fe80::/64 always), and equal routes would become one
    # multipath route.
    routes = {
        Route(prefix, link, metric=names.TUNNEL_METRIC + link) for prefix, link in near if prefix.version in families
    }
    if now.grant is None:
        routes |= {Route(_default(family), None, metric=names.CLOSED_METRIC) for family in families}
        if now.state is not None and now.state.link.up and now.spec is not None and not now.sealed:
            routes |= {
                Route(prefix, now.state.link.index, metric=names.TUNNEL_METRIC)
                for prefix in now.spec.prefixes
                if prefix.version in families
            }
    # Not for IPv4: a rule that ends look-ups would make the kernel refuse every default route ("invalid gateway").
    shut = tuple(family for family in families if family == IPV6 and now.grant is None)
    return Routing(families, tuple(sorted(routes, key=route_key)), names.SYSCTLS, shut)


def _default(family: int) -> Network:
    return ip_network("0.0.0.0/0" if family == IPV4 else "::/0")


def route_key(route: Route) -> tuple[int, int, int, int, int]:
    """One order for routes, so that equal tables are equal values."""
    return (route.dst.version, int(route.dst.network_address), route.dst.prefixlen, route.metric, route.link or 0)


def _tunnels(intent: Intent, snapshot: Snapshot, now: View) -> tuple[TunnelWish, ...]:
    """Created down; set up in the pass in which the ruleset already names its link."""
    if now.spec is None:
        return ()
    if now.state is None or now.sealed:
        return (TunnelWish(now.spec, now.link_name, LinkWish.DOWN),)
    shakes = now.state.link.up and health.must_provoke(intent, now.state, now.path, snapshot.now)
    return (TunnelWish(now.spec, now.link_name, LinkWish.UP, now.path if shakes else None),)


def _wake_at(intent: Intent, snapshot: Snapshot, now: View) -> float | None:
    """The next moment at which time alone would change the answer."""
    moments = [failure.retry_at for failure in intent.failures]
    if snapshot.guard is not GuardState.HELD:
        moments.append(snapshot.now.boot + GUARD_LOOK_S)
    if now.grant is not None:
        moments.append(now.grant.expires_at)
    if now.state is not None and now.path is not None:
        moments.append(health.next_look(intent, now.state, now.path, snapshot.now))
    return min((moment for moment in moments if moment > snapshot.now.boot), default=None)
