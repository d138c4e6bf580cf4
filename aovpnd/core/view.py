# SPDX-License-Identifier: GPL-3.0-or-later
"""What one pass reads off configuration, wish and world before it decides anything, the phase included."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Final

from aovpnd import names
from aovpnd.confirmation import Logins
from aovpnd.core import endpoints, health, lookups, using
from aovpnd.core.endpoints import Reach
from aovpnd.core.uplinks import IPV4, carrying, uplinks
from aovpnd.core.way import best
from aovpnd.filters import Filter
from aovpnd.gateways import Made, Path
from aovpnd.inquiries import OpenLookUp
from aovpnd.ipsec import Given, IPsec, TunnelSpec
from aovpnd.links import is_tunnel_shaped
from aovpnd.model import (
    Block,
    Config,
    Grant,
    Intent,
    Phase,
    Snapshot,
    TunnelState,
    Uplink,
    Wish,
)
from aovpnd.orders import LoadRuleset
from aovpnd.ruleset import Address
from aovpnd.users import EVERYBODY, Use

_HALF: Final = 1
"""Prefix length of ``0.0.0.0/1``: files with two halves mean everything."""


@dataclass(frozen=True, slots=True)
class View:
    """What one pass reads off configuration, wish and world before it decides anything."""

    uplinks: tuple[Uplink, ...]
    spec: TunnelSpec | None
    link_name: str
    state: TunnelState | None
    """The chosen tunnel's link, once it is verified ours, or verified as what it was a moment ago (`own_tunnel`)."""
    path: Path | None
    grant: Grant | None
    phase: Phase
    look_up: OpenLookUp | None
    """The one that runs and may."""
    reach: Reach | None
    """What the chosen tunnel can reach from here."""
    sealed: bool
    """The ruleset cannot be loaded and is not there: routing alone has to keep the machine shut."""
    filters: tuple[Filter, ...] = ()
    """The chosen tunnel's."""
    use: Use = EVERYBODY
    """Who may use it."""
    order: tuple[TunnelSpec, ...] = ()
    trial: "Beside | None" = None
    """A better tunnel that is asked whether it is back: it may shake hands and do nothing else. Its ``spec`` has no
    addresses, so the link can never be taken for the tunnel's."""
    companions: "tuple[Beside, ...]" = ()
    """Those that stand beside the one that carries, or beside none."""
    nameless: frozenset[str] = frozenset()
    """Those of the order of whose gateways no address is known."""
    wayless: frozenset[str] = frozenset()
    """Those of the order to whose gateways' addresses this network does not lead."""

    @property
    def specs(self) -> tuple[TunnelSpec, ...]:
        """The tunnel that carries and those beside it, with what their gateways have given."""
        return (*((self.spec,) if self.spec is not None else ()), *(each.spec for each in self.companions))


@dataclass(frozen=True, slots=True)
class Beside:
    """A tunnel on a link of its own, beside the one that carries; ``state`` once that link is verified."""

    spec: TunnelSpec
    link_name: str
    state: TunnelState | None
    path: Path | None
    reach: Reach
    filters: tuple[Filter, ...] = ()
    private: bool = False
    """Some users have it to themselves."""


def view(config: Config, intent: Intent, snapshot: Snapshot) -> View:
    """Read what matters, and derive the phase: the first line of docs/security.md's table that fits."""
    found = uplinks(snapshot)
    spec, reach = choose(config, intent), None
    if spec is not None:
        reach = endpoints.reach(spec, intent.hosts, snapshot, found)
        spec = concrete(spec, intent, snapshot, reach)
    filters = config.filters_of(spec.name) if spec is not None else ()
    use = using.by_everybody(config, spec.name) if spec is not None else EVERYBODY
    standing = _standing(config, intent, snapshot, found, spec)
    # What stands beside keeps its link, although it may have carried a moment ago.
    links = [own_tunnel(each, snapshot) for each in standing]
    rest = replace(snapshot, tunnels=tuple(state for state in snapshot.tunnels if state not in links))
    state = own_tunnel(spec, rest, intent.gateways.made, filters, use)
    link_name = state.link.name if state is not None else free_link_name(rest)
    companions = _companions(config, intent, list(zip(standing, links, strict=True)), snapshot, found, link_name)
    path = path_of(spec, state, snapshot, found)
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
    elif intent.rest is not None:
        phase = Phase.RESTING
    elif health.is_connected(intent, state, path, snapshot.now):
        phase = Phase.CONNECTED
    else:
        phase = Phase.CONNECTING
    taken = {link_name, *(each.link_name for each in companions)}
    look_up = lookups.live(intent, found, snapshot.now.boot) if spec is not None or companions else None
    candidates = order(config, intent)
    bare = [endpoints.concrete(s, intent.hosts, endpoints.reach(s, intent.hosts, snapshot, found)) for s in candidates]
    return View(
        found,
        spec,
        link_name,
        state,
        path,
        grant,
        phase,
        look_up,
        reach,
        sealed,
        filters=filters,
        use=use,
        order=candidates,
        trial=_trial(config, intent, snapshot, found, taken),
        companions=companions,
        nameless=frozenset(s.name for s in bare if not s.endpoints),
        wayless=frozenset(s.name for s in bare if found and s.endpoints and not has_way(s, snapshot, found)),
    )


