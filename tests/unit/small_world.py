# SPDX-License-Identifier: GPL-3.0-or-later
"""A world small enough to enumerate: every situation that the no-leak test asks about, as a product of eight choices,
each a function of a name, so that a failing situation reads as a sentence. Outside are RFC 5737's and 3849's addresses.
"""

import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any, Final, TypeVar

from aovpnd import names
from aovpnd.clock import Clock
from aovpnd.confirmation import Logins
from aovpnd.core import intent as memory
from aovpnd.core.uplinks import uplinks
from aovpnd.core.view import view
from aovpnd.filters import Direction, Filter
from aovpnd.gateways import FRESH, Gateways, Heard, Left, Made, Provoked, Trial, Why
from aovpnd.inquiries import Host, LookUp, OpenLookUp
from aovpnd.ipsec import IKE_BACKEND, NAT_T_PORT, Given, IPsec, Method, Round, Server, TunnelSpec
from aovpnd.links import ARPHRD_LOOPBACK, ARPHRD_NONE, Link
from aovpnd.model import Block, Config, Grant, Intent, Lan, PeerState, Snapshot, TunnelState, Wish
from aovpnd.orders import AllowTemporary
from aovpnd.routes import LinkAddress, Route
from aovpnd.ruleset import L4, Address, Ports
from aovpnd.tunnel import Endpoint, Peer, Secret, WireGuard
from tests.unit.small_excluding import excluding
from tests.unit.spec import World

_T = TypeVar("_T")

# -- things -----------------------------------------------------------------------------------------------------------
NOW: Final = 1000.0
CLOCK: Final = Clock(NOW, 1_700_000_000.0)
DEFAULT4, DEFAULT6 = ip_network("0.0.0.0/0"), ip_network("::/0")

LO: Final = Link(1, "lo", arphrd=ARPHRD_LOOPBACK)
WLAN: Final = Link(2, "wlan0")
ETH: Final = Link(3, "eth0")
DOCKER: Final = Link(5, "docker0", "bridge")
VIRBR: Final = Link(6, "virbr0", "bridge")
VETH: Final = Link(7, "veth5", "veth", master=5)
AOVPN: Final = Link(9, "aovpn0", "wireguard", arphrd=ARPHRD_NONE, mtu=1420)
XFRM: Final = replace(AOVPN, kind="xfrm")
FOREIGN: Final = Link(12, "aovpn9", "dummy")

ENDPOINT4, ENDPOINT6 = Endpoint(ip_address("192.0.2.1"), 51820), Endpoint(ip_address("2001:db8:e::1"), 51820)
ENDPOINT_53: Final = Endpoint(ip_address("192.0.2.53"), 53)
GATEWAY4, GATEWAY6 = (Endpoint(ip_address(addr), NAT_T_PORT) for addr in ("192.0.2.61", "2001:db8:e::61"))
GATEWAY_2: Final = Endpoint(ip_address("192.0.2.62"), NAT_T_PORT)
TUNNEL_ADDRESS4, TUNNEL_ADDRESS6 = ip_address("10.64.0.2"), ip_address("fd64::2")
SERVER4, SERVER6 = ip_address("10.64.0.1"), ip_address("fd64::1")
RESOLVER4, RESOLVER6 = ip_address("192.168.1.1"), ip_address("2001:db8:53::53")


def tunnel(name: str, *endpoints: Endpoint) -> WireGuard:
    """A tunnel with one peer per endpoint; the first carries everything."""
    everything = (DEFAULT4, DEFAULT6)
    peers = tuple(Peer(f"{name}-peer{n}", everything if n == 0 else (), e) for n, e in enumerate(endpoints))
    addresses = (ip_interface(f"{TUNNEL_ADDRESS4}/32"), ip_interface(f"{TUNNEL_ADDRESS6}/128"))
    key = Secret(f"{name}-key")
    return WireGuard(name, f"{name}.conf", key, f"{name}-pub", addresses, peers, dns=(SERVER4, SERVER6))


WORK: Final = tunnel("work", ENDPOINT4, ENDPOINT6)
HOME: Final = tunnel("home", ENDPOINT_53)


