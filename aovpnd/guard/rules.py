# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guard holds, as values: a last look at the stamp for IP, and an egress chain for every outside link.

The tables never change but for the list of links, so that nothing makes the guard die. `egress.nft` for early boot is
the same ``outside`` chain (docs/security.md, "Who enforces it").
"""

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, ip_network
from typing import Final

from aovpnd import names
from aovpnd.links import ARPHRD_ETHER, Link, Side, sides
from aovpnd.render import render, render_chain
from aovpnd.ruleset import (
    L4,
    LOOPBACK,
    Chain,
    Device,
    Element,
    Framing,
    Hook,
    LinkSet,
    Mark,
    Match,
    Origin,
    Owner,
    Protocol,
    Rule,
    Ruleset,
    SetRef,
    Verdict,
)

INSIDE: Final = SetRef(names.INSIDE_SET, named=True)
_STAMPED: Final = Mark(names.STAMP, names.STAMP)
_UNSTAMPED: Final = Mark(0, names.STAMP)
_LINK_LOCAL: Final = ip_network("fe80::/10")
_RS, _NS, _NA = 133, 135, 136

_DHCP: Final = Match(daddr=(ip_network("255.255.255.255"),), l4=(L4.UDP,), sport=(68,), dport=(67,))
_DHCPV6: Final = Match(saddr=(_LINK_LOCAL,), daddr=(ip_network("ff02::1:2"),), l4=(L4.UDP,), sport=(546,), dport=(547,))
_IP: Final = (Protocol.IP, Protocol.IP6, Protocol.VLAN)
_PPP_IP: Final = (0x0021, 0x0057)
_PPP_CONTROL: Final = (0xC021, 0xC023, 0xC223, 0x8021, 0x8057)
"""LCP, PAP, CHAP, IPCP and IPV6CP: how a PPP link comes up, who it is, and its addresses."""


def _either(protocol: Protocol) -> tuple[Match, Match]:
    """A frame of this type, and one behind the tag of a VLAN: behind a tag there may be anything, so look there too."""
    plain = Match(protocol=protocol, frame=(protocol,))
    return plain, replace(plain, frame=(Protocol.VLAN,), tagged=protocol)


PORT: Final = Chain(
    names.PORT_CHAIN,
    (
        # A packet socket may claim any protocol, so the frame's own type is asked as well.
        *(
            Rule(
                Match(mark=_STAMPED, protocol=protocol, frame=_IP),
                Verdict.ACCEPT,
                "stamped by the last look of table inet aovpnd",
            )
            for protocol in (Protocol.IP, Protocol.IP6)
        ),
        Rule(
            Match(mark=_STAMPED, framing=Framing.OTHER),
            Verdict.ACCEPT,
            "stamped, and a link without frames: PPP, modems",
        ),
        Rule(Match(protocol=Protocol.ARP, frame=(Protocol.ARP,)), Verdict.ACCEPT, "ARP passes no inet hook"),
        Rule(
            Match(protocol=Protocol.ARP, frame=(Protocol.VLAN,), tagged=Protocol.ARP),
            Verdict.ACCEPT,
            "ARP of a VLAN above; behind a tag there may be anything, so look there too",
        ),
        Rule(
            Match(protocol=Protocol.EAPOL, frame=(Protocol.EAPOL,)),
            Verdict.ACCEPT,
            "802.1X, or the link never comes up",
        ),
        *(
            Rule(replace(match, owner=Owner.ROOT), Verdict.ACCEPT, "PPPoE: the search for a session, by root's pppd")
            for match in _either(Protocol.PPPOE_DISCOVERY)
        ),
        Rule(
            replace(_DHCP, frame=(Protocol.IP,)),
            Verdict.ACCEPT,
            "DHCPv4 clients send by packet socket, by broadcast alone",
        ),
        Rule(
            replace(_DHCP, frame=(Protocol.VLAN,), tagged=Protocol.IP),
            Verdict.ACCEPT,
            "DHCPv4 of a VLAN above",
        ),
        *(
            Rule(replace(match, frame=(Protocol.IP6,)), Verdict.ACCEPT, comment)
            for match, comment in (
                (_DHCPV6, "DHCPv6 to the link's servers"),
                (Match(daddr=(ip_network("ff02::2"),), icmp_type=(_RS,), hop_limit=255), "router solicitation"),
                (
                    Match(daddr=(ip_network("ff02::1:ff00:0/104"), _LINK_LOCAL), icmp_type=(_NS,), hop_limit=255),
                    "neighbour solicitation, on the link only",
                ),
                (
                    Match(daddr=(ip_network("ff02::1"), _LINK_LOCAL), icmp_type=(_NA,), hop_limit=255),
                    "neighbour advertisement, on the link only",
                ),
            )
        ),
        Rule(Match(), Verdict.DROP, "no stamp, no way out: raw sockets, macvlan and bridged guests end here"),
    ),
)
"""What may leave by an outside link, whoever sent it and by whatever socket (facts T4, T5), where packets have lost
their route on the way.
"""

OUTSIDE: Final = Chain(names.OUTSIDE_CHAIN, tuple(rule for rule in PORT.rules if rule.match.mark is None))
"""The same in early boot: until the daemon has started nothing needs the stamp, so whoever sets it gains nothing. No
kernel lacks any of these expressions: one file that is refused would leave every link bare.
"""


def _routed(rule: Rule) -> Rule:
    """The same, for what the IP stack sent: a packet socket can set the stamp, and has no route (decision 25). What a
    link without frames carries may have been packed by another one above it, so there the stamp alone counts.
    """
    framed = rule.match.mark == _STAMPED and rule.match.framing is None
    return replace(rule, match=replace(rule.match, origin=Origin.ROUTED)) if framed else rule


ROUTED: Final = Chain(names.ROUTED_CHAIN, tuple(map(_routed, PORT.rules)))
"""The same where packets still have their route."""


_LAYERS: Final = {
    "vlan": tuple(
        Rule(
            Match(mark=_STAMPED, protocol=protocol, frame=(Protocol.VLAN,), tagged=protocol),
            Verdict.ACCEPT,
            "stamped by the last look on its way to a VLAN, which takes the route off",
        )
        for protocol in (Protocol.IP, Protocol.IP6)
    ),
    "ppp": (
        *(
            Rule(
                replace(match, ppp=_PPP_IP, mark=_STAMPED),
                Verdict.ACCEPT,
                "stamped by the last look on its way to a PPP link, which takes the route off",
            )
            for match in _either(Protocol.PPPOE_SESSION)
        ),
        Rule(
            Match(protocol=Protocol.PPPOE_SESSION, owner=Owner.ANYBODY),
            Verdict.DROP,
            "from a program's own socket, which takes no privilege (AF_PPPOX)",
        ),
        *(
            Rule(replace(match, ppp=_PPP_CONTROL), Verdict.ACCEPT, "PPP's own words, from the kernel's PPP link alone")
            for match in _either(Protocol.PPPOE_SESSION)
        ),
    ),
}
"""What links above an Ethernet link hand to it, by their kind (decision 51)."""
_BY_LAYERS: Final = {
    kinds: Chain(
        "_".join((names.ROUTED_CHAIN, *kinds)),
        (*(rule for kind in kinds for rule in _LAYERS[kind]), *ROUTED.rules),
    )
    for kinds in ((), *((kind,) for kind in names.LAYERS), names.LAYERS)
}
"""`ROUTED`, and with the layers that there are."""


def judging(used: Iterable[str], unannounced: tuple[IPv4Address, ...] = ()) -> tuple[Chain, ...]:
    """`PORT` and `ROUTED`, and of the latter's forms those ``used``, by name: no more, since every program that asks
    for tables reads all chains. With them, ARP does not name any of ``unannounced`` as who asks or answers.

    Where an uplink has lost its address, the kernel asks in the name of any other link's (inet_select_addr, whatever
    arp_announce says), and the tunnel's would be shown to the network.
    """
    wanted = {*used, names.ROUTED_CHAIN}
    chains = (PORT, *(chain for chain in _BY_LAYERS.values() if chain.name in wanted))
    if not unannounced:
        return chains
    match = Match(protocol=Protocol.ARP, frame=(Protocol.ARP,), saddr=tuple(map(IPv4Network, unannounced)))
    silent = Rule(match, Verdict.DROP, "the tunnel's own address is no neighbour's business")
    return tuple(replace(chain, rules=(silent, *chain.rules)) for chain in chains)


_MASTERS_WITHOUT_ROUTES: Final = frozenset({"bond", "team"})
"""Kinds of links that take the route off what they hand to their ports (IFF_XMIT_DST_RELEASE)."""

UNSTAMP: Final = Chain(
    "unstamp",
    (Rule(Match(), Verdict.CONTINUE, "whoever set the stamp: the last look alone gives it", set_mark=_UNSTAMPED),),
    Hook.POSTROUTING,
    names.PRIORITY_UNSTAMP,
    policy=Verdict.ACCEPT,
)
"""The last look of table inet aovpnd does the same; this one stands when that table was flushed."""


def link_chain(link: Link, judge: str) -> Chain:
    """The egress base chain of one outside link; ``judge`` is the regular chain that knows the rest."""
    return Chain(
        f"{names.LINK_CHAIN_PREFIX}{link.index}",
        (
            Rule(Match(), Verdict.CONTINUE, "every outside link alike", jump=judge),
            Rule(Match(), Verdict.DROP, "explicit, because a policy alone leaks during a replace"),
        ),
        Hook.EGRESS,
        names.PRIORITY_FILTER,
        link.name,
    )


def judges(links: Iterable[Link]) -> dict[Link, str]:
    """The outside links, each with the regular chain that judges what leaves by it."""
    links = tuple(links)
    masters = {link.index for link in links if link.kind in _MASTERS_WITHOUT_ROUTES}
    kinds = {link.kind for link in links}
    layered = _BY_LAYERS[tuple(kind for kind in names.LAYERS if kind in kinds)].name

    def judge(link: Link) -> str:
        if link.master in masters:
            return names.PORT_CHAIN
        return layered if link.arphrd == ARPHRD_ETHER else names.ROUTED_CHAIN

    return {link: judge(link) for link in outside(links)}


def egress_table(
    links: Iterable[Link], *, table: str = names.GUARD_TABLE, unannounced: tuple[IPv4Address, ...] = ()
) -> Ruleset:
    """The guard's netdev table for the outside links among all ``links``."""
    judge = judges(links)
    chains = (link_chain(link, name) for link, name in judge.items())
    return Ruleset("netdev", table, (*judging(judge.values(), unannounced), *chains), owned=True)


