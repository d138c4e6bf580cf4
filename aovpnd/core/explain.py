# SPDX-License-Identifier: GPL-3.0-or-later
"""``explain(picture, destination)``: what becomes of a packet, and why.

It goes the way that a packet of an ordinary program goes: routing, the output hook, the last look, the guard's last
look, and the egress chain of an outside link. Each step that judged it is kept, with the rule's own words; `sentences`
has words for the whole.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, assert_never

from aovpnd.core import filtering, firewall
from aovpnd.core.permits import (
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
from aovpnd.core.picture import Picture
from aovpnd.core.way import Turn, Way, corrected, way
from aovpnd.destinations import Destination, Routed
from aovpnd.guard import rules as guard
from aovpnd.links import ARPHRD_ETHER, Link
from aovpnd.model import Copies, Desired, GuardState, Snapshot
from aovpnd.render import render_rule
from aovpnd.routes import Route
from aovpnd.ruleset import L4, Device, Framing, Hook, Owner, Protocol, Ruleset, Verdict
from aovpnd.trace import Packet, Step, trace

IPV4: Final = 4
EPHEMERAL_PORT: Final = 50000
"""A source port as programs get it that ask for none; no rule of ours names it."""
OUTPUT: Final = "output"
"""The stage that refuses at once."""
ECHO_REQUEST: Final = 128
_L4: Final = {6: L4.TCP, 17: L4.UDP, 1: L4.ICMP, 58: L4.ICMPV6}


class Fate(StrEnum):
    """What becomes of the packet."""

    HERE = "stays"
    TUNNEL = "tunnel"
    GUESTS = "host-only"
    LAN = "lan"
    EXCLUDED = "excluded"
    ACCESS = "temporary-access"
    OTHER = "permitted"
    OPEN = "open"
    UNROUTED = "unrouted"
    REFUSED = "refused"
    DROPPED = "dropped"


PASSES: Final = frozenset(Fate) - {Fate.UNROUTED, Fate.REFUSED, Fate.DROPPED}


@dataclass(frozen=True, slots=True)
class Stage:
    """Who judged the packet, by which rule (nft's words) and why (its comment), and what was said."""

    where: str
    rule: str
    why: str
    verdict: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """What becomes of it. ``permit`` is what let it pass, ``stages`` end with who had the last word. ``named_by``: the
    filter, counted from 1, that lets it through the tunnel, where that has filters.
    """

    to: Destination
    fate: Fate
    way: Way
    stages: tuple[Stage, ...]
    permit: Permit | None = None
    named_by: int | None = None

    @property
    def passes(self) -> bool:
        """Whether anything gets past this machine's own judgement."""
        return self.fate in PASSES


def explain(picture: Picture, to: Destination, kernel: Routed | None = None) -> Explanation:
    """What the kernel does with a packet to ``to`` now; ``kernel`` is what it says of the way, where it was asked."""
    snapshot = picture.snapshot
    found = way(snapshot, to)
    if kernel is not None:
        found = corrected(found, kernel, snapshot, to)
    routed = Stage("routing", _looked_up(found, snapshot), found.by.value, found.turn.value)
    if found.turn is Turn.NOWHERE or found.link is None:
        return Explanation(to, Fate.UNROUTED, found, (routed,))
    stages = [routed]
    packet = packet_to(to, found, found.link)
    permits = picture.permits
    permit: Permit | None = None
    named_by: int | None = None
    for where, ruleset, hook in _judges(snapshot, picture.desired, found.link):
        said, mark, steps = trace(ruleset, hook, packet, snapshot.now.boot)
        stages += [_stage(where, step, said, last=step is steps[-1]) for step in steps]
        if said is not Verdict.ACCEPT:
            fate = Fate.REFUSED if said is Verdict.REJECT else Fate.DROPPED
            return Explanation(to, fate, found, tuple(stages), firewall.permit_of(steps[-1].rule, permits))
        if hook is Hook.OUTPUT and steps:
            permit = firewall.permit_of(steps[-1].rule, permits)
            if isinstance(permit, Tunnel):
                named_by = filtering.number_of(steps[-1].rule, permit.device, permit.filters)
        packet = replace(packet, mark=mark)
    return Explanation(to, _fate(found, permit, stages), found, tuple(stages), permit, named_by)


def packet_to(to: Destination, found: Way, link: Link) -> Packet:
    """The packet that an ordinary program sends there: no mark, a port of its own, a usual hop limit."""
    version = to.address.version
    return Packet(
        oif=Device(link.index, link.name if link.nameable else None, link.kind or None),
        protocol=Protocol.IP if version == IPV4 else Protocol.IP6,
        saddr=found.source,
        daddr=to.address,
        l4=_L4.get(to.number),
        sport=EPHEMERAL_PORT if to.port is not None else 0,
        dport=to.port or 0,
        icmp_type=ECHO_REQUEST if to.number in {1, 58} else 0,
        framing=Framing.ETHERNET if link.arphrd == ARPHRD_ETHER else Framing.OTHER,
        owner=to.uid if to.uid is not None else Owner.ANYBODY,
    )


def _judges(snapshot: Snapshot, desired: Desired, link: Link) -> list[tuple[str, Ruleset, Hook]]:
    """Who looks at a packet that leaves by ``link``, in their order; a table that is altered is taken as it should
    be.
    """
    table = snapshot.ruleset or (desired.ruleset if snapshot.table_present else None)
    judges = []
    if table is not None:
        judges += [(OUTPUT, table, Hook.OUTPUT), ("last look", table, Hook.POSTROUTING)]
    if snapshot.guard is GuardState.HELD or snapshot.copies is Copies.CURRENT:
        judges.append(("guard", guard.last_look(guard.inside(snapshot.links)), Hook.POSTROUTING))
        if link in guard.outside(snapshot.links):
            judges.append(("egress", guard.egress_table(snapshot.links), Hook.EGRESS))
    return judges


def _stage(where: str, step: Step, said: Verdict, *, last: bool) -> Stage:
    rule = f"chain {step.chain}, rule {step.number}: {render_rule(step.rule).partition(' comment ')[0]}"
    return Stage(where, rule, step.rule.comment, _SAYS[said if last else Verdict.CONTINUE])


_SAYS: Final = {
    Verdict.ACCEPT: "accepted",
    Verdict.REJECT: "refused",
    Verdict.DROP: "dropped",
    Verdict.CONTINUE: "goes on",
}


def _fate(found: Way, permit: Permit | None, stages: list[Stage]) -> Fate:
    """What it means that nobody was against it."""
    if found.turn is Turn.HERE:
        return Fate.HERE
    match permit:
        case Tunnel():
            return Fate.TUNNEL
        case HostOnly():
            return Fate.GUESTS
        case Lan():
            return Fate.LAN
        case Excluded():
            return Fate.EXCLUDED
        case TemporaryAccess():
            return Fate.ACCESS
        case Loopback() | LinkSetup() | Handshake() | LookUp() | Transformed() | TunnelAddresses() | None:
            # None where no table is: or one that is about to be replaced, whose rule then speaks for itself.
            return Fate.OTHER if any(stage.where == OUTPUT for stage in stages) else Fate.OPEN
        case _:
            assert_never(permit)


def route_text(route: Route, links: Iterable[Link]) -> str:
    """A route as ip-route(8) shows it."""
    if route.link is None:
        return f"unreachable {route.dst} metric {route.metric}"
    name = next((link.name for link in links if link.index == route.link), str(route.link))
    via = f" via {route.gateway}" if route.gateway is not None else ""
    return f"{route.dst}{via} dev {name} metric {route.metric}"


def _looked_up(found: Way, snapshot: Snapshot) -> str:
    if found.route is not None:
        return route_text(found.route, snapshot.links)
    return f"dev {found.link.name}" if found.link is not None else "unreachable"
