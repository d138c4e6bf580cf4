# SPDX-License-Identifier: GPL-3.0-or-later
"""Who shall be asked for names. It decides nothing about packets: what may leave to port 53, `permits` says.

While the tunnel's link is verified and up, its file's servers are asked: for all names when the tunnel carries
everything; for those of its own domains alone when it is narrow and has any. A window takes that away, because the
names that lead to a portal are known to the network's resolvers alone; and so does everything that takes the tunnel
away. What remains then is what the network gave, and while the ruleset blocks that, names fail at once.
"""

from collections.abc import Iterator
from typing import Final

from aovpnd.core.filtering import DNS_PORT
from aovpnd.core.view import View, carries_everything
from aovpnd.dns import Dns, Mechanism, Scope
from aovpnd.filters import Filter, lets_out
from aovpnd.ipsec import IPsec, TunnelSpec, called
from aovpnd.model import Config, Problem, Severity, Snapshot
from aovpnd.ruleset import L4, Address

MOST: Final = 8
"""Servers, and domains of each kind, that are passed on; the C library asks three (MAXNS)."""
EVERYTHING: Final = "~."


def dns(snapshot: Snapshot, now: View) -> Dns | None:
    """Whom to ask, or None: nothing of ours."""
    spec, state, filters = now.spec, now.state, now.filters
    if spec is None and len(own := [each for each in now.companions if each.private]) == 1:
        spec, state, filters = own[0].spec, own[0].state, own[0].filters  # there is no other for anybody
    if spec is None or state is None or not state.link.up or now.grant is not None or now.sealed:
        return None
    servers = asked(spec, filters, ipv6=snapshot.ipv6)
    if not servers:
        return None
    search, routes = _domains(spec)
    everything = EVERYTHING in map(str.lower, spec.search) or carries_everything(spec)
    scope = Scope.DOMAINS if (search or routes) and not everything else Scope.ALL
    beside = tuple(each for each in _beside(snapshot, now) if each.link != state.link.index)
    return Dns(state.link.index, state.link.name, servers, search, routes, scope, beside)


def _domains(spec: TunnelSpec) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is appended to short names, and what is not (``~``), of a tunnel's file."""
    names = [name.lower() for name in spec.search]
    search = dict.fromkeys(name.rstrip(".") for name in names if not name.startswith("~"))
    routes = dict.fromkeys(name[1:].rstrip(".") for name in names if name.startswith("~") and name != EVERYTHING)
    return tuple(search)[:MOST], tuple(routes)[:MOST]


def _beside(snapshot: Snapshot, now: View) -> Iterator[Dns]:
    """The servers of the tunnels beside this one, each for its own domains, where somebody can tell them apart."""
    for each in now.companions if Mechanism.RESOLVED in snapshot.dns.by else ():
        servers, (search, routes) = asked(each.spec, each.filters, ipv6=snapshot.ipv6), _domains(each.spec)
        if each.state is not None and each.state.link.up and servers and (search or routes):
            yield Dns(each.state.link.index, each.state.link.name, servers, search, routes, Scope.DOMAINS)


def servers_of(spec: TunnelSpec, *, ipv6: bool) -> tuple[Address, ...]:
    """The servers of a tunnel's file that can be reached by it, or are on this host."""
    usable = (server for server in spec.dns if ipv6 or server.version != 6)  # noqa: PLR2004 - the family
    return tuple(dict.fromkeys(s for s in usable if s.is_loopback or spec.carries(s)))[:MOST]


def asked(spec: TunnelSpec, filters: tuple[Filter, ...], *, ipv6: bool) -> tuple[Address, ...]:
    """Those of them to which the tunnel's filters let questions out."""
    servers = servers_of(spec, ipv6=ipv6)
    return tuple(s for s in servers if s.is_loopback or lets_out(filters, s, L4.UDP, DNS_PORT))


_LOST: Final = Problem(
    "resolv-conf-lost",
    Severity.WARNING,
    "what /etc/resolv.conf said before aovpnd is lost; the network's gateway stands in for it",
    "if names fail without the tunnel, join the network anew, then its manager writes the file, or write it yourself",
)