def ike(name: str, *gateways: Endpoint) -> IPsec:
    """A tunnel of IKE that carries everything; what it needs for that, its gateway gives."""
    rounds = (Round(Method.PSK, f"laptop@{name}", secret=Secret(f"{name}-psk")),)
    return IPsec(name, f"{name}.toml", gateways, rounds, Server(Method.PSK, "gw"), networks=(DEFAULT4, DEFAULT6))


CORP: Final = ike("corp", GATEWAY4, GATEWAY6, GATEWAY_2)
GIVEN: Final = Given(WORK.addresses, WORK.dns)
"""What its gateway gives: what WireGuard's files say, so that the same packets are asked about."""
GIVEN_ANEW: Final = Given((ip_interface("10.64.0.7/32"),))


def state_of(spec: TunnelSpec, link: Link = AOVPN, handshake_wall: int | None = None) -> TunnelState:
    """A link of ours that is configured just as its file says, or has all that its gateway gives."""
    if isinstance(spec, IPsec):
        link = replace(link, kind="xfrm") if link.kind == AOVPN.kind else link
        peer = PeerState("", spec.endpoint or GATEWAY4, handshake_wall, 0, 0)
        addresses = spec.addresses or GIVEN.addresses
        return TunnelState(link, IKE_BACKEND, None, spec.digest(), names.FWMARK, addresses, (peer,), given=GIVEN)
    peers = tuple(PeerState(peer.public_key, peer.endpoint, handshake_wall, 0, 0) for peer in spec.peers)
    return TunnelState(link, "kernel", spec.public_key, spec.digest(), names.FWMARK, spec.addresses, peers)


# -- choices ----------------------------------------------------------------------------------------------------------
_TWO: Final = Config((WORK, HOME))
_ORDER: Final = replace(_TWO, prefer=("work", "home"))
ROTATED: Final = replace(
    WORK, private_key=Secret("new-key"), addresses=(*WORK.addresses[:1], ip_interface("fd64::7/128"))
)
"""The tunnel called work with the next version of its file: another key, and another of its addresses."""
MADE: Final = Made(AOVPN.index, AOVPN.name, AOVPN.kind, WORK.digest(), frozenset(WORK.addresses))
"""The link of the tunnel called work, as it was verified."""
FILTERS: Final = (
    Filter(Direction.OUT, (ip_network("203.0.113.80"),), (L4.TCP,), (443, Ports(8000, 8100))),
    Filter(Direction.OUT, (ip_network("2001:db8:80::/48"),), (L4.TCP, L4.UDP), (53, Ports(8000, 8100))),
    Filter(Direction.OUT, (), (L4.ICMP,)),
    Filter(Direction.IN, (ip_network("203.0.113.80"), ip_network("2001:db8:80::/48")), (L4.TCP,), (22,)),
)
"""Of each kind one: by address and port, of one family and the other, by protocol alone, and into the machine."""
IN_ALONE: Final = (Filter(Direction.IN, (DEFAULT4,), (), ()), Filter(Direction.IN, (), (L4.ICMPV6,)))
"""Nothing may go out of it, but answers to all of IPv4 and to echoes of IPv6."""


def filtered(config: Config, name: str, filters: tuple[Filter, ...] = FILTERS) -> Config:
    """The same with filters on a tunnel."""
    return replace(config, filters=((name, filters),))


