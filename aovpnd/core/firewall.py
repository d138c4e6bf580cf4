# SPDX-License-Identifier: GPL-3.0-or-later
"""Permits into rules: ``compile(permits) -> Ruleset``, the whole of ``table inet aovpnd``.

The tiers have one fixed order that nobody writes by hand. First what is decided by an inside link alone, without the
stamp: loopback · tunnel · host-only networks. Then what may use an outside link: link set-up · handshake · look-up ·
temporary access · no other DNS · LAN · excluded · explicit end. What leaves is judged twice, by the same rules: at
``output``, so that programs are refused at once, and at ``postrouting`` behind everybody else's hooks, on the link by
which the packet really leaves (facts T6). Only the second look stamps. Nothing that leaves is matched by conntrack
(facts T2).
"""

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_network
from typing import Final, assert_never

from aovpnd import names
from aovpnd.core import filtering, guests, mtu, using
from aovpnd.core.filtering import DNS_PORTS
from aovpnd.core.guests import ANSWERS
from aovpnd.core.permits import (
    DISCOVERY,
    Asks,
    Excluded,
    Handshake,
    HostOnly,
    Lan,
    LinkSetup,
    LookUp,
    Loopback,
    Permit,
    TemporaryAccess,
    Transformed,
    Tunnel,
    TunnelAddresses,
)
from aovpnd.ruleset import (
    L4,
    LOOPBACK,
    Address,
    Chain,
    Device,
    Element,
    Hook,
    LinkSet,
    Mark,
    Match,
    Protocol,
    Rule,
    Ruleset,
    SetRef,
    Users,
    Verdict,
    by_family,
)

STAMP: Final = Mark(names.STAMP, names.STAMP)
NO_STAMP: Final = Mark(0, names.STAMP)
FWMARK: Final = Mark(names.FWMARK, names.FWMARK_MASK)
GRANT: Final = SetRef(names.GRANT_SET)
LOOK_UP: Final = SetRef(names.LOOK_UP_SET)

_BROADCAST: Final = (ip_network("255.255.255.255"),)
_DHCPV6_SERVERS: Final = (ip_network("ff02::1:2"),)
_ALL_NODES: Final = ip_network("ff02::1")
_ALL_ROUTERS: Final = (ip_network("ff02::2"),)
_SOLICITED_NODES: Final = ip_network("ff02::1:ff00:0/104")
_LINK_LOCAL: Final = ip_network("fe80::/10")
_RS, _RA, _NS, _NA, _REDIRECT6 = 133, 134, 135, 136, 137
_REDIRECT4: Final = 5


def compile(permits: tuple[Permit, ...]) -> Ruleset:  # noqa: A001 - the word of the field; nothing here compiles Python
    """The one table that these permits mean. Equal permits give equal tables."""
    tiers = sorted(permits, key=lambda permit: _TIERS.index(type(permit)))
    before_dns = [rule for permit in tiers if not isinstance(permit, _WITHOUT_DNS) for rule in _leaving(permit)]
    behind_dns = [rule for permit in tiers if isinstance(permit, _WITHOUT_DNS) for rule in _leaving(permit)]
    leaving = (*before_dns, _NO_OTHER_DNS, *behind_dns)
    arriving = tuple(rule for permit in tiers for rule in _arriving(permit))
    return Ruleset(
        family="inet",
        table=names.TABLE,
        comment="aovpnd: what may leave this machine; docs/security.md",
        sets=(_grant_set(permits), *_look_up_set(permits)),
        chains=(
            Chain(
                "prerouting",
                (*(rule for permit in tiers for rule in _prerouting(permit)), *guests.told_at_once(permits)),
                Hook.PREROUTING,
                names.PRIORITY_PREROUTING,
                policy=Verdict.ACCEPT,
            ),
            Chain("input", (*_with_answers(arriving), _INPUT_END), Hook.INPUT, names.PRIORITY_FILTER),
            Chain("forward", (*guests.forwarded(permits), _FORWARD_END), Hook.FORWARD, names.PRIORITY_FILTER),
            Chain(
                "output",
                (*using.nobodys(permits, STAMP), *map(_unstamped, leaving), _OUTPUT_END),
                Hook.OUTPUT,
                names.PRIORITY_FILTER,
            ),
            Chain(
                "postrouting",
                (_CLEAR, *_transformed(permits), *map(_irrefutable, leaving), _LAST_END),
                Hook.POSTROUTING,
                names.PRIORITY_LAST_LOOK,
            ),
        ),
    )


def permit_of(rule: Rule, permits: tuple[Permit, ...]) -> Permit | None:
    """The permit that a rule of output or of the last look was compiled from; None for those that every table has."""
    for permit in permits:
        if any(rule in {_unstamped(written), _irrefutable(written)} for written in _leaving(permit)):
            return permit
    return None


