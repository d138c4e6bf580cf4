# SPDX-License-Identifier: GPL-3.0-or-later
"""``diff(desired, snapshot) -> actions``: what to do about it, in the one order that is safe.

The lock moves first, both ways: LoadRuleset, EnsureCopies, RemoveTunnel, EnsureTunnel, EnsureRouting, CloseSockets,
EnsureGuard, MarkUnblocked (before all of them when the block comes back), KeepConfirmation (before the lock when the
block may undo itself), EnsureDns. A crash after any prefix leaves a
state that the loaded ruleset already covers. Names come last: no packet depends on them, and nothing may wait for them.
"""

from ipaddress import IPv4Interface
from typing import Final, assert_never

from aovpnd.confirmation import Standing
from aovpnd.core.view import is_configured
from aovpnd.gateways import Role
from aovpnd.ipsec import IPsec, TunnelSpec
from aovpnd.model import Block, Copies, Desired, GuardState, LinkWish, Snapshot, TunnelState, TunnelWish
from aovpnd.orders import (
    Action,
    CloseSockets,
    EnsureCopies,
    EnsureDns,
    EnsureGuard,
    EnsureRouting,
    EnsureTunnel,
    KeepConfirmation,
    LoadRuleset,
    MarkUnblocked,
    RemoveTunnel,
)
from aovpnd.repairs import Failure
from aovpnd.resting import Queue, Shake
from aovpnd.tunnel import WireGuard

FIRST_RETRY_S, LAST_RETRY_S = 0.2, 30.0
LOAD_RETRY_S: Final = 2.0
"""A ruleset that failed to load is tried again soon, whatever happens."""


def diff(desired: Desired, snapshot: Snapshot) -> tuple[Action, ...]:
    """The actions that turn ``snapshot`` into ``desired``; empty when there is nothing to do."""
    actions: list[Action] = []
    if snapshot.unblocked and not desired.unblocked:
        # First when tightening: a crash right behind it comes back blocked. Last when loosening, for the same reason.
        actions.append(MarkUnblocked(Block.ON))
    if desired.confirmation != snapshot.confirmation and desired.confirmation.standing is Standing.AWAITED:
        # Before the lock, so that a crash right behind it does not leave it shut for ever.
        actions.append(KeepConfirmation(desired.confirmation))
    if desired.ruleset != snapshot.ruleset or snapshot.table_present is not (desired.ruleset is not None):
        actions.append(LoadRuleset(desired.ruleset, _why(desired, snapshot)))
    copies = _copies(desired, snapshot)
    if snapshot.copies is not (Copies.ABSENT if copies.links is None else Copies.CURRENT) or (
        snapshot.unannounced != copies.unannounced
    ):
        actions.append(copies)
    wished = {wish.link_name for wish in desired.tunnels}
    actions += [RemoveTunnel(state.link) for state in snapshot.tunnels if state.link.name not in wished]
    states = {state.link.name: state for state in snapshot.tunnels}
    actions += [
        EnsureTunnel(wish, reason)
        for wish in desired.tunnels
        if (reason := _tunnel_differs(wish, states.get(wish.link_name), snapshot))
    ]
    if desired.routing != (snapshot.routing if desired.routing is not None else None) or _leftover(desired, snapshot):
        actions.append(EnsureRouting(desired.routing))
    if desired.sweep is not None:
        actions.append(CloseSockets(desired.sweep))  # behind routing: what a program opens next finds the tunnel
    if _guard_differs(desired.guard, snapshot.guard):
        actions.append(EnsureGuard(desired.guard))
    if desired.unblocked and not snapshot.unblocked:
        actions.append(MarkUnblocked(Block.OFF))
    if desired.confirmation != snapshot.confirmation and desired.confirmation.standing is not Standing.AWAITED:
        actions.append(KeepConfirmation(desired.confirmation))
    if desired.dns != snapshot.dns.dns or snapshot.dns.astray:
        actions.append(EnsureDns(desired.dns, snapshot.dns.astray))
    return tuple(actions)


def _copies(desired: Desired, snapshot: Snapshot) -> EnsureCopies:
    """Those that there should be. An address is kept out of ARP before its link gets it, and for as long as it has
    it.
    """
    if desired.guard is not GuardState.HELD:
        return EnsureCopies(None)
    shall = (interface for wish in desired.tunnels for interface in wish.spec.addresses)
    have = (interface for state in snapshot.tunnels for interface in state.addresses)
    own = {interface.ip for interface in (*shall, *have) if isinstance(interface, IPv4Interface)}
    return EnsureCopies(snapshot.links, tuple(sorted(own)))


def _why(desired: Desired, snapshot: Snapshot) -> str:
    if not snapshot.table_present:
        return f"{desired.phase}; there was none"
    if snapshot.culprit is not None:
        return f"{desired.phase}; {snapshot.culprit} changed it"
    return str(desired.phase)


