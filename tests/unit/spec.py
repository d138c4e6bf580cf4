# SPDX-License-Identifier: GPL-3.0-or-later
"""A second, independent reading of docs/security.md, to hold the first one (`aovpnd.core`) against.

Written from that page alone. It shares no code with `aovpnd.core`, only the values; it knows no rules, no chains and no
order of anything, just "may this packet pass?". Where it disagrees with the compiled ruleset, one of the two, or the
page, is wrong. Plain on purpose: read it beside the page, section by section.

`read` says what a situation is in the page's words; `allowed` answers from those words alone.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_network

from aovpnd import names
from aovpnd.filters import Filter
from aovpnd.inquiries import OpenLookUp
from aovpnd.ipsec import Given, IPsec, TunnelSpec
from aovpnd.links import ARPHRD_ETHER, ARPHRD_LOOPBACK, ARPHRD_NONE, OUR_LINK, SAFE_NAME, Link
from aovpnd.model import Block, Config, Grant, Intent, Lan, Snapshot, TunnelState, Wish
from aovpnd.ruleset import L4, Address, Device, Network
from aovpnd.trace import Packet
from aovpnd.tunnel import Endpoint, Interface
from tests.unit import spec_beside
from tests.unit.spec_beside import Beside, apart, is_excluded, is_inside, is_lan_in, is_lan_out, private
from tests.unit.spec_companions import Companion, at_large, elsewhere, of_device
from tests.unit.spec_filters import is_let_in, is_let_out, is_named_out
from tests.unit.spec_guests import is_told_at_once, reached
from tests.unit.spec_packets import is_dns, is_loopback
from tests.unit.spec_setup import NONE, is_dhcp, is_dhcp_out, is_discovery_out, is_error, is_link_setup_in, is_redirect
from tests.unit.spec_users import Whose, barred, is_nobodys, is_private, is_refused, wanted_alone


class Way(Enum):
    """How a packet crosses the machine."""

    OUT = "sent by a socket of ours"
    AGAIN = "the same, judged once more behind other programs' hooks"
    IN = "for us"
    FORWARD = "through us"


class Phase(Enum):
    """As on the page, but for its last three lines, which allow the same packets."""

    UNBLOCKED = "unblocked"
    TEMPORARY_ACCESS = "temporary-access"
    OFFLINE = "offline"
    BLOCKED = "blocked"
    TUNNEL = "resting, connected or connecting"


@dataclass(frozen=True, slots=True)
class World:
    """One situation. ``granted_in`` is the world as it was when the intent's grant was given, ``asked_in`` when its
    look-up was begun: their networks are there.
    """

    config: Config
    intent: Intent
    snapshot: Snapshot
    granted_in: Snapshot | None = None
    asked_in: Snapshot | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """A situation in the page's words: all that the answer depends on."""

    phase: Phase
    tunnels: frozenset[Device]
    filters: tuple[Filter, ...]
    """What alone may go through the tunnel, where anything is written there at all."""
    tunnel_addresses: frozenset[Address]
    endpoints: frozenset[tuple[Address | None, int]]
    transforming: frozenset[Address]
    """Gateways for whom the kernel itself makes ESP of what the tunnel takes."""
    bridges: frozenset[Device]
    near: frozenset[Address]
    """On-link gateways."""
    grant: Device | None
    granted_until: float
    resolvers: frozenset[Address]
    look_up: Device | None
    look_up_until: float
    look_up_resolvers: frozenset[Address]
    look_up_by_tls: bool
    lan: Beside
    excluded: Beside
    excluded_from_it: Beside
    unfit: frozenset[int]  # those who may not use the chosen tunnel
    companions: frozenset[Companion]
    whose: frozenset[Whose]
    here: frozenset[Network] | None  # all that guests can reach, while no tunnel takes what they send