_WISHES: Final = {
    "no tunnel": (Config(), Intent()),
    "one tunnel": (Config((WORK,)), Intent()),
    "one tunnel on port 53": (Config((HOME,)), Intent()),
    "disconnected": (Config((WORK,)), Intent(wish=Wish.DISCONNECT)),
    "two, none preferred": (_TWO, Intent()),
    "two, one preferred": (replace(_TWO, prefer=("work",)), Intent()),
    "two, the other one named": (replace(_TWO, prefer=("home",)), Intent(chosen="work")),
    "two, a missing one named": (replace(_TWO, prefer=("home",)), Intent(chosen="gone")),
    "two, a missing one preferred": (replace(_TWO, prefer=("gone",)), Intent()),
    "two, policy prefers one, the other one named": (
        replace(_TWO, prefer=("work",), locked=frozenset({"tunnel.prefer"})),
        Intent(chosen="home"),
    ),
    "two, another one on this kind of uplink": (
        replace(_TWO, prefer=("work",), by_kind=(("wifi", ("home",)), ("mobile", ("work",)))),
        Intent(uplink_kind="wifi"),
    ),
    "two, the device's one, nobody logged in": (
        replace(_TWO, prefer=("work",), device=("home",)),
        Intent(chosen="work", logins=Logins.NOBODY),
    ),
    "an order of two, moved on": (
        _ORDER,
        Intent(gateways=Gateways("home", (Left("work", Why.SILENT, NOW - 9, NOW + 30),), made=MADE)),
    ),
    "an order of two, the first on trial": (
        _ORDER,
        Intent(gateways=Gateways("home", (Left("work", Why.SILENT, NOW - 60, NOW - 1),), Trial("work", NOW - 1))),
    ),
    "an order of two, the second on trial in vain": (
        _ORDER,
        Intent(gateways=Gateways("work", trial=Trial("home", NOW - 1), made=replace(MADE, name="aovpn3"))),
    ),
    "an order of two, carried by one that is gone": (
        replace(_ORDER, prefer=("gone", "work")),
        Intent(gateways=Gateways("gone", trial=Trial("gone", NOW - 1))),
    ),
    "one that was named, in the middle of fail-over": (
        _ORDER,
        Intent(chosen="work", gateways=Gateways("home", trial=Trial("home", NOW - 1))),
    ),
    "a new key for the file": (Config((ROTATED,)), Intent(gateways=Gateways(made=MADE))),
    "a new key, and the link has changed meanwhile": (
        Config((ROTATED,)),
        Intent(gateways=Gateways(made=replace(MADE, digest="of something else"))),
    ),
    "one tunnel, and a broken file": (Config((WORK,), broken=frozenset({"home"})), Intent()),
    "unblocked": (Config((WORK,)), Intent(block=Block.OFF)),
}
WISHES: Final = tuple(_WISHES)
_FILTERED: Final = {
    "one tunnel, filtered": (filtered(Config((WORK,)), "work"), Intent()),
    "one tunnel, filtered, another one's filters": (filtered(Config((WORK,)), "home"), Intent()),
    "one tunnel, filtered by what goes out": (filtered(Config((WORK,)), "work", FILTERS[:3]), Intent()),
    "one tunnel, filtered by what comes in": (filtered(Config((WORK,)), "work", IN_ALONE), Intent()),
    "moved on to one with filters, from one without": (
        filtered(_ORDER, "home"),
        Intent(gateways=Gateways("home", (Left("work", Why.SILENT, NOW - 9, NOW + 30),), made=MADE)),
    ),
    "moved on to one without filters, from one with": (
        filtered(_ORDER, "work"),
        Intent(
            gateways=Gateways(
                "home", (Left("work", Why.SILENT, NOW - 9, NOW + 30),), made=replace(MADE, filters=FILTERS)
            )
        ),
    ),
    "a new key for the file, the same filters": (
        filtered(Config((ROTATED,)), "work"),
        Intent(gateways=Gateways(made=replace(MADE, filters=FILTERS))),
    ),
}
FILTERED: Final = tuple(_FILTERED)
_EXCLUDING: Final = excluding(WORK, HOME)
EXCLUDING: Final = tuple(_EXCLUDING)
_IKE_MADE: Final = Made(XFRM.index, XFRM.name, XFRM.kind, CORP.digest(), frozenset(GIVEN.addresses))
_IKE_ORDER: Final = Config((WORK, CORP), prefer=("corp", "work"))
_OF_IKE: Final = {
    "one tunnel of IKE": (Config((CORP,)), Intent()),
    "one of IKE, the last gateway's turn": (
        Config((CORP,)),
        Intent(hosts=(Host("gateways of corp", current=GATEWAY_2.addr),)),
    ),
    "one of IKE, with addresses in its file": (Config((replace(CORP, addresses=WORK.addresses),)), Intent()),
    "one of IKE on trial": (
        _IKE_ORDER,
        Intent(gateways=Gateways("work", (Left("corp", Why.SILENT, NOW - 60, NOW - 1),), Trial("corp", NOW - 1))),
    ),
    "one of IKE, filtered": (filtered(Config((CORP,)), "corp"), Intent()),
    "one of IKE, moved on from": (
        _IKE_ORDER,
        Intent(gateways=Gateways("work", (Left("corp", Why.SILENT, NOW - 9, NOW + 30),), made=_IKE_MADE)),
    ),
}
IKE_WISHES: Final = tuple(_OF_IKE)
IKE_TUNNELS: Final = (
    "absent",
    "IKE, all that is given",
    "IKE, given and not yet on the link",
    "IKE, given otherwise",
    "IKE, nothing given",
    "IKE, nothing given any more",
    "IKE, handshaken",
    "IKE, in user space",
    "IKE, another tunnel's",
    "IKE, other fwmark",
)
MOVING: Final = frozenset(wish for wish, (_, intent) in _WISHES.items() if intent.gateways != FRESH)
"""Wishes in the middle of fail-over or key rotation, which have nothing to do with LANs and guests."""
LANS: Final = (Lan.BLOCK, Lan.ALLOW)
GRANTS: Final = (
    "none",
    "alive",
    "expired",
    "other link",
    "link renamed",
    "other gateway",
    "carrier was lost",
    "no lease",
)
UPLINKS: Final = (
    "none",
    "private",
    "public prefix, global IPv6 gateway",
    "two",
    "IPv6 alone, gateway off-link",
    "no carrier",
    "down",
    "by foreign links",
)
TUNNELS: Final = (
    "absent",
    "unverified",
    "down",
    "up",
    "handshaken",
    "lost",
    "user space",
    "other key",
    "other fwmark",
    "other address",
    "other kind",
    "two links",
)
GUESTS: Final = ("none", "docker0", "docker0 with a card in it", "two bridges, one enslaved")
RESOLVERS: Final = ("given", "of IPv4 alone", "none")
LOOK_UPS: Final = ("none", "runs", "runs over TLS", "had its time", "other network", "link renamed")
_CHOICES: Final[dict[str, tuple[Any, ...]]] = {
    "wish": WISHES,
    "lan": LANS,
    "grant": GRANTS,
    "uplinks": UPLINKS,
    "tunnel": TUNNELS,
    "guests": GUESTS,
    "resolvers": RESOLVERS,
    "look_up": LOOK_UPS,
}


