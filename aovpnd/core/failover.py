# SPDX-License-Identifier: GPL-3.0-or-later
"""Several tunnels in a preferred order: when one is left for the next, and when the better one is gone back to.

* A tunnel that does not come up is left after a bounded time (`PATIENCE`), for the first of the order that is not
  waiting out its back-off, or, when all of them are, for the one that waits shortest. So when nothing answers they take
  turns, ever more slowly.
* While a tunnel carries that is not the best, the better ones are tried again when their back-off is over: their
  gateways are asked to shake hands on a link beside (`Trial`), and only one that answers is moved to.
* One whose gateway this network does not lead to, because it has only the other family, is left at once, and tried
  again when it does. One whose gateway has a name that nobody knows is not tried while another one carries: there is
  nobody to ask.
* A tunnel that was gone back to and fails again soon waits twice as long: nothing flaps faster than ever more slowly.

Another network is another chance: a gateway that was silent there may answer here, at once.
"""

import hashlib
from dataclasses import replace
from typing import Final

from aovpnd.clock import Clock
from aovpnd.core import health
from aovpnd.core.endpoints import known, place, turners
from aovpnd.core.view import View
from aovpnd.gateways import Gateways, Left, Path, Trial, Why
from aovpnd.ipsec import Lease, TunnelSpec
from aovpnd.model import Intent, Phase, TunnelState

PATIENCE: Final = (2, 3, 4, 5)
"""Attempts at a handshake, or look-ups of a name without any address, before a tunnel is left: 5 s of `RETRY_S` while
another one is believed to be well; when all have failed, 10, 20 and 40 s, by how often this one was left already.
"""
FIRST_BACKOFF_S, LAST_BACKOFF_S = 30.0, 3600.0
"""How long a tunnel that was left is let alone; doubled every time, give or take the jitter."""
JITTER: Final = 0.25
"""So that the laptops of an office do not all come back to a gateway in the same second."""
TRIAL_S: Final = 6.0
"""How long a trial may take: WireGuard asks twice in that time."""
WAYLESS_S: Final = 5.0
"""How long a network may take to get the family that a gateway needs: a router advertisement comes after the lease."""
STABLE_S: Final = 600.0
"""A tunnel that has carried for so long since it came back has a clean record again."""


def settle(gateways: Gateways, intent: Intent, seen: View, clock: Clock) -> Gateways:
    """What looking at the world changes: which tunnel carries, and which is on trial."""
    now = clock.boot
    if seen.spec is None:
        return replace(gateways, carrier=None, left=(), trial=None)
    if intent.rest is not None:
        return replace(gateways, trial=None, wayless_at=None)  # nobody asks, so nobody is silent
    gateways = _ways(_forget(gateways, seen, now), seen, now)
    if _is_nameless(intent, seen, _patience(gateways, seen, seen.spec)):
        return leave(replace(gateways, trial=None), seen, Why.NAMELESS, now)
    if is_wayless(gateways, now):
        return leave(replace(gateways, trial=None), seen, Why.NO_WAY, now)
    if seen.path is None or seen.state is None or seen.phase is Phase.UNBLOCKED:
        return replace(gateways, trial=None)
    gateways = _on_this_network(gateways, seen.path, now)
    if health.is_dead_end(intent) or _has_relapsed(gateways, intent, seen.spec):
        gateways = leave(gateways, seen, Why.DEAD_EXIT, now)
    elif seen.phase is Phase.CONNECTED:
        gateways = _better(gateways, seen, now)
    if seen.phase is Phase.CONNECTED or gateways.carrier not in {None, seen.spec.name}:
        return gateways
    gateways = replace(gateways, trial=None)
    if _waits(gateways, intent, seen, now):
        return leave(gateways, seen, Why.UNSIGNED, now)
    if in_vain(intent, seen.spec, seen.path, _patience(gateways, seen, seen.spec), now):
        return leave(gateways, seen, _why(intent, seen, clock), now)
    return gateways


def _waits(gateways: Gateways, intent: Intent, seen: View, now: float) -> bool:
    """Whether nothing is tried before somebody signs in, and another tunnel can be; of several that wait none is
    hurried to.
    """
    said, provoked = seen.state.said if seen.state is not None else None, intent.provoked
    if seen.spec is None or said is None or not said.waits or provoked is None or provoked.path != seen.path:
        return False
    return any(_retry_at(gateways, name) <= now for name in _others(seen, seen.spec))


def _why(intent: Intent, seen: View, clock: Clock) -> Why:
    return Why.UNSENT if health.sends_nothing(intent, seen.state, clock) else Why.SILENT