def has_way(spec: TunnelSpec, snapshot: Snapshot, found: tuple[Uplink, ...]) -> bool:
    """Whether this network leads to any of a tunnel's endpoints: an uplink has the family, or a route of the main table
    goes there, as to a gateway in the same house.
    """
    families = {family for uplink in found for family in uplink.families}
    return any(e.addr.version in families or _has_route(snapshot, e.addr) for e in spec.endpoints)


def _has_route(snapshot: Snapshot, addr: Address) -> bool:
    route = best(snapshot.main, addr)
    return route is not None and route.link is not None


def path_of(
    spec: TunnelSpec | None, state: TunnelState | None, snapshot: Snapshot, found: tuple[Uplink, ...]
) -> Path | None:
    """Over what a tunnel runs, where it can run at all."""
    if spec is None or state is None or not found or not has_way(spec, snapshot, found):
        return None
    families = frozenset(endpoint.addr.version for endpoint in spec.endpoints)
    networks = tuple(f"{uplink.link.index} {uplink.network}" for uplink in carrying(found, families))
    return Path(spec.name, spec.digest(), spec.endpoints, state.link.index, networks)


def preferred(config: Config, intent: Intent) -> tuple[str, tuple[str, ...]]:
    """The key of the order that is in force, and the order: the device's while nobody is logged in, else that of the
    kind of uplink. What a policy prefers, only a policy prefers otherwise.
    """
    special = {f"tunnel.{kind}": order for kind, order in config.by_kind if kind == intent.uplink_kind}
    if config.device is not None and intent.logins is Logins.NOBODY:
        special = {names.DEVICE: config.device, **special}
    for key, order in special.items():
        if key in config.locked or names.PREFER not in config.locked:
            return key, order
    return names.PREFER, config.prefer


def named(config: Config, intent: Intent, key: str) -> str | None:
    """The tunnel that the user named, where the order of that key is one that users may override: neither a policy's
    nor the device's.
    """
    return None if key in config.locked or key == names.DEVICE else intent.chosen


def order(config: Config, intent: Intent) -> tuple[TunnelSpec, ...]:
    """The tunnels that may carry, the preferred one first: the one that the user named and no other, else those of the
    preferred that are there, else the only one; none while disconnected.

    What a policy prefers, nobody names otherwise; nor what the device does while nobody is logged in.
    """
    if intent.wish is Wish.DISCONNECT:
        return ()
    key, best_first = preferred(config, intent)
    chosen = named(config, intent, key)
    wanted = (chosen,) if chosen is not None else best_first
    if wanted or key == names.DEVICE:
        return written(config, wanted)
    return config.tunnels if len(config.tunnels) == 1 and not config.broken else ()


def written(config: Config, names: Iterable[str]) -> tuple[TunnelSpec, ...]:
    """Those tunnels of these names that are there, in their order."""
    return tuple(spec for name in names if (spec := config.tunnel(name)) is not None)


def choose(config: Config, intent: Intent) -> TunnelSpec | None:
    """The tunnel of the order that carries now: the first, until fail-over has moved on to another."""
    found = order(config, intent)
    carrier = intent.gateways.carrier
    return next((spec for spec in found if spec.name == carrier), found[0] if found else None)


def given(spec: TunnelSpec, snapshot: Snapshot) -> TunnelSpec:
    """An IKE tunnel with the addresses and name servers that its gateway has given, where its file names none."""
    if not isinstance(spec, IPsec):
        return spec
    gifts = (state.given for state in snapshot.tunnels if state.digest == spec.digest())
    gift = next((gift for gift in gifts if gift is not None), Given())
    return replace(spec, addresses=spec.addresses or gift.addresses, dns=spec.dns or gift.dns)


def own_tunnel(
    spec: TunnelSpec | None,
    snapshot: Snapshot,
    made: Made | None = None,
    filters: tuple[Filter, ...] = (),
    use: Use = EVERYBODY,
) -> TunnelState | None:
    """The link that carries this tunnel's key and nothing else; the name alone proves nothing (facts T3).

    Where there is none, the one that was verified a moment ago and is still just as it was ``made``: it carried what
    the tunnel's file said before it was changed, or the tunnel that is being left. It is given the new configuration in
    place, so that packets wait for it, and no program is refused. Where other ``filters`` held for it than now, or
    others' programs may ``use`` it, it is not: until it has the new configuration, it would carry to the old tunnel's
    end what only the new one may carry.
    """
    if spec is None:
        return None
    ours = [state for state in snapshot.tunnels if is_tunnel_shaped(state.link)]
    right = next((state for state in ours if is_configured(spec, state, snapshot)), None)
    return right or next((state for state in ours if made is not None and as_made(state, filters, use) == made), None)


