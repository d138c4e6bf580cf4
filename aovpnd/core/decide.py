# SPDX-License-Identifier: GPL-3.0-or-later
"""``decide(config, intent, snapshot) -> Desired``: what should be, whole, from facts alone.

Start reading here. Nothing in this file does anything; `plan.diff` says what to do about the answer, and the loop does
it. What is read off the world is in `view`, what may pass in `permits` and `firewall`, where it goes in `routing`.
"""

from typing import Final

from aovpnd.core import firewall, health, uplinks
from aovpnd.core.permits import Facts, HostOnly, Lan, Permit, TemporaryAccess, Tunnel, permits
from aovpnd.core.problems import problems
from aovpnd.core.routing import lans, routing
from aovpnd.core.view import View, view
from aovpnd.model import Config, Desired, GuardState, Intent, LinkWish, Phase, Snapshot, TunnelWish
from aovpnd.ruleset import Device

GUARD_LOOK_S: Final = 0.5
"""How soon to look whether a guard that is starting holds its tables."""
GRANT_LOOK_S: Final = 2.0
"""How often to look at the clock while a window is open: the loop's own timer, and the kernel's on the set element,
stand still in suspend, so that a lid closed in a window would otherwise open on what is left of it.
"""


def decide(config: Config, intent: Intent, snapshot: Snapshot) -> Desired:
    """What should be. The same arguments give the same answer."""
    now = view(config, intent, snapshot)
    if now.phase is Phase.UNBLOCKED:
        return Desired(now.phase, None, None, guard=GuardState.MISSING, unblocked=True, uplinks=now.uplinks)
    return Desired(
        phase=now.phase,
        ruleset=firewall.compile(permits(now.phase, _facts(config, snapshot, now))),
        routing=routing(config, snapshot, now),
        tunnels=_tunnels(intent, snapshot, now),
        uplinks=now.uplinks,
        problems=problems(config, intent, snapshot, now.phase, now.spec),
        wake_at=_wake_at(intent, snapshot, now),
    )


def permitted(config: Config, intent: Intent, snapshot: Snapshot) -> tuple[Permit, ...]:
    """The permits that `decide` compiles; none while unblocked, when there is no table."""
    now = view(config, intent, snapshot)
    return permits(now.phase, _facts(config, snapshot, now)) if now.phase is not Phase.UNBLOCKED else ()


def _facts(config: Config, snapshot: Snapshot, now: View) -> Facts:
    access = None
    if now.grant is not None:
        device = Device(now.grant.link, now.grant.link_name)
        gateways = next(uplink.gateways for uplink in now.uplinks if uplink.link.index == now.grant.link)
        access = TemporaryAccess(device, snapshot.resolvers or gateways, now.grant.granted_at, now.grant.expires_at)
    tunnel = None
    if now.state is not None:
        link = now.state.link
        tunnel = Tunnel(Device(link.index, link.name, link.kind), tuple(i.ip for i in now.state.addresses))
    return Facts(
        endpoints=tuple(dict.fromkeys(now.spec.endpoints)) if now.spec is not None else (),
        tunnel=tunnel,
        access=access,
        neighbours=uplinks.on_link_gateways(now.uplinks),
        host_only=tuple(HostOnly(Device(link.index, link.name)) for link in uplinks.host_only(snapshot)),
        lan=tuple(Lan(Device(u.link.index, u.link.name), prefixes) for u, prefixes in lans(config, now)),
    )


def _tunnels(intent: Intent, snapshot: Snapshot, now: View) -> tuple[TunnelWish, ...]:
    """Created down; set up in the pass in which the ruleset already names its link."""
    if now.spec is None:
        return ()
    if now.state is None or now.sealed:
        return (TunnelWish(now.spec, now.link_name, LinkWish.DOWN),)
    shakes = now.state.link.up and health.must_provoke(intent, now.state, now.path, snapshot.now)
    return (TunnelWish(now.spec, now.link_name, LinkWish.UP, now.path if shakes else None),)


def _wake_at(intent: Intent, snapshot: Snapshot, now: View) -> float | None:
    """The next moment at which time alone would change the answer."""
    moments = [failure.retry_at for failure in intent.failures]
    if snapshot.guard is not GuardState.HELD:
        moments.append(snapshot.now.boot + GUARD_LOOK_S)
    if now.grant is not None:
        moments += [now.grant.expires_at, snapshot.now.boot + GRANT_LOOK_S]
    if now.state is not None and now.path is not None:
        moments.append(health.next_look(intent, now.state, now.path, snapshot.now))
    return min((moment for moment in moments if moment > snapshot.now.boot), default=None)
