# SPDX-License-Identifier: GPL-3.0-or-later
"""``decide(config, intent, snapshot) -> Desired``: what should be, whole, from facts alone.

Start reading here. Nothing in this file does anything; `plan.diff` says what to do about the answer, and the loop does
it. What is read off the world is in `view`, what may pass in `permits` and `firewall`, where it goes in `routing`.
"""

from dataclasses import replace
from typing import Final

from aovpnd.core import (
    browser,
    companions,
    confirming,
    dns,
    failover,
    fights,
    filtering,
    firewall,
    health,
    lookups,
    mtu,
    rest,
    sockets,
)
from aovpnd.core.facts import facts
from aovpnd.core.permits import Permit, permits
from aovpnd.core.problems import problems
from aovpnd.core.routing import routing
from aovpnd.core.view import View, view
from aovpnd.gateways import Role
from aovpnd.inquiries import Inquiry, ProbeTunnel
from aovpnd.model import Config, Desired, GuardState, Intent, LinkWish, Phase, Snapshot, TunnelWish
from aovpnd.resting import Shake

GUARD_LOOK_S: Final = 0.5
"""How soon to look whether a guard that is starting holds its tables."""


def decide(config: Config, intent: Intent, snapshot: Snapshot) -> Desired:
    """What should be. The same arguments give the same answer."""
    now = view(config, intent, snapshot)
    if now.phase is Phase.UNBLOCKED:
        return Desired(
            phase=now.phase,
            ruleset=None,
            routing=None,
            guard=GuardState.MISSING,
            unblocked=True,
            confirmation=intent.confirmation,
            uplinks=now.uplinks,
            problems=tuple(confirming.problems(intent)),
            wake_at=_next(snapshot, [failure.retry_at for failure in intent.failures]),
        )
    return Desired(
        phase=now.phase,
        ruleset=firewall.compile(permits(now.phase, facts(config, intent, snapshot, now))),
        routing=routing(config, snapshot, now),
        tunnels=(*_tunnels(intent, snapshot, now), *companions.wishes(intent, snapshot, now)),
        sweep=sockets.sweep(config, intent, snapshot, now),
        dns=dns.dns(snapshot, now),
        confirmation=intent.confirmation,
        uplinks=now.uplinks,
        order=tuple(spec.name for spec in now.order),
        inquiries=(
            *_look_ups(now),
            *_probes(config, intent, snapshot, now),
            *_measurements(config, intent, snapshot, now),
            *_visits(config, intent, snapshot, now),
        ),
        problems=problems(config, intent, snapshot, now),
        wake_at=_wake_at(config, intent, snapshot, now),
        rouse=rest.rouse(intent, now),
    )


def permitted(config: Config, intent: Intent, snapshot: Snapshot) -> tuple[Permit, ...]:
    """The permits that `decide` compiles; none while unblocked, when there is no table."""
    now = view(config, intent, snapshot)
    return permits(now.phase, facts(config, intent, snapshot, now)) if now.phase is not Phase.UNBLOCKED else ()


def _look_ups(now: View) -> tuple[Inquiry, ...]:
    """The look-up that runs, which has its permit."""
    return (now.look_up.inquiry,) if now.look_up is not None else ()


def _probes(config: Config, intent: Intent, snapshot: Snapshot, now: View) -> tuple[Inquiry, ...]:
    """The probe through the tunnel, while what is seen of it leaves a doubt."""
    if now.spec is None or now.state is None or now.path is None or now.phase is Phase.RESTING:
        return ()
    if browser.explains(config, intent, now, snapshot.now):
        return ()
    in_doubt = health.must_probe(intent, now.state, now.path, snapshot.now)
    if not in_doubt and not failover.must_prove(intent.gateways, intent, now):
        return ()
    targets = tuple(target for target in config.probe if filtering.may_ask(now.spec, now.filters, target))
    resolvers = () if targets else tuple(a for a in now.spec.dns if filtering.may_ask(now.spec, now.filters, a))
    if not targets and not resolvers:
        return ()
    link = now.state.link
    return (ProbeTunnel(link.index, link.name, now.path.fingerprint(), targets, resolvers),)