def last_look(host_only: Iterable[Link], *, table: str = names.GUARD_TABLE) -> Ruleset:
    """The guard's judgement in its inet table: behind the dynamic table's last look, nothing without its stamp."""
    elements = tuple(Element(Device(link.index, link.name)) for link in host_only)
    kinds = [Device(name=f"{names.LINK_PREFIX}*", kind=kind) for kind in names.TUNNEL_KINDS]
    return Ruleset(
        "inet",
        table,
        (
            Chain(
                "postrouting",
                (
                    Rule(Match(oif=LOOPBACK), Verdict.ACCEPT, "the machine speaks with itself"),
                    Rule(Match(mark=_STAMPED), Verdict.ACCEPT, "stamped by the last look of table inet aovpnd"),
                    *(
                        Rule(Match(oif=kind), Verdict.ACCEPT, "tunnels; their outer packets come by here too")
                        for kind in kinds
                    ),
                    Rule(Match(oif_in=INSIDE), Verdict.ACCEPT, "guests of this host"),
                    Rule(Match(), Verdict.DROP, "no stamp, no way out"),
                ),
                Hook.POSTROUTING,
                names.PRIORITY_GUARD,
            ),
        ),
        sets=(LinkSet(INSIDE, elements),),
        owned=True,
    )


def inet_table(host_only: Iterable[Link], *, table: str = names.GUARD_TABLE) -> Ruleset:
    """The guard's whole inet table: what comes before the dynamic table's last look, and what behind it."""
    behind = last_look(host_only, table=table)
    return replace(behind, chains=(UNSTAMP, *behind.chains))