def read(world: World) -> Reading:
    """Say what a situation is in the page's words."""
    snapshot, tunnel = world.snapshot, chosen_tunnel(world)
    grant = _live_grant(world)
    granted = next((link for link in snapshot.links if grant is not None and link.index == grant.link), None)
    tunnels = frozenset(device_of(link) for link in snapshot.links if is_tunnel(world, link))
    standing = companions_of(world)
    asked = [found for found in (tunnel, tunnel_on_trial(world), *(each for each, _ in standing)) if found is not None]
    endpoints = [endpoint for found in asked for endpoint in outer(world, found)]
    carrying = [state for state in snapshot.tunnels if _is_chosens(world, state.link)]
    beside = frozenset(_companion(world, *each) for each in standing)
    own = _owned(world, tunnel).union(*(_owned(world, *each) for each in standing))
    theirs = [*((tunnel,) if tunnel else ()), *(each for each, _ in standing)]
    carried = [prefix for each in theirs for prefix in each.prefixes]
    lan = [
        (device_of(link), near)
        for link in uplinks(world)
        if (near := apart(private(prefixes(snapshot, link)), own, carried))
    ]
    bridges = [link for link in snapshot.links if _is_host_only_bridge(world, link)]
    running = _running_look_up(world)
    asks_by = running.inquiry.link if running is not None else None
    asked_by = next((link for link in snapshot.links if link.index == asks_by), None)
    return Reading(
        phase=_phase(world),
        tunnels=tunnels,
        filters=_filters(world, tunnel) if carrying else (),
        tunnel_addresses=_own_addresses(world, tunnel, carrying),
        endpoints=frozenset((endpoint.addr, endpoint.port) for endpoint in endpoints),
        transforming=_transforming(world, tunnel, carrying).union(*(each.transforming for each in beside)),
        bridges=frozenset(map(device_of, bridges)),
        near=frozenset(near for link in uplinks(world) for near in _on_link_gateways(snapshot, link)),
        grant=device_of(granted) if granted is not None else None,
        granted_until=grant.expires_at if grant is not None else 0.0,
        resolvers=_resolvers(snapshot, granted) if granted is not None else NONE,
        look_up=device_of(asked_by) if asked_by is not None else None,
        look_up_until=running.expires_at if running is not None else 0.0,
        look_up_resolvers=frozenset(running.inquiry.resolvers) if running is not None else NONE,
        look_up_by_tls=running is not None and running.inquiry.tls_name != "",
        lan=frozenset(lan) if world.config.lan is Lan.ALLOW else frozenset(),
        excluded=_excluded(world, tunnel, world.config.exclude, world.config.tunnels),
        excluded_from_it=_excluded_from_it(world, tunnel),
        unfit=barred(world.config.users, tunnel.name) if tunnel is not None else frozenset(),
        companions=beside,
        whose=(whose := frozenset(_whose(world, tunnels - {each.device for each in beside}, beside))),
        here=None if any(not each.alone for each in whose) else reached(snapshot, {bridge.index for bridge in bridges}),
    )


def _whose(world: World, chosens: Iterable[Device], beside: Iterable[Companion]) -> Iterator[Whose]:
    """Who may use the chosen tunnel, and those beside it."""
    config, chosen = world.config, chosen_tunnel(world)
    own = {tunnel.name: tunnel for tunnel, _ in companions_of(world)}
    if chosen is not None:
        yield from (Whose(device, frozenset(), barred(config.users, chosen.name), NONE) for device in chosens)
    for each in beside:
        users = frozenset(user.uid for user in config.users if user.only == each.name)
        if each.device is not None and each.name in config.companions:
            yield Whose(each.device, frozenset(), barred(config.users, each.name), NONE)
        elif each.device is not None:
            servers = {s for s in _servers(world, own[each.name]) if s.version == 4 or world.snapshot.ipv6}
            yield Whose(each.device, users, frozenset(), frozenset(servers))


def _transforming(world: World, tunnel: TunnelSpec | None, carrying: list[TunnelState]) -> frozenset[Address]:
    """Where packets of the tunnel that carries go, if its link is an XFRM interface."""
    by_kernel = tunnel is not None and any(state.link.kind == "xfrm" for state in carrying)
    return frozenset(endpoint.addr for endpoint in outer(world, tunnel)) if by_kernel and tunnel is not None else NONE


def _own_addresses(world: World, tunnel: TunnelSpec | None, carrying: list[TunnelState]) -> frozenset[Address]:
    """What the tunnel's link has, and what its file says it shall have, in families that the kernel speaks."""
    if tunnel is None:
        return NONE
    shall = {i.ip for i in inner(world, tunnel) if i.version == 4 or world.snapshot.ipv6}
    return frozenset(shall | {i.ip for state in carrying for i in state.addresses})


