# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guard holds, as values: a last look at the stamp for IP, and an egress chain for every outside link.

The tables never change but for the list of links, so that nothing makes the guard die. `egress.nft` for early boot is
the same ``outside`` chain (docs/security.md, "Who enforces it").
"""

from collections.abc import Iterable
from ipaddress import ip_network
from typing import Final

from aovpnd import names
from aovpnd.links import Link, Side, sides
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
    Protocol,
    Rule,
    Ruleset,
    SetRef,
    Verdict,
)

INSIDE: Final = SetRef(names.INSIDE_SET, named=True)
_STAMPED: Final = Mark(names.STAMP, names.STAMP)
_LINK_LOCAL: Final = ip_network("fe80::/10")
_RS, _NS, _NA = 133, 135, 136

_IP: Final = (Protocol.IP, Protocol.IP6, Protocol.VLAN)

OUTSIDE: Final = Chain(
    names.OUTSIDE_CHAIN,
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
        Rule(
            Match(daddr=(ip_network("255.255.255.255"),), l4=(L4.UDP,), sport=(68,), dport=(67,)),
            Verdict.ACCEPT,
            "DHCPv4 clients send by packet socket, by broadcast alone",
        ),
        Rule(
            Match(saddr=(_LINK_LOCAL,), daddr=(ip_network("ff02::1:2"),), l4=(L4.UDP,), sport=(546,), dport=(547,)),
            Verdict.ACCEPT,
            "DHCPv6 to the link's servers",
        ),
        Rule(
            Match(daddr=(ip_network("ff02::2"),), icmp_type=(_RS,), hop_limit=255),
            Verdict.ACCEPT,
            "router solicitation",
        ),
        Rule(
            Match(daddr=(ip_network("ff02::1:ff00:0/104"), _LINK_LOCAL), icmp_type=(_NS,), hop_limit=255),
            Verdict.ACCEPT,
            "neighbour solicitation, on the link only",
        ),
        Rule(
            Match(daddr=(ip_network("ff02::1"), _LINK_LOCAL), icmp_type=(_NA,), hop_limit=255),
            Verdict.ACCEPT,
            "neighbour advertisement, on the link only",
        ),
        Rule(Match(), Verdict.DROP, "no stamp, no way out: raw sockets, macvlan and bridged guests end here"),
    ),
)
"""What may leave by an outside link, whoever sent it and by whatever socket (facts T4, T5)."""


def link_chain(link: Link) -> Chain:
    """The egress base chain of one outside link."""
    return Chain(
        f"{names.LINK_CHAIN_PREFIX}{link.index}",
        (
            Rule(Match(), Verdict.CONTINUE, "every outside link alike", jump=names.OUTSIDE_CHAIN),
            Rule(Match(), Verdict.DROP, "explicit, because a policy alone leaks during a replace"),
        ),
        Hook.EGRESS,
        names.PRIORITY_FILTER,
        link.name,
    )


def egress_table(links: Iterable[Link], *, table: str = names.GUARD_TABLE, owned: bool = True) -> Ruleset:
    """The guard's netdev table for these outside links."""
    return Ruleset("netdev", table, (OUTSIDE, *map(link_chain, links)), owned=owned)


def last_look(host_only: Iterable[Link], *, table: str = names.GUARD_TABLE) -> Ruleset:
    """The guard's inet table: behind the dynamic table's last look, nothing without its stamp."""
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
                    *(
                        Rule(Match(oif=kind), Verdict.ACCEPT, "tunnels; their outer packets come by here too")
                        for kind in kinds
                    ),
                    Rule(Match(oif_in=INSIDE), Verdict.ACCEPT, "guests of this host"),
                    Rule(Match(mark=_STAMPED), Verdict.ACCEPT, "stamped by the last look of table inet aovpnd"),
                    Rule(Match(), Verdict.DROP, "no stamp, no way out"),
                ),
                Hook.POSTROUTING,
                names.PRIORITY_GUARD,
            ),
        ),
        sets=(LinkSet(INSIDE, elements),),
        owned=True,
    )


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


def early_links(add: Iterable[Link], remove: Iterable[int]) -> str:
    """Attach more links to early boot's table, as its udev rule does, and let go of others by their index."""
    where = f"netdev {names.EARLY_TABLE}"
    chains = [chain for link in add for chain in render_chain(link_chain(link))]
    attached = f"table {where} {{\n" + "\n".join(chains) + "\n}\n" if chains else ""
    gone = "".join(f"delete chain {where} {names.LINK_CHAIN_PREFIX}{index}\n" for index in remove)
    return early_egress() + gone + attached


def whole(links: Iterable[Link], *, table: str = names.GUARD_TABLE) -> str:
    """Both tables, in one transaction."""
    links = tuple(links)
    return render(last_look(inside(links), table=table)) + render(egress_table(outside(links), table=table))


Attached = tuple[tuple[tuple[int, str], ...], tuple[tuple[int, str], ...]]
"""Outside and inside links, by index and name: all that the tables depend on."""


def attached(links: Iterable[Link]) -> Attached:
    """What the tables for these links depend on; they need no change while it is the same."""
    links = tuple(links)
    return _keys(outside(links)), _keys(inside(links))


def _keys(links: tuple[Link, ...]) -> tuple[tuple[int, str], ...]:
    return tuple(sorted((link.index, link.name) for link in links))