@dataclass(frozen=True, slots=True)
class Situation:
    """One combination of choices, by name."""

    wish: str
    lan: Lan
    grant: str
    uplinks: str
    tunnel: str
    guests: str
    resolvers: str
    look_up: str

    def world(self) -> World:
        """The situation as values."""
        snapshot = _snapshot(self)
        granted_in = _granted_in(self, snapshot)
        config, intent = _wish(self.wish, self.lan)
        grant = _grant(config, granted_in)
        if grant is not None and self.grant == "expired":
            grant = replace(grant, granted_at=NOW - 60, expires_at=NOW)
        look_up, asked_in = _look_up(self, snapshot)
        intent = replace(intent, grant=grant, look_up=look_up)
        return World(config, _memory(self, config, intent, snapshot), snapshot, granted_in, asked_in)


def situations() -> Iterator[Situation]:
    """Every combination, about 70,000. What the resolvers are matters to a grant alone; elsewhere it is not varied. Nor
    is the look-up, but without guests.
    """
    for wish, lan, grant, up, tun, guests in itertools.product(WISHES, LANS, GRANTS, UPLINKS, TUNNELS, GUESTS):
        if wish in MOVING and (lan, guests) != (Lan.BLOCK, "docker0"):
            continue
        for resolvers in RESOLVERS if grant == "alive" else RESOLVERS[:1]:
            for look_up in LOOK_UPS if guests == "none" and grant in {"none", "alive"} else LOOK_UPS[:1]:
                yield Situation(wish, lan, grant, up, tun, guests, resolvers, look_up)
    yield from filtered_situations()
    yield from excluding_situations()
    yield from ike_situations()