_CLEAR: Final = Rule(
    Match(), Verdict.CONTINUE, "the stamp is ours to give: clear it on everything first", set_mark=NO_STAMP
)
_LAST_END: Final = Rule(Match(), Verdict.DROP, "last look: whatever changed it on the way, nothing else leaves")
_OUTPUT_END: Final = Rule(Match(), Verdict.REJECT, "refuse at once, so that programs fail fast instead of hanging")
_FORWARD_END: Final = Rule(Match(), Verdict.REJECT, "guests are as tight as we are")
_ANSWERS: Final = Rule(Match(ct=ANSWERS), Verdict.ACCEPT, "answers; what leaves never asks conntrack")
_INPUT_END: Final = Rule(Match(), Verdict.DROP, "inbound is closed, without an answer")
_DNS: Final = Match(l4=(L4.TCP, L4.UDP), dport=DNS_PORTS)
_ASKS: Final = {Asks.PLAIN: ((L4.TCP, L4.UDP), (53,)), Asks.TLS: ((L4.TCP,), (853,))}
_NO_OTHER_DNS: Final = Rule(_DNS, Verdict.REJECT, "no DNS by a link that is not the tunnel")


_TIERS: Final = (
    Loopback,
    Tunnel,
    Transformed,
    TunnelAddresses,
    HostOnly,
    Handshake,
    LinkSetup,
    LookUp,
    TemporaryAccess,
    Lan,
    Excluded,
)
"""The inside first: so nothing that leaves by an inside link is stamped, and nothing that comes in by another link
reaches the tunnel's own address. The tunnel's outer packets before what is rare: each of them pays for every rule."""

_WITHOUT_DNS: Final = (Lan, Excluded)


def _unstamped(rule: Rule) -> Rule:
    """The same rule for ``output``, which refuses but does not stamp."""
    return replace(rule, set_mark=None)


def _irrefutable(rule: Rule) -> Rule:
    """The same rule for the last look, where the kernel knows no reject (nft_reject: input, forward, output,
    prerouting).
    """
    return replace(rule, verdict=Verdict.DROP) if rule.verdict is Verdict.REJECT else rule


def _stamped(match: Match, comment: str) -> Rule:
    return Rule(match, Verdict.ACCEPT, comment, set_mark=STAMP)


# -- what leaves -------------------------------------------------------------------------------------------------------
def _leaving(permit: Permit) -> Iterable[Rule]:
    """Rules for output and the last look. Only what may use an *outside* link is stamped."""
    match permit:
        case Loopback():
            yield Rule(Match(oif=LOOPBACK), Verdict.ACCEPT, "the machine speaks with itself")
        case LinkSetup():
            yield from _link_setup(permit)
        case Handshake(endpoint):
            match = Match(mark=FWMARK, daddr=(ip_network(endpoint.addr),), l4=(L4.UDP,), dport=(endpoint.port,))
            yield _stamped(match, "handshake and tunnel: mark and protocol and address and port")
        case LookUp():
            yield from _look_up(permit)
        case TemporaryAccess():
            yield from _temporary_access(permit)
        case Tunnel():
            yield from _by_the_tunnel(permit)
        case Transformed():
            return  # at output it still leaves by the tunnel
        case TunnelAddresses():
            yield from _from_the_tunnel(permit)
        case HostOnly(device=device):
            yield Rule(replace(_DNS, oif=device), Verdict.REJECT, "no DNS by a link that is not the tunnel")
            yield Rule(Match(oif=device), Verdict.ACCEPT, "guests of this host")
        case Lan() | Excluded():
            yield from _beside(permit)
        case _:
            assert_never(permit)


def _by_the_tunnel(permit: Tunnel) -> Iterable[Rule]:
    by_tunnel = Match(oif=permit.device)
    for family in by_family(tuple(map(ip_network, permit.others))):
        yield Rule(replace(by_tunnel, saddr=family), Verdict.DROP, "another tunnel's address leaves by that one")
    yield from mtu.clamped(by_tunnel, permit.narrow)
    yield from using.leaving(permit.device, permit.use, permit.filters)
    if permit.filters:
        yield from _not_by_the_tunnel(permit.device)
        yield from filtering.leaving(permit.device, permit.filters)
    else:
        # TCP first: it is most of what a tunnel carries, and nothing that is refused.
        yield Rule(replace(by_tunnel, l4=(L4.TCP,)), Verdict.ACCEPT, _VERIFIED)
        yield from _not_by_the_tunnel(permit.device)
        yield Rule(by_tunnel, Verdict.ACCEPT, _VERIFIED)


_VERIFIED: Final = "the verified tunnel: index and name and kind"