def _owned(world: World, tunnel: TunnelSpec | None, own: Iterable[Interface] | None = None) -> set[Network]:
    """The networks of a tunnel's addresses, and its name servers."""
    if tunnel is None:
        return set()
    addresses = inner(world, tunnel) if own is None else own
    return {i.network for i in addresses} | set(map(ip_network, _servers(world, tunnel)))


def _excluded(world: World, chosen: TunnelSpec | None, nets: Iterable[Network], among: Iterable[TunnelSpec]) -> Beside:
    """By the best uplink of their family, while all files can be used: where no tunnel of these, or that stands, is."""
    tunnels = [(tunnel, frozenset(tunnel.addresses)) for tunnel in among] + companions_of(world)
    own = _owned(world, chosen).union(*(_owned(world, *tunnel) for tunnel in tunnels))
    carried = (prefix for tunnel, _ in tunnels for prefix in tunnel.prefixes)
    able = {link.index: device_of(link) for link in uplinks(world) if not world.config.broken}
    return spec_beside.kept_out(nets, own, carried, able, world.snapshot.main)


def _excluded_from_it(world: World, chosen: TunnelSpec | None) -> Beside:
    """What is kept out of the chosen tunnel alone: the tunnels are those that may stand beside it, and itself."""
    config, name = world.config, chosen.name if chosen is not None else ""
    beside = {name, *config.companions, *(user.only for user in config.users)}
    among = [tunnel for tunnel in config.tunnels if tunnel.name in beside]
    others = [tunnel for tunnel in among if tunnel.name in config.companions and tunnel.name != name]
    nets = spec_beside.without(dict(config.exclude_from).get(name, ()), (tunnel.prefixes for tunnel in others))
    return _excluded(world, chosen, nets, among)


def outer(world: World, tunnel: TunnelSpec) -> list[Endpoint]:
    """A tunnel's endpoints: of IKE the one gateway whose turn it is, or the first whose family an uplink has."""
    if not isinstance(tunnel, IPsec):
        return list(tunnel.endpoints)
    indices = {link.index for link in uplinks(world)}
    families = {r.dst.version for r in world.snapshot.main if r.link in indices and r.dst.prefixlen == 0} or {4, 6}
    written = [gateway for gateway in tunnel.gateways if isinstance(gateway, Endpoint)]
    able = [gateway for gateway in written if gateway.addr.version in families] or written
    turn = {host.current for host in world.intent.hosts if host.name == f"gateways of {tunnel.name}"}
    return [gateway for gateway in able if gateway.addr in turn][:1] or able[:1]


def inner(world: World, tunnel: TunnelSpec) -> tuple[Interface, ...]:
    """The addresses of a tunnel: what its file says, or else what the gateway of IKE has given."""
    gifts = _gifts(world, tunnel)
    return tunnel.addresses or (gifts[0].addresses if gifts else ())


def _filters(world: World, tunnel: TunnelSpec | None) -> tuple[Filter, ...]:
    """What the settings say of the chosen tunnel."""
    return tuple(each for name, held in world.config.filters for each in held if tunnel and name == tunnel.name)


def _servers(world: World, tunnel: TunnelSpec) -> tuple[Address, ...]:
    gifts = _gifts(world, tunnel)
    return tunnel.dns or (gifts[0].dns if gifts else ())


def _gifts(world: World, tunnel: TunnelSpec) -> list[Given]:
    mine = [state for state in world.snapshot.tunnels if state.digest == tunnel.digest()]
    return [state.given for state in mine if isinstance(tunnel, IPsec) and state.given is not None]


# -- words ------------------------------------------------------------------------------------------------------------
def device_of(link: Link) -> Device:
    """How a packet names a link."""
    return Device(link.index, link.name, link.kind or None)


def _is_guest_port(link: Link) -> bool:
    is_tap = link.kind == "tun" and link.arphrd == ARPHRD_ETHER
    return link.kind == "veth" or is_tap


def _is_host_only_bridge(world: World, bridge: Link) -> bool:
    """A bridge whose ports are all veth or tap; what cannot be named cannot be matched."""
    ports = [link for link in world.snapshot.links if link.master == bridge.index]
    is_bridge = bridge.kind == "bridge" and bridge.master == 0
    return is_bridge and SAFE_NAME.fullmatch(bridge.name) is not None and all(map(_is_guest_port, ports))