def _leftover(desired: Desired, snapshot: Snapshot) -> bool:
    """Whether rules or routes of ours stand although none should; sysctls are left as they are."""
    return desired.routing is None and bool(snapshot.routing.rules or snapshot.routing.routes or snapshot.routing.shut)


def _guard_differs(wanted: GuardState, state: GuardState) -> bool:
    """A guard that is starting needs no second start, and one that must go is stopped also then."""
    return state is GuardState.MISSING if wanted is GuardState.HELD else state is not GuardState.MISSING


def _tunnel_differs(wish: TunnelWish, state: TunnelState | None, snapshot: Snapshot) -> str:
    """Why the link is not as wished, or nothing."""
    if state is None:
        return "create"
    if not is_configured(wish.spec, state, snapshot):
        return "configure"
    if state.link.up is not (wish.state is LinkWish.UP):
        return f"set {wish.state}"
    if wish.path is not None:
        return "new handshake" if wish.shake is Shake.NOW else "rest"
    if state.queue is Queue.HELD and state.handshake_wall is not None:
        return "let go what waited"
    if state.link.mtu != wish.mtu:
        return f"MTU {wish.mtu} instead of {state.link.mtu}"
    return "endpoint was moved" if _has_strayed(wish.spec, state) else ""


def _has_strayed(spec: TunnelSpec, state: TunnelState) -> bool:
    """Whether a peer is elsewhere than its tunnel says; one that never had an address is nowhere."""
    match spec:
        case WireGuard():
            endpoints = {peer.public_key: peer.endpoint for peer in spec.peers if peer.endpoint is not None}
            return any(peer.endpoint != endpoints.get(peer.public_key, peer.endpoint) for peer in state.peers)
        case IPsec():
            return spec.endpoint is not None and any(peer.endpoint != spec.endpoint for peer in state.peers)
        case _:
            assert_never(spec)


def due(actions: tuple[Action, ...], failures: tuple[Failure, ...], now: float) -> tuple[Action, ...]:
    """Those actions that may be performed now: what failed waits for its time, and while the ruleset waits nothing may
    loosen.
    """
    waiting = {failure.action for failure in failures if now < failure.retry_at}
    unlocked = any(isinstance(action, LoadRuleset) for action in actions) and LoadRuleset.__name__ in waiting
    return tuple(
        action for action in actions if (not unlocked or _only_tightens(action)) and name_of(action) not in waiting
    )


def _only_tightens(action: Action) -> bool:
    match action:
        case RemoveTunnel() | CloseSockets():
            return True
        case KeepConfirmation(confirmation):
            return confirmation.standing is not Standing.NEVER
        case EnsureTunnel(wish):
            return wish.state is LinkWish.DOWN
        case EnsureRouting(routing):
            return routing is not None and any(route.link is None for route in routing.routes)
        case EnsureCopies(links):
            return links is not None
        case EnsureGuard(state):
            return state is GuardState.HELD
        case MarkUnblocked(block):
            return block is Block.ON
        case LoadRuleset() | EnsureDns():
            return False
        case _:
            assert_never(action)


def is_vital(action: Action) -> bool:
    """Whether nothing behind an action that failed may go on, and no command was carried out. Programs that notice late
    and a file that is not written are a problem, and no more; nor is a tunnel beside the one that carries.
    """
    if isinstance(action, EnsureTunnel):
        return action.wish.role is Role.CARRIES
    return not isinstance(action, CloseSockets | EnsureDns | KeepConfirmation)


def name_of(action: Action) -> str:
    """Under which name it is remembered that an action failed. Tunnels beside the one that carries have their own: it
    does not wait for them.
    """
    kind = type(action).__name__
    beside = isinstance(action, EnsureTunnel) and action.wish.role is not Role.CARRIES
    return f"{kind} {action.wish.spec.name}" if beside and isinstance(action, EnsureTunnel) else kind


def failed(failures: tuple[Failure, ...], action: Action, now: float, text: str, hint: str) -> tuple[Failure, ...]:
    """The failures after ``action`` failed once more at ``now``."""
    name = name_of(action)
    attempts = 1 + next((failure.attempts for failure in failures if failure.action == name), 0)
    last = LOAD_RETRY_S if isinstance(action, LoadRuleset) else LAST_RETRY_S
    retry_at = now + min(FIRST_RETRY_S * 2 ** min(attempts - 1, 16), last)
    return (*succeeded(failures, action), Failure(name, attempts, retry_at, text, hint))


def succeeded(failures: tuple[Failure, ...], action: Action) -> tuple[Failure, ...]:
    """The failures after ``action`` succeeded."""
    return tuple(failure for failure in failures if failure.action != name_of(action))