def _not_by_the_tunnel(device: Device) -> Iterable[Rule]:
    """What is about the link outside, and would be shown at the tunnel's other end."""
    for sport, dport in ((68, 67), (546, 547)):
        dhcp = Match(oif=device, l4=(L4.UDP,), sport=(sport,), dport=(dport,))
        yield Rule(dhcp, Verdict.REJECT, "DHCP is the link's own: clients rebind by broadcast")
    for error in filtering.ERRORS:
        why = "errors: a neighbour could make the kernel send them, to whom it likes"
        yield Rule(replace(error, oif=device), Verdict.DROP, why)


def _from_the_tunnel(permit: TunnelAddresses) -> Iterable[Rule]:
    """Dropped, not refused: a connection on that address waits for its tunnel instead of being told to end."""
    for family in by_family(tuple(map(ip_network, permit.addresses))):
        yield Rule(Match(saddr=family), Verdict.DROP, "the tunnel's own address leaves by the tunnel alone")


def _transformed(permits: tuple[Permit, ...]) -> Iterable[Rule]:
    """At the last look alone, and before the tunnel's own addresses are refused to the uplink: they are on their way
    into ESP.
    """
    for permit in permits:
        if isinstance(permit, Transformed):
            yield _stamped(
                Match(sa=permit.gateway), "about to be ESP for the gateway; what comes of it is judged again"
            )


def _link_setup(permit: LinkSetup) -> Iterable[Rule]:
    gateways = tuple(map(ip_network, permit.neighbours))
    dhcp = Match(daddr=_BROADCAST, l4=(L4.UDP,), sport=(68,), dport=(67,))
    yield _stamped(dhcp, "DHCPv4 by broadcast alone: unicast would be a hole, and clients rebind")
    dhcpv6 = Match(saddr=(_LINK_LOCAL,), daddr=_DHCPV6_SERVERS, l4=(L4.UDP,), sport=(546,), dport=(547,))
    yield _stamped(dhcpv6, "DHCPv6 to the link's servers")
    yield _stamped(Match(daddr=_ALL_ROUTERS, icmp_type=(_RS,), hop_limit=255), "router solicitation")
    nodes = (_SOLICITED_NODES, _LINK_LOCAL, *gateways)
    yield _stamped(Match(daddr=nodes, icmp_type=(_NS,), hop_limit=255), "neighbour solicitation, on the link only")
    nodes = (_ALL_NODES, _LINK_LOCAL, *gateways)
    yield _stamped(Match(daddr=nodes, icmp_type=(_NA,), hop_limit=255), "neighbour advertisement, on the link only")


def _look_up(permit: LookUp) -> Iterable[Rule]:
    l4, ports = _ASKS[permit.asks]
    for resolvers in by_family(tuple(map(ip_network, permit.resolvers))):
        link = Match(oif=Device(name=permit.device.name), oif_in=LOOK_UP, mark=FWMARK, before=permit.window.ends_wall)
        dns = replace(link, daddr=resolvers, l4=l4, dport=ports)
        yield _stamped(dns, "our own look-up: mark and link and resolver and port, until the kernel's timer ends it")


def _temporary_access(permit: TemporaryAccess) -> Iterable[Rule]:
    link = Match(oif=Device(name=permit.device.name), oif_in=GRANT, before=permit.window.ends_wall)
    for resolvers in by_family(tuple(map(ip_network, permit.resolvers))):
        dns = replace(link, daddr=resolvers, l4=(L4.TCP, L4.UDP), dport=DNS_PORTS)
        yield _stamped(dns, "temporary access: names from the lease's resolvers")
    dns = replace(link, l4=(L4.TCP, L4.UDP), dport=DNS_PORTS)
    yield Rule(dns, Verdict.REJECT, "temporary access: from nobody else")
    yield _stamped(link, "temporary access: until the kernel's timer removes the link from the set")


def _beside(permit: Lan | Excluded) -> Iterable[Rule]:
    """Beside the tunnel, where the configuration says so."""
    if isinstance(permit, Excluded):
        for family in by_family(permit.networks):
            if permit.barred:
                whose = Match(oif=permit.device, daddr=family, owner=Users(permit.barred))
                yield Rule(whose, Verdict.REJECT, "kept out of a tunnel that these users may not use")
            yield _stamped(Match(oif=permit.device, daddr=family), "kept out of the tunnel by the configuration")
        return
    for family in by_family(permit.prefixes):
        yield _stamped(Match(oif=permit.device, daddr=family), "the local network, where the configuration allows it")
    for groups in by_family(tuple(ip_network(group) for group in DISCOVERY)):
        yield _stamped(Match(oif=permit.device, daddr=groups), "discovery on the local network")