def is_outside(world: World, link: Link) -> bool:
    """Every link except loopback, our verified tunnels, host-only bridges and their ports. Unknown means outside."""
    if (link.index == 1 and link.arphrd == ARPHRD_LOOPBACK) or is_tunnel(world, link):
        return False
    masters = [bridge for bridge in world.snapshot.links if bridge.index == link.master]
    is_port = _is_guest_port(link) and any(_is_host_only_bridge(world, bridge) for bridge in masters)
    return not is_port and not _is_host_only_bridge(world, link)


def the_order(world: World) -> list[TunnelSpec]:
    """While nobody is logged in, the device's where it has an order of its own, whatever anybody has named. Else the
    tunnel that the user named, alone; else the preferred ones that are there, on a kind of uplink with an order of its
    own that one's; else the only one.
    """
    if world.intent.wish is Wish.DISCONNECT:
        return []
    tunnels = {tunnel.name: tunnel for tunnel in world.config.tunnels}
    config, of_kind = world.config, f"tunnel.{world.intent.uplink_kind}"
    ruled = "tunnel.prefer" in config.locked and "tunnel.device" not in config.locked
    if config.device is not None and world.intent.logins == "nobody" and not ruled:
        return [tunnels[name] for name in config.device if name in tunnels]
    own = dict(config.by_kind).get(world.intent.uplink_kind)
    if own is None or ("tunnel.prefer" in config.locked and of_kind not in config.locked):
        own, of_kind = config.prefer, "tunnel.prefer"
    if world.intent.chosen is not None and of_kind not in config.locked:
        return [tunnels[world.intent.chosen]] if world.intent.chosen in tunnels else []
    if own:
        return [tunnels[name] for name in own if name in tunnels]
    return list(world.config.tunnels) if len(tunnels) == 1 and not world.config.broken else []


def chosen_tunnel(world: World) -> TunnelSpec | None:
    """The tunnel of the order to which fail-over has moved on, else the first."""
    order = the_order(world)
    moved_to = [tunnel for tunnel in order if tunnel.name == world.intent.gateways.carrier]
    return next(iter(moved_to or order), None)


def tunnel_on_trial(world: World) -> TunnelSpec | None:
    """A tunnel of the order that is asked whether it is back, while another one is the chosen."""
    trial = world.intent.gateways.trial
    asked = [tunnel for tunnel in the_order(world) if trial is not None and tunnel.name == trial.tunnel]
    return asked[0] if asked and asked[0] != chosen_tunnel(world) else None


def companions_of(world: World) -> list[tuple[TunnelSpec, frozenset[Interface]]]:
    """Those beside the chosen tunnel, with their addresses: what a gateway gives is its own, if no other has it."""
    alone = wanted_alone(world.config, world.snapshot.people)
    chosen, trial = chosen_tunnel(world), world.intent.gateways.trial
    busy = {chosen.name if chosen is not None else None, trial.tunnel if trial is not None else None}
    free = {tunnel.name: tunnel for tunnel in world.config.tunnels if tunnel.name not in busy}
    taken = {i.ip for i in inner(world, chosen)} if chosen is not None else set()
    found = []
    for name in (*world.config.companions, *alone) if world.intent.block is Block.ON else ():
        if name in free and at_large(free[name], {i.ip for i in free[name].addresses}, taken, alone=name in alone):
            own = frozenset(i for i in inner(world, free[name]) if i.ip not in taken)
            found.append((free[name], own))
            taken |= {i.ip for i in own}
    return found


def _companion(world: World, tunnel: TunnelSpec, own: frozenset[Interface]) -> Companion:
    states = [state for state in world.snapshot.tunnels if _is_companions(world, tunnel, own, state)][:1]
    shall = {i.ip for i in own if i.version == 4 or world.snapshot.ipv6}
    return Companion(
        tunnel.name,
        next((device_of(state.link) for state in states), None),
        _filters(world, tunnel),
        frozenset(shall | {i.ip for state in states for i in state.addresses}),
        _transforming(world, tunnel, states),
    )


def is_tunnel(world: World, link: Link) -> bool:
    """The verified link of the chosen tunnel, or of one beside it."""
    same = (link.index, link.name, link.kind)
    states = [s for s in world.snapshot.tunnels if (s.link.index, s.link.name, s.link.kind) == same]
    beside = any(_is_companions(world, *each, state) for each in companions_of(world) for state in states)
    return (beside and _is_shaped(link)) or _is_chosens(world, link)