def problems(snapshot: Snapshot, spec: TunnelSpec | None, filters: tuple[Filter, ...] = ()) -> list[Problem]:
    """Names that will not resolve, and why."""
    lost = [_LOST] if snapshot.dns.lost else []
    return [*lost, *_unanswered(snapshot, spec), *_filtered(snapshot, spec, filters)]


def problems_beside(snapshot: Snapshot, now: View) -> Iterator[Problem]:
    """Domains of tunnels beside this one, for whose names nobody asks their servers."""
    for each in now.companions if snapshot.dns.by and Mechanism.RESOLVED not in snapshot.dns.by else ():
        search, routes = _domains(each.spec)
        if servers_of(each.spec, ipv6=snapshot.ipv6) and (search or routes):
            text = f"names in {', '.join((*search, *routes)[:3])} are not asked of {each.spec.name}'s servers"
            yield Problem("companion-names", Severity.INFO, text, "systemd-resolved alone can ask by domain")


def problems_of_users(config: Config, snapshot: Snapshot, now: View) -> Iterator[Problem]:
    """Users who are kept from the tunnel whose servers everybody is told to ask. A resolver that asks for all is nobody
    whom that concerns.
    """
    told = dns(snapshot, now) if snapshot.dns.by and Mechanism.RESOLVED not in snapshot.dns.by else None
    if told is None or now.spec is None or any(server.is_loopback for server in told.servers):
        return
    kept = [user.name for user in config.users if not user.may_use(now.spec.name)]
    if kept:
        whom = f"{', '.join(kept[:3])}{' and others' if kept[3:] else ''}"
        text = f"programs of {whom} find no names: they ask {now.spec.name}'s servers, and that tunnel is not for them"
        yield Problem(
            "user-names", Severity.WARNING, text, "systemd-resolved asks for everybody; so does a resolver here"
        )


def _filtered(snapshot: Snapshot, spec: TunnelSpec | None, filters: tuple[Filter, ...]) -> list[Problem]:
    """Servers that would answer, if the tunnel's filters let anybody ask them."""
    servers = servers_of(spec, ipv6=snapshot.ipv6) if spec is not None else ()
    if spec is None or not servers or asked(spec, filters, ipv6=snapshot.ipv6):
        return []
    whom = ", ".join(map(str, servers[:3]))
    text = f"the filters of {spec.name} let nobody ask its DNS servers ({whom}), so names are not found"
    hint = f'if they shall be: a [[filter]] for {spec.name} with protocol = ["udp", "tcp"] and ports = [53]'
    return [Problem("dns-filtered", Severity.WARNING, text, hint)]


def _unanswered(snapshot: Snapshot, spec: TunnelSpec | None) -> list[Problem]:
    """Where a resolver of the tunnel's own, or a public one, answers, nothing is missing."""
    if spec is None or servers_of(spec, ipv6=snapshot.ipv6):
        return []
    if isinstance(spec, IPsec) and not spec.addresses:
        return []  # its gateway has not yet given what it gives
    if spec.dns:
        text = f"the DNS servers of {spec.name} ({', '.join(map(str, spec.dns[:3]))}) are outside what it carries"
        return [
            Problem(
                "dns-outside",
                Severity.WARNING,
                text,
                f"add them to {called(spec).networks}, or correct the DNS servers in its file",
            )
        ]
    lost = [resolver for resolver in snapshot.resolvers if not (resolver.is_global and spec.carries(resolver))]
    if not lost or len(lost) < len(snapshot.resolvers):
        return []
    text = f"{spec.name} names no DNS servers, and those of the network ({', '.join(map(str, lost[:3]))}) are blocked"
    hint = f"add {called(spec).resolvers} of its file"
    if isinstance(spec, IPsec):
        hint = f"its gateway gives none either: {hint}"
    return [Problem("no-dns", Severity.WARNING, text, hint)]