def filtered_situations() -> Iterator[Situation]:
    """With filters on tunnels, about 1,000: what has to do with the tunnel's link and with what goes through it."""
    for wish, grant, up, tun in itertools.product(FILTERED, GRANTS[:2], UPLINKS, TUNNELS):
        yield Situation(wish, Lan.ALLOW, grant, up, tun, "docker0", "given", "none")


def excluding_situations() -> Iterator[Situation]:
    """With networks that are kept out of the tunnel, about 900: what has to do with uplinks, and with what is there."""
    for wish, lan, grant, up, tun in itertools.product(EXCLUDING, LANS, GRANTS[:2], UPLINKS, TUNNELS[::3]):
        yield Situation(wish, lan, grant, up, tun, "docker0", "given", "none")


def ike_situations() -> Iterator[Situation]:
    """With tunnels of IKE, about 1,600: what is theirs alone, and what may depend on it, is varied, no more."""
    for wish, lan, grant, up, tun in itertools.product(IKE_WISHES, LANS, GRANTS[:2], UPLINKS, IKE_TUNNELS):
        yield Situation(wish, lan, grant, up, tun, "docker0", "given", "none")


BASES: Final = (
    Situation("one tunnel", Lan.ALLOW, "none", "two", "up", "docker0", "given", "runs"),
    Situation(
        "one tunnel",
        Lan.BLOCK,
        "alive",
        "public prefix, global IPv6 gateway",
        "down",
        "docker0",
        "given",
        "runs over TLS",
    ),
    Situation("no tunnel", Lan.BLOCK, "alive", "private", "absent", "none", "none", "none"),
)


def sampled(found: Iterable[_T], stride: int) -> Iterator[_T]:
    """All of them where that is asked for (``make test-exhaustive``), otherwise one in ``stride``: a prime, so that no
    choice is left out.
    """
    return itertools.islice(found, 0, None, 1 if "AOVPND_EXHAUSTIVE" in os.environ else stride)


def few_situations() -> Iterator[Situation]:
    """What differs from one of three situations by one choice, about 150: quick, and often enough to see a defect."""
    for base in BASES:
        for name, values in _CHOICES.items():
            yield from (replace(base, **{name: value}) for value in values)
    yield from (replace(BASES[0], wish=wish) for wish in FILTERED)
    yield from (replace(base, wish=wish) for wish in EXCLUDING for base in BASES[:2])
    yield from (replace(BASES[0], wish=IKE_WISHES[0], tunnel=tunnel) for tunnel in IKE_TUNNELS)
    yield from (replace(BASES[0], wish=wish, tunnel=IKE_TUNNELS[1]) for wish in IKE_WISHES[1:])


def main_situations() -> Iterator[Situation]:
    """Every combination but of guests with tunnels: those that have nothing to do with each other."""
    for situation in situations():
        is_plain = situation.wish in WISHES[:2] and situation.tunnel in {"absent", "up"}
        if is_plain or situation.guests == "docker0":
            yield situation


def _wish(wish: str, lan: Lan) -> tuple[Config, Intent]:
    config, intent = (_WISHES | _FILTERED | _EXCLUDING | _OF_IKE)[wish]
    return replace(config, lan=lan), intent


def _snapshot(choice: Situation) -> Snapshot:
    links, addresses, routes = _uplinks(choice.uplinks)
    guest_links, guest_addresses = _guests(choice.guests)
    resolvers: dict[str, tuple[Address, ...]] = {
        "given": (RESOLVER4, RESOLVER6),
        "of IPv4 alone": (RESOLVER4,),
        "none": (),
    }
    tunnels = _tunnels(choice.tunnel)
    known = {link.index: link for link in (LO, *links, *guest_links, *(state.link for state in tunnels), FOREIGN)}
    if choice.guests == "docker0 with a card in it":
        known[ETH.index] = replace(known[ETH.index], master=DOCKER.index)
    return Snapshot(
        CLOCK,
        links=tuple(known.values()),
        addresses=(*addresses, *guest_addresses),
        main=routes,
        tunnels=tunnels,
        resolvers=resolvers[choice.resolvers],
    )