# -- what arrives ------------------------------------------------------------------------------------------------------
def _with_answers(arriving: tuple[Rule, ...]) -> Iterable[Rule]:
    """Answers right behind the last rule that refuses: among those that accept, what is frequent comes first."""
    behind = max((place for place, rule in enumerate(arriving, 1) if rule.verdict is not Verdict.ACCEPT), default=0)
    return (*arriving[:behind], _ANSWERS, *arriving[behind:])


def _arriving(permit: Permit) -> Iterable[Rule]:
    match permit:
        case Loopback():
            yield Rule(Match(iif=LOOPBACK), Verdict.ACCEPT, "the machine speaks with itself")
        case LinkSetup():
            dhcpv6 = Match(saddr=(_LINK_LOCAL,), l4=(L4.UDP,), sport=(547,), dport=(546,))
            advert = Match(saddr=(_LINK_LOCAL,), icmp_type=(_RA,), hop_limit=255)
            dhcp = Match(protocol=Protocol.IP, l4=(L4.UDP,), sport=(67,), dport=(68,))
            for redirect in (Match(l4=(L4.ICMP,), icmp_type=(_REDIRECT4,)), Match(icmp_type=(_REDIRECT6,))):
                yield Rule(redirect, Verdict.DROP, "redirects: a neighbour could lead the tunnel's packets astray")
            yield Rule(dhcp, Verdict.ACCEPT, "DHCPv4 answers")
            yield Rule(dhcpv6, Verdict.ACCEPT, "DHCPv6 answers")
            yield Rule(advert, Verdict.ACCEPT, "router advertisement")
            yield Rule(Match(icmp_type=(_NS, _NA), hop_limit=255), Verdict.ACCEPT, "neighbour discovery")
        case Tunnel():
            yield from _out_of_the_tunnel(permit)
        case TunnelAddresses(addresses):
            for family in by_family(tuple(map(ip_network, addresses))):
                yield Rule(
                    Match(daddr=family),
                    Verdict.DROP,
                    "the tunnel's own address, asked for from elsewhere",
                )
        case HostOnly(device=device):
            yield Rule(Match(iif=device), Verdict.ACCEPT, "guests of this host")
        case Lan(device, prefixes):
            for family in by_family(prefixes):
                yield Rule(
                    Match(iif=device, saddr=family),
                    Verdict.ACCEPT,
                    "the local network, where the configuration allows it",
                )
        case Handshake() | LookUp() | TemporaryAccess() | Transformed() | Excluded():
            return  # answers alone, by the chain's end: a spoofed gateway must not reach our UDP services
        case _:
            assert_never(permit)


def _out_of_the_tunnel(permit: Tunnel) -> Iterable[Rule]:
    by_tunnel = Match(iif=permit.device)
    for family in by_family(tuple(map(ip_network, permit.others))):
        yield Rule(replace(by_tunnel, daddr=family), Verdict.DROP, "another tunnel's address, asked for from this one")
    yield from mtu.clamped(by_tunnel, permit.narrow)
    if permit.filters:
        yield from filtering.arriving(permit.device, permit.filters)
    else:
        yield Rule(by_tunnel, Verdict.ACCEPT, "the verified tunnel")


def _prerouting(permit: Permit) -> Iterable[Rule]:
    if isinstance(permit, Handshake):
        match = _from_endpoint(permit.endpoint.addr, permit.endpoint.port)
        comment = "strict rp_filter looks the answer up as we route the question"
        yield Rule(match, Verdict.CONTINUE, comment, set_mark=FWMARK)
    elif isinstance(permit, LookUp):
        l4, ports = _ASKS[permit.asks]
        for resolvers in by_family(tuple(map(ip_network, permit.resolvers))):
            link = Match(iif=Device(name=permit.device.name), iif_in=LOOK_UP)
            match = replace(link, saddr=resolvers, l4=l4, sport=ports)
            yield Rule(match, Verdict.CONTINUE, "as for the handshake, while a look-up runs", set_mark=FWMARK)


def _from_endpoint(addr: Address, port: int) -> Match:
    return Match(saddr=(ip_network(addr),), l4=(L4.UDP,), sport=(port,))


def _look_up_set(permits: tuple[Permit, ...]) -> Iterable[LinkSet]:
    """The set of links that a look-up may use, where one runs; timed, so that the kernel closes it."""
    for permit in permits:
        if isinstance(permit, LookUp):
            yield LinkSet(LOOK_UP, (_timed(permit),), timed=True)


def _grant_set(permits: tuple[Permit, ...]) -> LinkSet:
    elements = tuple(_timed(permit) for permit in permits if isinstance(permit, TemporaryAccess))
    return LinkSet(GRANT, elements, timed=True)


def _timed(permit: LookUp | TemporaryAccess) -> Element:
    window = permit.window
    return Element(Device(permit.device.index), window.expires_at, window.expires_at - window.opened_at)