def _is_companions(world: World, tunnel: TunnelSpec, own: frozenset[Interface], state: TunnelState) -> bool:
    return _is_as_its_file_says(world, tunnel, own, state) and _is_shaped(state.link)


def _is_shaped(link: Link) -> bool:
    shaped = OUR_LINK.fullmatch(link.name) is not None and link.kind in names.TUNNEL_KINDS
    return shaped and (link.kind != "tun" or link.arphrd == ARPHRD_NONE)


def _is_chosens(world: World, link: Link) -> bool:
    """Of the chosen tunnel: name, index, kind and configuration are all as they must be.

    Where there is none, the link that was verified a moment ago, still just as it was then, with the same filters and
    users; but never one that a companion has.
    """
    tunnel, beside = chosen_tunnel(world), companions_of(world)
    if tunnel is None or not _is_shaped(link):
        return False
    free = [s for s in world.snapshot.tunnels if not any(_is_companions(world, *each, s) for each in beside)]
    own = inner(world, tunnel)
    verified = [state for state in free if _is_as_its_file_says(world, tunnel, own, state)]
    states = verified or [state for state in free if _is_as_verified_before(world, tunnel, state)]
    return any(
        (state.link.index, state.link.name, state.link.kind) == (link.index, link.name, link.kind) for state in states
    )


def _is_as_its_file_says(world: World, tunnel: TunnelSpec, own: Iterable[Interface], state: TunnelState) -> bool:
    addresses = {i for i in own if i.version == 4 or world.snapshot.ipv6}
    waits = isinstance(tunnel, IPsec) and not addresses
    same_keys = state.digest == tunnel.digest() and state.fwmark == names.FWMARK
    shaped = state.link.kind != "tun" or state.link.arphrd == ARPHRD_NONE
    return same_keys and shaped and (waits or set(state.addresses) == addresses)


def _is_as_verified_before(world: World, tunnel: TunnelSpec, state: TunnelState) -> bool:
    made = world.intent.gateways.made
    return made is not None and (
        (state.link.index, state.link.name, state.link.kind) == (made.index, made.name, made.kind)
        and (state.fwmark, state.digest, set(state.addresses)) == (names.FWMARK, made.digest, set(made.addresses))
        and made.filters == _filters(world, tunnel)
        and frozenset(made.use.barred) == barred(world.config.users, tunnel.name)
    )


def uplinks(world: World) -> list[Link]:
    """Outside links, up and with carrier, that carry a default route of the main table."""
    carriers = {route.link for route in world.snapshot.main if route.dst.prefixlen == 0}
    able = [link for link in world.snapshot.links if link.up and link.carrier and SAFE_NAME.fullmatch(link.name)]
    return [link for link in able if link.index in carriers and is_outside(world, link)]


def gateways(snapshot: Snapshot, link: Link) -> set[Address]:
    """Where the link's default routes lead."""
    routes = [route for route in snapshot.main if route.link == link.index and route.dst.prefixlen == 0]
    return {route.gateway for route in routes if route.gateway is not None}


def _resolvers(snapshot: Snapshot, link: Link) -> frozenset[Address]:
    """The name servers of the families of the link's default routes, or its gateways where there is none of those."""
    families = {route.dst.version for route in snapshot.main if route.link == link.index and route.dst.prefixlen == 0}
    given = frozenset(server for server in snapshot.resolvers if server.version in families)
    return given or frozenset(gateways(snapshot, link))


def prefixes(snapshot: Snapshot, link: Link) -> set[Network]:
    """The link's on-link prefixes."""
    return {address.interface.network for address in snapshot.addresses if address.link == link.index}


def _on_link_gateways(snapshot: Snapshot, link: Link) -> set[Address]:
    nets = prefixes(snapshot, link)
    return {gateway for gateway in gateways(snapshot, link) if any(is_inside(gateway, net) for net in nets)}


# -- phases -----------------------------------------------------------------------------------------------------------
def _phase(world: World) -> Phase:
    """The first line that fits."""
    if world.intent.block is Block.OFF:
        return Phase.UNBLOCKED
    if _live_grant(world) is not None:
        return Phase.TEMPORARY_ACCESS
    if not uplinks(world):
        return Phase.OFFLINE
    return Phase.BLOCKED if chosen_tunnel(world) is None else Phase.TUNNEL