def _uplinks(name: str) -> tuple[tuple[Link, ...], tuple[LinkAddress, ...], tuple[Route, ...]]:
    """Links, their addresses, and the main table."""
    local: tuple[LinkAddress, ...]
    wlan = (
        LinkAddress(2, ip_interface("192.168.1.23/24")),
        LinkAddress(2, ip_interface("fe80::23/64")),
    )
    way = Route(DEFAULT4, 2, ip_address("192.168.1.1"), 600)
    match name:
        case "none":
            return (WLAN, ETH), wlan, (Route(ip_network("192.168.1.0/24"), 2),)
        case "private":
            return (WLAN, ETH), wlan, (way,)
        case "no carrier":
            return (replace(WLAN, carrier=False), ETH), wlan, (way,)
        case "down":
            return (replace(WLAN, up=False), ETH), wlan, (way,)
        case "public prefix, global IPv6 gateway":
            near = ip_address("2001:db8:1::1")
            local = (
                LinkAddress(2, ip_interface("198.51.100.23/24")),
                LinkAddress(2, ip_interface("2001:db8:1::23/64")),
            )
            ways = (Route(DEFAULT4, 2, ip_address("198.51.100.1"), 600), Route(DEFAULT6, 2, near, 600))
            return (WLAN, ETH), local, ways
        case "IPv6 alone, gateway off-link":
            local = (
                LinkAddress(2, ip_interface("2001:db8:1::23/64")),
                LinkAddress(2, ip_interface("fd00::23/64")),
                LinkAddress(2, ip_interface("10.0.0.23/7")),  # reaches beyond 10.0.0.0/8, so it is no private prefix
            )
            return (WLAN, ETH), local, (Route(DEFAULT6, 2, ip_address("2001:db8:2::1"), 600),)
        case "two":
            more = (LinkAddress(3, ip_interface("10.0.0.23/8")), LinkAddress(3, ip_interface("169.254.3.23/16")))
            better = Route(DEFAULT4, 3, ip_address("10.0.0.1"), 100)
            other_family = Route(DEFAULT6, 2, ip_address("fe80::1"), 600)
            return (WLAN, ETH), (*wlan, *more), (way, better, other_family)
        case "by foreign links":
            ways = (Route(DEFAULT4, FOREIGN.index, None, 1), Route(DEFAULT4, DOCKER.index, None, 2))
            return (WLAN, ETH), (*wlan, LinkAddress(FOREIGN.index, ip_interface("172.16.0.23/12"))), ways
        case _:
            raise KeyError(name)


def _guests(name: str) -> tuple[tuple[Link, ...], tuple[LinkAddress, ...]]:
    address = (LinkAddress(DOCKER.index, ip_interface("172.17.0.1/16")),)
    match name:
        case "none":
            return (), ()
        case "docker0":
            return (DOCKER, VETH), address
        case "docker0 with a card in it":
            return (DOCKER, VETH), address
        case "two bridges, one enslaved":
            enslaved = Link(8, "br8", "bridge", master=20)
            return (DOCKER, VETH, VIRBR, enslaved), address
        case _:
            raise KeyError(name)


def _tunnels(name: str) -> tuple[TunnelState, ...]:
    """Links of ours; all of the tunnel called work, as it is or nearly so."""
    up = state_of(WORK)
    match name:
        case "absent":
            return ()
        case "unverified":
            return (replace(up, digest=None, public_key=None, link=replace(AOVPN, up=False), peers=()),)
        case "down":
            return (replace(up, link=replace(AOVPN, up=False)),)
        case "up":
            return (up,)
        case "handshaken" | "lost":
            return (state_of(WORK, handshake_wall=1_699_999_990),)
        case "user space":
            return (state_of(WORK, replace(AOVPN, kind="tun")),)
        case "other key":
            return (state_of(HOME),)
        case "other fwmark":
            return (replace(up, fwmark=names.FWMARK + 1),)
        case "other address":
            return (replace(up, addresses=up.addresses[:1]),)
        case "other kind":
            return (replace(up, link=replace(AOVPN, kind="tun", arphrd=1)),)
        case "two links":
            return (state_of(HOME, replace(AOVPN, index=10, name="aovpn1")), up)
        case _:
            return (_ike_tunnel(name),)