def as_made(state: TunnelState, filters: tuple[Filter, ...], use: Use) -> Made | None:
    """What a link is, as it would be remembered; None for one that is not configured, or has not our mark."""
    if state.digest is None or state.fwmark != names.FWMARK:
        return None
    link = state.link
    return Made(link.index, link.name, link.kind, state.digest, frozenset(state.addresses), filters, use)


def _trial(
    config: Config, intent: Intent, snapshot: Snapshot, found: tuple[Uplink, ...], taken: set[str]
) -> Beside | None:
    trial = intent.gateways.trial
    candidates = {spec.name: spec for spec in order(config, intent)}
    spec = candidates.get(trial.tunnel) if trial is not None else None
    if spec is None or spec == choose(config, intent):
        return None
    reach = endpoints.reach(spec, intent.hosts, snapshot, found)
    bare = endpoints.concrete(replace(spec, addresses=()), intent.hosts, reach)
    link_name = free_link_name(snapshot, taken)
    on_link = next((state for state in snapshot.tunnels if state.link.name == link_name), None)
    state = on_link if on_link is not None and own_tunnel(bare, replace(snapshot, tunnels=(on_link,))) else None
    return Beside(bare, link_name, state, path_of(bare, state, snapshot, found), reach)


def _standing(
    config: Config, intent: Intent, snapshot: Snapshot, found: tuple[Uplink, ...], carrier: TunnelSpec | None
) -> list[TunnelSpec]:
    """The companions that can stand beside the tunnel that carries (`why_alone`), as they are here and now. An address
    that a gateway gives and another tunnel has is not taken: without any, a tunnel is not up.
    """
    standing: list[TunnelSpec] = []
    trial = intent.gateways.trial.tunnel if intent.gateways.trial is not None else None
    alone = using.private(config, snapshot.people)
    for bare in written(config, (*config.companions, *alone)):
        spec = concrete(bare, intent, snapshot, endpoints.reach(bare, intent.hosts, snapshot, found))
        others = (*((carrier,) if carrier is not None else ()), *standing)
        busy = {trial, *(other.name for other in others)}
        fits = why_alone(bare, others, private=spec.name in alone) is None
        if intent.block is Block.ON and spec.name not in busy and fits:
            taken = {interface.ip for other in others for interface in other.addresses}
            free = tuple(interface for interface in spec.addresses if interface.ip not in taken)
            standing.append(replace(spec, addresses=free))
    return standing


def concrete(spec: TunnelSpec, intent: Intent, snapshot: Snapshot, reach: Reach) -> TunnelSpec:
    """A tunnel with the one address that each of its gateways has here, and with what its gateway gives."""
    return given(endpoints.concrete(spec, intent.hosts, reach), snapshot)


def why_alone(spec: TunnelSpec, others: Iterable[TunnelSpec], *, private: bool = False) -> str | None:
    """Why a tunnel cannot stand beside others, in words; None: it can. Nobody would know whose a packet is, unless it
    is that of users who have it to themselves.
    """
    if carries_everything(spec) and not private:
        return "it carries everything"
    taken = {interface.ip: other.name for other in others for interface in other.addresses}
    shared = next((interface.ip for interface in spec.addresses if interface.ip in taken), None)
    return f"{taken[shared]} has its address {shared} as well" if shared is not None else None


def carries_everything(spec: TunnelSpec) -> bool:
    """Whether a tunnel has a default route of any family."""
    return any(prefix.prefixlen <= _HALF for prefix in spec.prefixes)


def _companions(
    config: Config,
    intent: Intent,
    standing: list[tuple[TunnelSpec, TunnelState | None]],
    snapshot: Snapshot,
    found: tuple[Uplink, ...],
    carrying: str,
) -> tuple[Beside, ...]:
    taken = {carrying, *(state.link.name for _, state in standing if state is not None)}
    companions = []
    for spec, state in standing:
        link_name = state.link.name if state is not None else free_link_name(snapshot, taken)
        taken.add(link_name)
        path, reach = path_of(spec, state, snapshot, found), endpoints.reach(spec, intent.hosts, snapshot, found)
        private = spec.name not in config.companions
        companions.append(Beside(spec, link_name, state, path, reach, config.filters_of(spec.name), private))
    return tuple(companions)


def is_configured(spec: TunnelSpec, state: TunnelState, snapshot: Snapshot) -> bool:
    """Whether a link has just the keys, peers, mark and addresses of its file; no IPv6 where the kernel speaks none.

    One of IKE that has been given no addresses keeps those that it has: its programs wait for it.
    """
    wanted = {address for address in spec.addresses if snapshot.ipv6 or address.version == IPV4}
    waits = isinstance(spec, IPsec) and not wanted
    return state.digest == spec.digest() and state.fwmark == names.FWMARK and (waits or set(state.addresses) == wanted)


def free_link_name(snapshot: Snapshot, besides: Collection[str] = ()) -> str:
    """The first of aovpn0, aovpn1, … that is not somebody else's, nor ``besides``."""
    ours = {state.link.name for state in snapshot.tunnels}
    foreign = {link.name for link in snapshot.links} - ours | set(besides)
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
