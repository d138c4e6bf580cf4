# SPDX-License-Identifier: GPL-3.0-or-later
"""Tunnels that stand beside the one that carries: how they live, and what is wrong with them.

Each has a link, a session and a memory of its own (`gateways.Companion`), and is asked the same questions as the tunnel
that carries (`health`), of that memory. Which of them stand, `view` says; what they may, `facts` and `routing`. One
that carries for a while, because nobody is logged in, keeps link and session when another takes over, and back.
"""

from collections.abc import Iterator
from dataclasses import replace

from aovpnd import names
from aovpnd.clock import Clock
from aovpnd.core import endpoints, health, lookups, mtu, using
from aovpnd.core.endpoints import Reach
from aovpnd.core.view import Beside, View, choose, why_alone
from aovpnd.gateways import Companion, Role
from aovpnd.inquiries import Host
from aovpnd.ipsec import TunnelSpec
from aovpnd.model import Block, Config, Intent, LinkWish, Problem, Severity, Snapshot, TunnelWish
from aovpnd.orders import EnsureTunnel


def known_of(intent: Intent, tunnel: str) -> Companion:
    """What is remembered of a companion, which may be nothing."""
    return next((known for known in intent.companions if known.tunnel == tunnel), Companion(tunnel))


def memory(intent: Intent, tunnel: str) -> Intent:
    """The memory as it would be if this companion carried. No probe is sent through it: it may lead to nobody who
    answers.
    """
    known = known_of(intent, tunnel)
    return replace(intent, provoked=known.provoked, heard=known.heard, returned=None, sent_at=None, doubt=None)


def is_connected(intent: Intent, each: Beside, now: Clock) -> bool:
    """Whether a companion has proved itself over its present path, and was not lost since."""
    return health.is_connected(memory(intent, each.spec.name), each.state, each.path, now)


# -- what looking at the world changes ---------------------------------------------------------------------------------
def settle(intent: Intent, seen: View, now: Clock) -> Intent:
    """The memory of those that stand, and of the tunnel that carries where it stood beside another until now."""
    standing = tuple(_looked_at(intent, each, now) for each in seen.companions)
    return replace(_promoted(intent, seen), companions=standing)


def _looked_at(intent: Intent, each: Beside, now: Clock) -> Companion:
    known, carried = known_of(intent, each.spec.name), intent.provoked
    if known.provoked is None and carried is not None and carried.path == each.path:  # until now it was the one
        since, counted = intent.connected_at, intent.counted_from
        known = Companion(each.spec.name, carried, intent.heard, since, counted)
    if each.state is None:
        return replace(known, heard=None, connected_at=None)
    known = replace(known, heard=health.listen(known.heard, each.state, now))
    intent = replace(intent, companions=(known,))
    if not is_connected(intent, each, now) or known.provoked is None:
        return replace(known, connected_at=None)
    known = replace(known, provoked=replace(known.provoked, attempts=0))
    if known.connected_at is not None:
        return known
    return replace(known, connected_at=now.boot, counted_from=(each.state.got_bytes, each.state.put_bytes))


def _promoted(intent: Intent, seen: View) -> Intent:
    known = known_of(intent, seen.spec.name) if seen.spec is not None else None
    if known is None or known.provoked is None or known.provoked.path != seen.path:
        return intent
    since, counted = known.connected_at, known.counted_from
    intent = replace(intent, provoked=known.provoked, heard=known.heard, returned=None, doubt=None)
    return replace(intent, connected_at=since, counted_from=counted)


def performed(intent: Intent, action: EnsureTunnel, now: float) -> Intent:
    """The memory after a companion's link was made as wished."""
    known = known_of(intent, action.wish.spec.name)
    if action.wish.path is None:
        return intent
    provoked = health.provoked(known.provoked, action.wish.path, now)
    new = replace(known, provoked=provoked, heard=None, connected_at=None)
    return replace(intent, companions=tuple(new if each == known else each for each in intent.companions))


def forget(intent: Intent) -> Intent:
    """After sleep each proves itself anew."""
    return replace(intent, companions=tuple(replace(known, provoked=None) for known in intent.companions))


def hosts(intent: Intent, seen: View, now: Clock) -> tuple[Host, ...]:
    """What is known of gateways' names, after looking at companions: whose turn it is of several addresses."""
    for each in seen.companions:
        if is_connected(intent, each, now):
            found = endpoints.succeed(intent.hosts, each.spec, each.reach)
        else:
            found = endpoints.turn(memory(intent, each.spec.name), each.spec, each.path, each.reach, now.boot)
        intent = replace(intent, hosts=found)
    return intent.hosts