def outside(links: Iterable[Link]) -> tuple[Link, ...]:
    """The links that get an egress chain; one whose name cannot be written safely gets none (and `inet` still covers
    it).
    """
    links = tuple(links)
    side = sides(links)
    return tuple(link for link in links if side[link.index] is Side.OUTSIDE and link.nameable)


def inside(links: Iterable[Link]) -> tuple[Link, ...]:
    """The host-only links, bridges and ports."""
    links = tuple(links)
    side = sides(links)
    return tuple(link for link in links if side[link.index] is Side.HOST_ONLY and link.nameable)


def early_egress() -> str:
    """``egress.nft``: the shared chain of the table that the udev rule attaches links to; loading it again changes
    nothing.
    """
    body = "\n".join(render_chain(OUTSIDE))
    head = f"add table netdev {names.EARLY_TABLE}\nadd chain netdev {names.EARLY_TABLE} {names.OUTSIDE_CHAIN}\n"
    head += f"flush chain netdev {names.EARLY_TABLE} {names.OUTSIDE_CHAIN}\n"
    return f"{head}table netdev {names.EARLY_TABLE} {{\n{body}\n}}\n"


def early_links(
    add: Iterable[Link], remove: Iterable[int], links: Iterable[Link], unannounced: tuple[IPv4Address, ...] = ()
) -> str:
    """Attach links to early boot's table, as its udev rule does, and let go of others by their index; ``links`` are
    all that there are.
    """
    where = f"netdev {names.EARLY_TABLE}"
    judge = judges(links)
    alike = judging(judge.values(), unannounced)
    fresh = "".join(f"{verb} chain {where} {chain.name}\n" for chain in alike for verb in ("add", "flush"))
    gone = "".join(f"delete chain {where} {names.LINK_CHAIN_PREFIX}{index}\n" for index in remove)
    attached = (link_chain(link, judge[link]) for link in add)
    chains = [line for chain in (*alike, *attached) for line in render_chain(chain)]
    return f"{early_egress()}{fresh}{gone}table {where} {{\n" + "\n".join(chains) + "\n}\n"


def whole(links: Iterable[Link], *, table: str = names.GUARD_TABLE, unannounced: tuple[IPv4Address, ...] = ()) -> str:
    """Both tables, in one transaction."""
    links = tuple(links)
    egress = egress_table(links, table=table, unannounced=unannounced)
    return render(inet_table(inside(links), table=table)) + render(egress)


Attached = tuple[tuple[tuple[int, str, str], ...], tuple[tuple[int, str], ...]]
"""Outside links by index and name, with who judges there, and inside links: all that the tables depend on."""


def attached(links: Iterable[Link]) -> Attached:
    """What the tables for these links depend on; they need no change while it is the same."""
    links = tuple(links)
    return (
        tuple(sorted((link.index, link.name, judge) for link, judge in judges(links).items())),
        tuple(sorted((link.index, link.name) for link in inside(links))),
    )