def must_prove(gateways: Gateways, intent: Intent, seen: View) -> bool:
    """Whether a tunnel that was left because it led nowhere carries again, and nothing has yet come back through it."""
    entry = gateways.entry(seen.spec.name) if seen.spec is not None else None
    if entry is None or not _on_probation(entry) or seen.phase is not Phase.CONNECTED:
        return False
    has_returned = intent.data_at is not None and intent.data_at > (entry.back_at or 0.0)
    return health.doubt_of(intent) is None and not has_returned


def _has_relapsed(gateways: Gateways, intent: Intent, spec: TunnelSpec) -> bool:
    """One that came back from leading nowhere gets no second probe."""
    entry, doubt = gateways.entry(spec.name), health.doubt_of(intent)
    return entry is not None and _on_probation(entry) and doubt is not None and doubt.unanswered > 0


def _on_probation(entry: Left) -> bool:
    return entry.back_at is not None and entry.why is Why.DEAD_EXIT


def _patience(gateways: Gateways, seen: View, spec: TunnelSpec) -> int:
    """How many attempts a gateway has."""
    others = (gateways.entry(name) for name in _others(seen, spec))
    if any(entry is None or entry.back_at is not None for entry in others):
        return PATIENCE[0]
    entry = gateways.entry(spec.name)
    return PATIENCE[min(entry.times if entry is not None else 0, len(PATIENCE) - 1)]


def in_vain(intent: Intent, spec: TunnelSpec, path: Path, patience: int, now: float) -> bool:
    """Whether the gateway has had its time to answer over this path; one with a name, at several addresses in turn, and
    so have several gateways of one tunnel.
    """
    provoked = intent.provoked
    if provoked is None or (provoked.path.tunnel, provoked.path.networks) != (path.tunnel, path.networks):
        return False
    turns = max((known(intent.hosts, name).turns for name in turners(spec)), default=0)
    if provoked.path != path:  # the next address has its turn: all before have had their time
        return turns >= patience
    return max(provoked.attempts, turns) >= patience and now >= health.retry_at(intent)


def _is_nameless(intent: Intent, seen: View, patience: int) -> bool:
    """Whether there is nowhere to shake hands, and names were looked up in vain as often as handshakes are tried."""
    if seen.spec is None or seen.spec.endpoints or not seen.uplinks or seen.phase is Phase.UNBLOCKED:
        return False
    hosts = [known(intent.hosts, name) for name in seen.spec.hosts]
    return bool(hosts) and all(host.attempts >= patience for host in hosts)


def leave(gateways: Gateways, seen: View, why: Why, now: float) -> Gateways:
    """Go on with the next tunnel of the order; nothing changes where there is no other."""
    others = _others(seen, seen.spec) if seen.spec is not None else []
    if not others or seen.spec is None:
        return gateways
    ready = [name for name in others if _retry_at(gateways, name) <= now]
    if not ready and why is Why.DEAD_EXIT:
        return gateways  # a gateway that answers is no worse than one that is known to be no better
    gateways = _fail(gateways, seen.spec, why, tuple(map(place, seen.uplinks)), now)
    carrier = ready[0] if ready else min(others, key=lambda name: _retry_at(gateways, name))
    return replace(_came_back(gateways, carrier, now), carrier=carrier, trial=None)


def _others(seen: View, spec: TunnelSpec) -> list[str]:
    """The tunnels of the order beside ``spec`` that this network leads to, as far as is known."""
    return [other.name for other in seen.order if other.name != spec.name and other.name not in seen.wayless]


def _fail(gateways: Gateways, spec: TunnelSpec, why: Why, networks: tuple[str, ...], now: float) -> Gateways:
    before = gateways.entry(spec.name)
    times = 1 if before is None else before.times + 1
    retry_at = now + backoff(spec.name, times, gateways.seed)
    entry = Left(spec.name, why, now, retry_at, times, networks)
    return _with(gateways, entry)


def backoff(tunnel: str, times: int, seed: int) -> float:
    """Seconds until a tunnel that was left so often in a row is tried again."""
    digest = hashlib.blake2b(f"{seed} {tunnel} {times}".encode(), digest_size=4).digest()
    share = int.from_bytes(digest) / 2**32  # 0 to 1, the same for the same arguments
    span = min(FIRST_BACKOFF_S * 2.0 ** min(times - 1, 16), LAST_BACKOFF_S)
    return span * (1.0 - JITTER + 2.0 * JITTER * share)


def _retry_at(gateways: Gateways, tunnel: str) -> float:
    entry = gateways.entry(tunnel)
    return entry.retry_at if entry is not None and entry.back_at is None else 0.0


def _came_back(gateways: Gateways, tunnel: str, now: float) -> Gateways:
    """A tunnel carries again: its record stays until it has shown that it lasts."""
    entry = gateways.entry(tunnel)
    return gateways if entry is None else _with(gateways, replace(entry, back_at=now))


def _with(gateways: Gateways, entry: Left) -> Gateways:
    kept = tuple(left for left in gateways.left if left.tunnel != entry.tunnel)
    return replace(gateways, left=(*kept, entry))


