# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of a tunnel into rules: what of a tunnel's packets passes each hook when filters say what may.

What goes out is judged packet by packet, by what it is. Answers to what a filter lets in are the one thing that leaves
because of a connection: by the tunnel's link alone, in the direction of a reply, and only where the filter still names
their peer, protocol and port. What comes in is judged by filters when it is new, and otherwise as an answer.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from aovpnd.filters import Direction, Filter, lets_out
from aovpnd.ipsec import TunnelSpec
from aovpnd.ruleset import L4, Address, Conntrack, Device, Flow, Match, Protocol, Rule, Verdict
from aovpnd.tunnel import Endpoint

ERRORS: Final = (
    Match(l4=(L4.ICMP,), icmp_type=(3, 11, 12)),
    Match(icmp_type=(1, 2, 3, 4)),
)
"""Unreachable, too big, time exceeded, parameter problem (RFC 792, RFC 4443)."""
DNS_PORT: Final = 53
DNS_PORTS: Final = (DNS_PORT, 853)
"""In clear, and over TLS or QUIC."""
_PROTOCOLS: Final = {4: Protocol.IP, 6: Protocol.IP6}


def leaving(device: Device, filters: tuple[Filter, ...]) -> Iterator[Rule]:
    """For output and the last look."""
    by_tunnel = Match(oif=device)
    yield from forwarded(by_tunnel, filters)
    answer = replace(by_tunnel, ct=(Conntrack.ESTABLISHED,), flow=Flow.REPLY)
    for number, each in _of(Direction.IN, filters):
        for match in _matches(each):
            back = replace(answer, protocol=match.protocol, daddr=match.saddr, l4=match.l4, sport=match.dport)
            yield Rule(back, Verdict.ACCEPT, f"answers to what filter {number} of the tunnel lets in")
    yield Rule(by_tunnel, Verdict.REJECT, "no filter of the tunnel lets it out")


def arriving(device: Device, filters: tuple[Filter, ...]) -> Iterator[Rule]:
    """For input."""
    by_tunnel = Match(iif=device)
    for number, each in _of(Direction.IN, filters):
        for match in _matches(each):
            yield Rule(replace(match, iif=device), Verdict.ACCEPT, f"filter {number} of the tunnel lets it in")
    answer = replace(by_tunnel, ct=(Conntrack.ESTABLISHED,), flow=Flow.REPLY)
    yield Rule(answer, Verdict.ACCEPT, "answers to what went out through the tunnel")
    for error in ERRORS:
        about = replace(error, iif=device, ct=(Conntrack.RELATED,))
        yield Rule(about, Verdict.ACCEPT, "errors about a connection, such as the size of packets that pass")
    yield Rule(by_tunnel, Verdict.DROP, "no filter of the tunnel lets it in")


def forwarded(there: Match, filters: tuple[Filter, ...]) -> Iterator[Rule]:
    """What filters let out of what goes ``there``."""
    for number, each in _of(Direction.OUT, filters):
        yield from _let_out(there, number, each)


def number_of(rule: Rule, device: Device, filters: tuple[Filter, ...]) -> int | None:
    """Which filter, counted from 1, lets out what a rule of output or of the last look accepts; None: no filter."""
    out = _of(Direction.OUT, filters)
    return next((number for number, each in out if rule in _let_out(Match(oif=device), number, each)), None)


def may_ask(spec: TunnelSpec, filters: tuple[Filter, ...], whom: Endpoint | Address) -> bool:
    """Whether a question of our own can go through the tunnel: by TCP to an endpoint, by DNS to a name server."""
    if isinstance(whom, Endpoint):
        return spec.reaches(whom.addr) and lets_out(filters, whom.addr, L4.TCP, whom.port)
    return spec.reaches(whom) and lets_out(filters, whom, L4.UDP, DNS_PORT)


def _let_out(there: Match, number: int, each: Filter) -> Iterator[Rule]:
    for match in _matches(each):
        let_out = replace(match, iif=there.iif, oif=there.oif, saddr=(), daddr=match.saddr)
        yield Rule(let_out, Verdict.ACCEPT, f"filter {number} of the tunnel lets it out")


def _of(direction: Direction, filters: tuple[Filter, ...]) -> Iterator[tuple[int, Filter]]:
    """The filters of a direction, each with its number among all."""
    return ((number, each) for number, each in enumerate(filters, 1) if each.direction is direction)


def _matches(each: Filter) -> Iterator[Match]:
    """What a filter names, one match for each family, as it comes from the others."""
    for version, networks, protocols in each.by_family():
        family = None if networks else _PROTOCOLS[version]
        yield Match(protocol=family, saddr=networks, l4=protocols, dport=each.ports)