def _measurements(config: Config, intent: Intent, snapshot: Snapshot, now: View) -> tuple[Inquiry, ...]:
    """What the path carries, when that is due."""
    if now.phase is not Phase.CONNECTED or now.spec is None or now.state is None or now.path is None:
        return ()
    measure = mtu.inquiry(config, intent, snapshot, now.spec, now.state, now.path)
    return (measure,) if measure is not None else ()


def _visits(config: Config, intent: Intent, snapshot: Snapshot, now: View) -> tuple[Inquiry, ...]:
    """The page that says whether somebody has to sign in with a browser, when that is due."""
    visit = browser.inquiry(config, intent, now, snapshot.now)
    return (visit,) if visit is not None else ()


def _tunnels(intent: Intent, snapshot: Snapshot, now: View) -> tuple[TunnelWish, ...]:
    """Created down; set up in the pass in which the ruleset already names its link."""
    if now.spec is None:
        return ()
    size = mtu.fit(now.spec, intent, snapshot, now.state, now.path).link
    if now.state is None or now.sealed:
        return (TunnelWish(now.spec, now.link_name, LinkWish.DOWN, mtu=size),)
    wish = TunnelWish(now.spec, now.link_name, LinkWish.UP, mtu=size)
    if intent.rest is not None:
        path = rest.wanted(intent, now.path) if now.state.link.up else None
        wish = replace(wish, path=path, shake=Shake.WANTED) if path is not None else wish
    elif now.state.link.up and health.must_provoke(intent, now.state, now.path, snapshot.now):
        wish = replace(wish, path=now.path)
    return (wish, *_beside(intent, snapshot, now))


def _beside(intent: Intent, snapshot: Snapshot, now: View) -> tuple[TunnelWish, ...]:
    """The link of the tunnel on trial: made down, and shaken once as it is set up."""
    if now.trial is None:
        return ()
    size = mtu.fit(now.trial.spec, intent, snapshot, now.trial.state, None).link
    if now.trial.state is None:
        return (TunnelWish(now.trial.spec, now.trial.link_name, LinkWish.DOWN, None, size, Role.TRIAL),)
    path = None if now.trial.state.link.up else now.trial.path
    return (TunnelWish(now.trial.spec, now.trial.link_name, LinkWish.UP, path, size, Role.TRIAL),)


def _wake_at(config: Config, intent: Intent, snapshot: Snapshot, now: View) -> float | None:
    """The next moment at which time alone would change the answer."""
    moments = [*(failure.retry_at for failure in intent.failures), *fights.moments(intent), *confirming.moments(intent)]
    if snapshot.guard is not GuardState.HELD:
        moments.append(snapshot.now.boot + GUARD_LOOK_S)
    if now.grant is not None:
        moments.append(now.grant.expires_at)
    if now.spec is not None:
        moments += failover.next_look(intent.gateways, now, snapshot.now.boot)
    if now.state is not None and now.path is not None and intent.rest is None:
        moments.append(health.next_look(intent, now.state, now.path, snapshot.now))
        look = mtu.next_look(intent, now.path, snapshot.now)
        moments += [look] if look is not None else []
    moments += rest.moments(config, intent, now)
    moments += browser.moments(intent)
    moments += companions.moments(intent, now, snapshot.now)
    asking = companions.asking(config, intent, now, snapshot.now)
    if asking is not None:
        spec, reach = asking
        moments += lookups.next_look(spec, intent, reach, now.uplinks, config.endpoint)
    return _next(snapshot, moments)


def _next(snapshot: Snapshot, moments: list[float]) -> float | None:
    return min((moment for moment in moments if moment > snapshot.now.boot), default=None)