# -- while another one carries -----------------------------------------------------------------------------------------
def _better(gateways: Gateways, seen: View, now: float) -> Gateways:
    """Begin, end or win a trial; the tunnel that carries goes on meanwhile."""
    trial, beside = gateways.trial, seen.trial
    if trial is not None and beside is not None:
        if beside.state is not None and _has_answered(beside.state):
            return replace(_came_back(gateways, trial.tunnel, now), carrier=trial.tunnel, trial=None)
        if now - trial.began < TRIAL_S:
            return gateways
        entry, sent = gateways.entry(trial.tunnel), beside.state is not None and beside.state.tx_bytes > 0
        dead = entry is not None and entry.why is Why.DEAD_EXIT
        why = Why.DEAD_EXIT if dead else Why.SILENT if sent or beside.state is None else Why.UNSENT
        return replace(_fail(gateways, beside.spec, why, tuple(map(place, seen.uplinks)), now), trial=None)
    better = [name for name in _before(seen) if _retry_at(gateways, name) <= now]
    return replace(gateways, trial=Trial(better[0], now) if better else None)


def _has_answered(state: TunnelState) -> bool:
    """Whether the gateway has shown who it is. One of IKE has before it gives anything; a handshake there is none here,
    where its addresses are on no link.
    """
    given = state.given is not None and state.given.lease is Lease.HELD
    return state.handshake_wall is not None or given


def _before(seen: View) -> list[str]:
    """The tunnels that are preferred to the one that carries, and whose gateways can be asked."""
    names = [spec.name for spec in seen.order]
    better = names[: names.index(seen.spec.name)] if seen.spec is not None else []
    return [name for name in better if name not in seen.nameless | seen.wayless]


def is_wayless(gateways: Gateways, now: float) -> bool:
    """Whether this network has led nowhere near the carrier's gateway for so long that it is worth a word: router
    advertisements and leases come one after the other.
    """
    return gateways.wayless_at is not None and now - gateways.wayless_at >= WAYLESS_S


def next_look(gateways: Gateways, seen: View, now: float) -> tuple[float, ...]:
    """The moments at which time alone would change something here (CLOCK_BOOTTIME)."""
    if gateways.wayless_at is not None:
        return (gateways.wayless_at + WAYLESS_S,)
    if seen.phase is not Phase.CONNECTED:
        return ()
    if gateways.trial is not None:
        soon = now + min(max((now - gateways.trial.began) / 4, health.FIRST_LOOK_S), health.LAST_LOOK_S)
        return (min(soon, gateways.trial.began + TRIAL_S),)
    if any(_retry_at(gateways, name) <= now for name in _before(seen)):
        return (now + health.FIRST_LOOK_S,)  # somebody has just asked for the better one
    return tuple(_retry_at(gateways, spec.name) for spec in seen.order)


# -- what is forgotten -------------------------------------------------------------------------------------------------
def _forget(gateways: Gateways, seen: View, now: float) -> Gateways:
    """What no longer matters: tunnels that are not of the order, and records of those that have lasted."""
    names = {spec.name for spec in seen.order}
    kept = tuple(
        left
        for left in gateways.left
        if left.tunnel in names and not (left.back_at is not None and now - left.back_at >= STABLE_S)
    )
    carrier = gateways.carrier if gateways.carrier in names else None
    gateways = replace(gateways, carrier=carrier, left=kept)
    # One may carry again because the file of the one that carried instead is gone.
    entry = gateways.entry(seen.spec.name) if seen.spec is not None else None
    return _with(gateways, replace(entry, back_at=now)) if entry is not None and entry.back_at is None else gateways


def _ways(gateways: Gateways, seen: View, now: float) -> Gateways:
    """Since when this network does not lead to the gateway of the carrier; and those that it leads to once more."""
    wayless = seen.spec is not None and seen.spec.name in seen.wayless and seen.phase is not Phase.UNBLOCKED
    since = None if not wayless else now if gateways.wayless_at is None else gateways.wayless_at
    # The first time at once; a family that comes and goes is waited for as long as a gateway that does.
    left = tuple(
        replace(entry, retry_at=min(entry.retry_at, now))
        if entry.why is Why.NO_WAY and entry.times == 1 and entry.tunnel not in seen.wayless
        else entry
        for entry in gateways.left
    )
    return replace(gateways, wayless_at=since, left=left)


def _on_this_network(gateways: Gateways, path: Path, now: float) -> Gateways:
    """On another network, those that were silent on the last one may be tried again at once."""
    return replace(
        gateways,
        left=tuple(
            replace(left, retry_at=min(left.retry_at, now), times=1, networks=path.networks)
            if left.why is not Why.DEAD_EXIT and left.networks != path.networks
            else left
            for left in gateways.left
        ),
    )