def asking(config: Config, intent: Intent, seen: View, now: Clock) -> tuple[TunnelSpec, Reach] | None:
    """Whose gateway's name may be looked up, one at a time: of the tunnel that carries, while it is not connected and
    does not rest, and of a companion while that needs none.
    """
    if seen.sealed or intent.block is Block.OFF:
        return None
    able = [(each.spec, each.reach) for each in seen.companions if not is_connected(intent, each, now)]
    needless = intent.rest is not None or health.is_connected(intent, seen.state, seen.path, now)
    if seen.spec is not None and seen.reach is not None and not needless:
        able.insert(0, (seen.spec, seen.reach))
    wanting = (pair for pair in able if lookups.wanted(pair[0], intent, pair[1], seen.uplinks, config.endpoint))
    return next(wanting, able[0] if able else None)


# -- what should be ----------------------------------------------------------------------------------------------------
def wishes(intent: Intent, snapshot: Snapshot, now: View) -> Iterator[TunnelWish]:
    """Their links, as they should be: made down, and set up once the ruleset knows them."""
    for each in now.companions:
        size = mtu.fit(each.spec, intent, snapshot, each.state, each.path).link
        if each.state is None or now.sealed:
            yield TunnelWish(each.spec, each.link_name, LinkWish.DOWN, None, size, Role.COMPANION)
            continue
        of_it = memory(intent, each.spec.name)
        shakes = each.state.link.up and health.must_provoke(of_it, each.state, each.path, snapshot.now)
        yield TunnelWish(each.spec, each.link_name, LinkWish.UP, each.path if shakes else None, size, Role.COMPANION)


def moments(intent: Intent, now: View, clock: Clock) -> Iterator[float]:
    """When to look at them again (CLOCK_BOOTTIME)."""
    for each in now.companions:
        if each.state is not None and each.path is not None:
            yield health.next_look(memory(intent, each.spec.name), each.state, each.path, clock)


# -- what is wrong -----------------------------------------------------------------------------------------------------
def problems(config: Config, intent: Intent, snapshot: Snapshot, now: View) -> Iterator[Problem]:
    """Those that cannot stand, and those whose gateway does not answer."""
    yield from _alone(config, intent, snapshot, now)
    for each in now.companions:
        known, said = known_of(intent, each.spec.name), each.state.said if each.state is not None else None
        if is_connected(intent, each, snapshot.now) or not now.uplinks:
            continue
        if refused := _refused(each):
            text = f"the gateway of {each.spec.name} gives {refused}, which another tunnel has as well"
            yield Problem("companion-unfit", Severity.WARNING, text, "name an address in its file, or ask who runs it")
        elif said is not None:
            yield Problem(said.code, Severity.WARNING, f"{each.spec.name}: {said.text}", said.hint)
        elif known.provoked is not None and known.provoked.attempts >= health.IN_VAIN:
            where = ", ".join(map(str, each.spec.endpoints))
            text = f"the gateway of {each.spec.name} ({where}), which stands beside, does not answer"
            yield Problem("companion-silent", Severity.WARNING, text, "what it carries stays closed; it is tried again")


def _refused(each: Beside) -> str:
    """The addresses that its gateway gives and it cannot take; "" where there are none."""
    given = each.state.given if each.state is not None else None
    have = {interface.ip for interface in each.spec.addresses}
    return ", ".join(str(i.ip) for i in given.addresses if i.ip not in have) if given is not None else ""


def _alone(config: Config, intent: Intent, snapshot: Snapshot, now: View) -> Iterator[Problem]:
    carrier, standing = choose(config, intent), {each.spec.name for each in now.companions}
    alone = using.private(config, snapshot.people)
    for name in using.lanes(config)[len(names.LANE_TABLES) :]:
        if name in alone:
            text = f"nothing leads the users of {name} there: {len(names.LANE_TABLES)} tunnels have users of their own"
            yield Problem("companion-unfit", Severity.WARNING, text, "no more can be named by only in [[user]]")
    for name in (*config.companions, *alone):
        spec = config.tunnel(name)
        if name in standing or (carrier is not None and name == carrier.name):
            continue
        if spec is None and name in config.broken:
            continue  # its file's own problem says so
        if spec is None:
            text, hint = f"there is no tunnel called {name}", "put its file into the tunnels directory"
            where = "[[user]]" if name in alone else "[tunnel] companions"
            yield Problem("tunnel-unknown", Severity.WARNING, text, f"{hint}, or take it out of {where}")
            continue
        why = why_alone(spec, now.specs, private=name in alone)
        if why is not None:
            text = f"{name} cannot stand beside another tunnel: {why}"
            yield Problem("companion-unfit", Severity.WARNING, text, "its file has to name networks of its own")
