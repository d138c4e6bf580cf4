# SPDX-License-Identifier: GPL-3.0-or-later
"""A tunnel on demand rests: while nobody sends it has no session, and nothing of ours goes to its gateway.

Its link stays, with addresses, routes, name servers and rules, so a program that sends is served by it and by nothing
else; only the session is given up. What the link counts wakes it, also what it could not take. It connects once before
it first rests: then it is known to work, and what an IKE gateway gives is known as well. Whatever says that somebody
wants it ends the rest: a packet, a command, a window of temporary access, another configuration, a link made anew.
Roaming does not: the new path is noted, and the next packet proves it.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from aovpnd.clock import Clock
from aovpnd.core.view import View
from aovpnd.gateways import Path, Provoked, Rest
from aovpnd.ipsec import IKE_BACKEND, TunnelSpec, restless
from aovpnd.model import Config, Intent, Phase, Problem, Severity, TunnelState
from aovpnd.orders import EnsureTunnel
from aovpnd.resting import Moved, Rouse

IKE_LOOK_S: Final = 0.5
"""How often a resting link's counters are read where a packet waits for us: no person notices it, and two system calls
a second are no load."""
LOOK_S: Final = 2.0
"""The same where WireGuard shakes hands by itself as soon as a packet comes: only a gateway that is silent needs us."""


def _may(config: Config, spec: TunnelSpec | None) -> bool:
    return spec is not None and spec.name in config.on_demand and not restless(spec)


def settle(config: Config, intent: Intent, seen: View, now: Clock) -> Intent:
    """What looking at the world changes: when anything moved, whether the tunnel rests from now on, or no longer."""
    intent = replace(_take_over(config, intent, seen), rested=None)
    spec, state = seen.spec, seen.state
    if spec is None or state is None or not _may(config, spec):
        return replace(intent, moved=None, rest=None)
    before, moved = intent.moved, Moved(now.boot, state.link.index, state.tries, state.got_bytes)
    if before is None or replace(moved, at=before.at) != before:
        intent = replace(intent, moved=moved)
    elif (
        intent.rest is None
        and seen.phase is Phase.CONNECTED
        and seen.trial is None
        and _due(config, intent) <= now.boot
    ):
        rest = Rest(spec.name, spec.digest(), state.link.index, state.tries)
        return replace(intent, rest=rest, provoked=None)
    return _woken(intent, intent.rest, seen, state, now) if intent.rest is not None else intent


def _due(config: Config, intent: Intent) -> float:
    """When a tunnel that is connected may rest, if nothing moves until then (CLOCK_BOOTTIME)."""
    if intent.moved is None or intent.connected_at is None:
        return float("inf")
    return max(intent.moved.at, intent.connected_at) + config.rest_after_s


def _woken(intent: Intent, rest: Rest, seen: View, state: TunnelState, now: Clock) -> Intent:
    """The memory after looking at a tunnel at rest, which goes on while nothing speaks against it."""
    same = seen.spec is not None and (seen.spec.name, seen.spec.digest()) == (rest.tunnel, rest.digest)
    shaken = rest.path is not None and state.handshake_wall is not None  # the gateway itself has asked for it
    if same and rest.link == state.link.index and rest.tries == state.tries and not shaken and seen.grant is None:
        return intent
    # WireGuard is shaking hands already, and to ask again would throw away the packet that waits for it.
    itself = state.backend != IKE_BACKEND and rest.tries != state.tries and rest.path == seen.path
    provoked = Provoked(rest.path, now.boot) if itself and rest.path is not None else None
    return replace(intent, rest=None, provoked=provoked)


def _take_over(config: Config, intent: Intent, seen: View) -> Intent:
    """After the daemon before us died, go on resting where the same tunnel stands on the same path without a session;
    what was sent meanwhile wakes it.
    """
    rested, state, spec = intent.rested, seen.state, seen.spec
    if rested is None or intent.rest is not None or spec is None or state is None or not _may(config, spec):
        return intent
    if seen.path is None or seen.path.fingerprint() != rested.path or not (state.link.up and state.addresses):
        return intent
    return replace(intent, rest=Rest(spec.name, spec.digest(), state.link.index, rested.tries, seen.path))


def wanted(intent: Intent, path: Path | None) -> Path | None:
    """The path over which the session of a tunnel at rest is still to be given up, or None."""
    return path if intent.rest is not None and path != intent.rest.path else None


def performed(intent: Intent, action: EnsureTunnel) -> Intent:
    """The memory after the session was given up."""
    rest = replace(intent.rest, path=action.wish.path) if intent.rest is not None else None
    return replace(intent, rest=rest, provoked=None, heard=None, returned=None)


def moments(config: Config, intent: Intent, seen: View) -> Iterator[float]:
    """When time alone lets the tunnel rest (CLOCK_BOOTTIME)."""
    if intent.rest is None and seen.phase is Phase.CONNECTED and _may(config, seen.spec):
        yield _due(config, intent)


def rouse(intent: Intent, seen: View) -> Rouse | None:
    """What ends the rest; nobody can send anywhere without a network."""
    rest = intent.rest
    if rest is None or seen.state is None or seen.path is None:
        return None
    return Rouse(rest.link, rest.tries, IKE_LOOK_S if seen.state.backend == IKE_BACKEND else LOOK_S)


def problems(config: Config, seen: View) -> Iterator[Problem]:
    """Those that should rest, and cannot."""
    beside = {each.spec.name for each in seen.companions}
    for name in config.on_demand:
        spec = config.tunnel(name)
        if spec is not None and (why := restless(spec)):
            hint = f"take that out of it, or {name} out of [tunnel] on_demand"
            yield Problem("never-rests", Severity.WARNING, f"{name} does not rest: {why}", hint)
        elif name in beside:
            text = f"{name} does not rest: it stands beside, and only the tunnel that carries does"
            yield Problem("never-rests", Severity.INFO, text)