def _live_grant(world: World) -> Grant | None:
    """The grant: its deadline has not passed, and the link still carries the network that it was given for."""
    grant = world.intent.grant
    if grant is None or world.granted_in is None or world.snapshot.now.boot >= grant.expires_at:
        return None
    now, then = _link_of_grant(world.snapshot, grant), _link_of_grant(world.granted_in, grant)
    if now is None or then is None or now not in uplinks(world):
        return None
    return grant if _network(world.snapshot, now) == _network(world.granted_in, then) else None


def _running_look_up(world: World) -> OpenLookUp | None:
    """The one that runs: a tunnel is there for it, its time is not over, its link has the network it was begun on."""
    asked = world.intent.look_up
    if asked is None or world.asked_in is None or not (chosen_tunnel(world) or companions_of(world)):
        return None
    named = (asked.inquiry.link, asked.inquiry.link_name)
    now, then = (
        next((link for link in snapshot.links if (link.index, link.name) == named), None)
        for snapshot in (world.snapshot, world.asked_in)
    )
    if now is None or then is None or now not in uplinks(world) or world.snapshot.now.boot >= asked.expires_at:
        return None
    return asked if _network(world.snapshot, now) == _network(world.asked_in, then) else None


def _link_of_grant(snapshot: Snapshot, grant: Grant) -> Link | None:
    named = [link for link in snapshot.links if (link.index, link.name) == (grant.link, grant.link_name)]
    return named[0] if named else None


def _network(snapshot: Snapshot, link: Link) -> tuple[int, frozenset[Address], frozenset[Network]]:
    """Carriers, gateways and on-link prefixes, of IPv4 where there are any; one address of IPv6 is no prefix."""
    ways, nets = gateways(snapshot, link), prefixes(snapshot, link)
    version = 6 if ways and all(gateway.version == 6 for gateway in ways) else 4
    return (
        link.carrier_ups,
        frozenset(gateway for gateway in ways if gateway.version == version),
        frozenset(network for network in nets if network.version == version and network.prefixlen != 128),
    )


# -- permits ----------------------------------------------------------------------------------------------------------
def allowed(reading: Reading, packet: Packet, way: Way, at: float) -> bool:
    """Whether the packet may pass ``at`` (CLOCK_BOOTTIME), that moment or some time after the situation was read."""
    if reading.phase is Phase.UNBLOCKED:
        return True
    match way:
        case Way.OUT | Way.AGAIN:
            begins = way is Way.OUT and bool(reading.whose or reading.unfit)
            own = _elsewhere(reading, None) - _elsewhere(reading, packet.oif) if begins else NONE
            beside = bool(reading.unfit) and spec_beside.begins(reading.excluded_from_it, packet)
            nobodys = begins and (is_nobodys(reading.whose, packet, own) or beside)
            return not nobodys and _may_leave(reading, packet, at)
        case Way.IN:
            return _may_come_in(reading, packet)
        case Way.FORWARD:
            return _may_be_forwarded(reading, packet)


def is_transformed(reading: Reading, packet: Packet) -> bool:
    """Whether an inner packet, shown to the last look as one that leaves by some link, may go on into ESP."""
    return reading.phase is Phase.UNBLOCKED or packet.sa in reading.transforming


def stamped(reading: Reading, packet: Packet, at: float) -> bool:
    """Whether the packet carries the stamp when it leaves: by any link but the loopback, tunnel, host-only bridges."""
    inside = is_loopback(packet.oif) or packet.oif in reading.tunnels | reading.bridges
    return not inside and _may_leave(reading, packet, at)


def _may_leave(reading: Reading, packet: Packet, at: float) -> bool:
    if is_loopback(packet.oif):
        return True
    if packet.oif in reading.tunnels:
        return (
            not is_dhcp(packet)
            and not is_error(packet)
            and packet.saddr not in _elsewhere(reading, packet.oif)
            and is_let_out(_held(reading, packet.oif), packet)
            and not is_refused(reading.whose, packet)
        )
    if packet.saddr in _elsewhere(reading, None):
        return False
    ours = _is_handshake(reading, packet) or _is_look_up(reading, packet, at)
    if ours or is_dhcp_out(packet) or is_discovery_out(packet, reading.near):
        return True
    by_grant = reading.grant is not None and packet.oif == reading.grant and at < reading.granted_until
    if is_dns(packet):
        return by_grant and packet.daddr in reading.resolvers
    return (
        by_grant
        or packet.oif in reading.bridges
        or is_lan_out(reading.lan, packet)
        or is_excluded(reading.excluded, packet)
        or (is_excluded(reading.excluded_from_it, packet) and packet.owner not in reading.unfit)
    )