def _ike_tunnel(name: str) -> TunnelState:
    """A link of the tunnel of IKE, as it is or nearly so."""
    up = state_of(CORP)
    match name:
        case "IKE, all that is given":
            return up
        case "IKE, given and not yet on the link":
            return replace(up, addresses=())
        case "IKE, given otherwise":
            return replace(up, given=GIVEN_ANEW)
        case "IKE, nothing given":
            return replace(up, given=None, addresses=())
        case "IKE, nothing given any more":
            return replace(up, given=None)
        case "IKE, handshaken":
            return state_of(CORP, handshake_wall=1_699_999_990)
        case "IKE, in user space":
            return state_of(CORP, replace(AOVPN, kind="tun"))
        case "IKE, another tunnel's":
            return state_of(ike("other", GATEWAY4))
        case "IKE, other fwmark":
            return replace(up, fwmark=names.FWMARK + 1)
        case _:
            raise KeyError(name)


def _granted_in(choice: Situation, snapshot: Snapshot) -> Snapshot | None:
    """The world in which the grant was given: like this one, but for what the choice says has changed since."""
    links = {link.index: link for link in snapshot.links}
    wlan, routes = links[WLAN.index], snapshot.main
    match choice.grant:
        case "none":
            return None
        case "alive" | "expired":
            pass
        case "other link":
            routes = (Route(DEFAULT4, ETH.index, ip_address("10.0.0.1"), 1),)
        case "link renamed":
            wlan = replace(wlan, name="wlan7")
        case "other gateway":
            routes = tuple(
                replace(route, gateway=route.gateway + 7) if route.gateway is not None else route for route in routes
            )
        case "carrier was lost":
            wlan = replace(wlan, carrier_ups=wlan.carrier_ups - 1)
        case "no lease":
            routes = (*routes, Route(DEFAULT4, WLAN.index, ip_address("192.168.1.1"), 600))
        case _:
            raise KeyError(choice.grant)
    links[WLAN.index] = replace(wlan, up=True, carrier=True) if choice.grant == "no lease" else wlan
    return replace(snapshot, links=tuple(links.values()), main=routes)


def _look_up(choice: Situation, snapshot: Snapshot) -> tuple[OpenLookUp | None, Snapshot | None]:
    """The look-up, and the world in which it was begun, over the link that a window would be opened on."""
    uplink = next(iter(uplinks(snapshot)), None)
    if choice.look_up == "none" or uplink is None:
        return None, None
    tls_name = "dns.example" if choice.look_up == "runs over TLS" else ""
    inquiry = LookUp("vpn.example.org", uplink.link.index, uplink.link.name, (RESOLVER4, RESOLVER6), tls_name)
    asked = OpenLookUp(inquiry, uplink.network, NOW - 1, NOW + 180)
    links = {link.index: link for link in snapshot.links}
    match choice.look_up:
        case "had its time":
            asked = replace(asked, expires_at=NOW)
        case "other network":
            links[uplink.link.index] = replace(uplink.link, carrier_ups=uplink.link.carrier_ups - 1)
        case "link renamed":
            links[uplink.link.index] = replace(uplink.link, name="wlan7")
            asked = replace(asked, inquiry=replace(inquiry, link_name="wlan7"))
        case _:
            pass
    asked_in = replace(snapshot, links=tuple(links.values()))
    begun = next(u for u in uplinks(asked_in) if u.link.index == uplink.link.index)
    return replace(asked, network=begun.network), asked_in


def _grant(config: Config, granted_in: Snapshot | None) -> Grant | None:
    """The grant that a person got there, if there was anything to open."""
    if granted_in is None:
        return None
    return memory.update(config, Intent(), granted_in, AllowTemporary(180))[0].grant


def _memory(choice: Situation, config: Config, intent: Intent, snapshot: Snapshot) -> Intent:
    """What is remembered of a tunnel that has shaken hands, and of one that has gone silent since."""
    if choice.tunnel not in {"handshaken", "lost", "IKE, handshaken"}:
        return intent
    path = view(config, intent, snapshot).path
    if path is None:
        return intent
    heard = Heard(NOW - 60, 0, -100_000, 1_699_999_990) if choice.tunnel == "lost" else None
    return replace(intent, provoked=Provoked(path, NOW - 10), heard=heard)