def _may_come_in(reading: Reading, packet: Packet) -> bool:
    if is_loopback(packet.iif):
        return True
    if is_told_at_once(reading.here, reading.bridges, packet):
        return False
    if packet.iif in reading.tunnels:
        asked_for = packet.daddr in _elsewhere(reading, packet.iif)
        return not asked_for and is_let_in(_held(reading, packet.iif), packet, error=is_error(packet))
    if packet.daddr in _elsewhere(reading, None):
        return False
    if packet.iif in reading.bridges:
        return True
    if is_redirect(packet):
        return False
    if packet.ct is not None:
        return True
    return is_link_setup_in(packet) or is_lan_in(reading.lan, packet)


def _may_be_forwarded(reading: Reading, packet: Packet) -> bool:
    if is_told_at_once(reading.here, reading.bridges, packet):
        return False
    if packet.iif in reading.bridges and packet.oif in reading.tunnels:
        if is_dhcp(packet) or is_error(packet) or packet.saddr in _elsewhere(reading, packet.oif):
            return False
        if is_private(reading.whose, packet.oif):
            return False
        return is_named_out(_held(reading, packet.oif), packet)
    if packet.oif not in reading.bridges or is_dns(packet) or packet.saddr in _elsewhere(reading, None):
        return False
    shared = packet.iif in reading.tunnels and not is_private(reading.whose, packet.iif)
    answers = shared and packet.ct is not None
    return answers or packet.iif in reading.bridges


def _held(reading: Reading, device: Device | None) -> tuple[Filter, ...]:
    """The filters of the tunnel that has this link."""
    companion = of_device(reading.companions, device)
    return companion.filters if companion is not None else reading.filters


def _elsewhere(reading: Reading, device: Device | None) -> frozenset[Address]:
    """Addresses of all tunnels but the one that has this link."""
    chosens = device in reading.tunnels and of_device(reading.companions, device) is None
    return elsewhere(reading.companions, device) | (NONE if chosens else reading.tunnel_addresses)


# Handshake.
def _is_handshake(reading: Reading, packet: Packet) -> bool:
    """Mark and protocol and address and port together."""
    marked = packet.mark & names.FWMARK_MASK == names.FWMARK
    to = (packet.daddr, packet.dport)
    return marked and packet.l4 is L4.UDP and to in reading.endpoints and packet.oif not in reading.bridges


# Look-up.
def _is_look_up(reading: Reading, packet: Packet, at: float) -> bool:
    """Mark and link and resolver and protocol and port, and in time."""
    marked = packet.mark & names.FWMARK_MASK == names.FWMARK
    runs = reading.look_up is not None and packet.oif == reading.look_up and at < reading.look_up_until
    return marked and runs and packet.daddr in reading.look_up_resolvers and _asks(reading, packet.l4, packet.dport)


def _asks(reading: Reading, l4: L4 | None, port: int) -> bool:
    if reading.look_up_by_tls:
        return l4 is L4.TCP and port == 853
    return l4 in {L4.UDP, L4.TCP} and port == 53


def from_resolver(reading: Reading, packet: Packet, at: float) -> bool:
    """Whether prerouting puts our fwmark on a packet that may answer a look-up."""
    runs = reading.phase is not Phase.UNBLOCKED and reading.look_up is not None and at < reading.look_up_until
    there = packet.iif == reading.look_up and packet.saddr in reading.look_up_resolvers
    return runs and there and _asks(reading, packet.l4, packet.sport)


def from_endpoint(reading: Reading, packet: Packet) -> bool:
    """Whether prerouting puts our fwmark on a packet that comes in."""
    by_udp = packet.l4 is L4.UDP and reading.phase is not Phase.UNBLOCKED
    return by_udp and (packet.saddr, packet.sport) in reading.endpoints
