# SPDX-License-Identifier: GPL-3.0-or-later
"""``document(config, intent, snapshot, desired) -> dict``: what is published in RUNTIME/status.json. Pure.

The document has the stable keys of docs/man/aovpnctl.8.md, schema 1: times in RFC 3339 UTC, spans in seconds, bytes as
integers, unknown as null. Keys that begin with an underscore are for the reader (`aovpnctl status`) alone, which
computes from them what would be stale in a file, such as the time left. So nothing is written while nothing happens.
"""

import math
from datetime import UTC, datetime
from typing import Final

from aovpnd import __version__
from aovpnd.clock import Clock
from aovpnd.confirmation import Standing
from aovpnd.ipsec import TunnelSpec, backend_of
from aovpnd.links import uplink_kind
from aovpnd.model import (
    Config,
    Desired,
    GuardState,
    Intent,
    Phase,
    Problem,
    Snapshot,
    TunnelState,
    TunnelWish,
    Uplink,
)

SCHEMA: Final = 1
SCOPE: Final = "machine"
"""What a grant of this version opens: the whole machine."""
POLICY_DIR: Final = "/policy.d/"
"""A value that comes from a file below is mandatory: the administrator manages this machine."""
OPEN: Final = frozenset({Phase.TEMPORARY_ACCESS, Phase.UNBLOCKED})
"""The phases in which programs may reach the network in clear."""

_YEAR_9999: Final = 253402300799
"""The last second that RFC 3339 can write."""

Document = dict[str, object]


def document(config: Config, intent: Intent, snapshot: Snapshot, desired: Desired) -> Document:
    """What is, for people and programs. ``snapshot`` is the one in which ``desired`` was found to need nothing more.

    ``protected`` says: our ruleset is loaded, was read back as it should be, and opens nothing.
    """
    loaded = desired.ruleset is not None and snapshot.ruleset == desired.ruleset
    return {
        "schema": SCHEMA,
        "protected": loaded and desired.phase not in OPEN,
        "phase": desired.phase.value,
        "uplinks": [_uplink(uplink, intent) for uplink in desired.uplinks],
        "tunnels": [_tunnel(spec, _users(config, spec), intent, snapshot, desired) for spec in config.tunnels],
        "temporary_access": _temporary_access(intent, snapshot.now, desired.phase),
        "block": {
            "guarded": snapshot.guard is GuardState.HELD,
            "managed_by": managed_by(config),
            "user_may_unblock": False,  # taking the block off is for administrators alone
            "confirmed": intent.confirmation.standing in {Standing.GIVEN, Standing.NEEDLESS},
            "undone_in_s": _undone_in(intent, snapshot.now),
            "_undone_boot": intent.confirmation.until if _is_awaited(intent) else None,
        },
        "dns": _dns(desired, snapshot),
        "problems": [_problem(problem, snapshot.now) for problem in desired.problems],
        "version": __version__,
    }


def _problem(problem: Problem, now: Clock) -> Document:
    said: Document = {
        "code": problem.code,
        "severity": problem.severity.value,
        "text": problem.text,
        "hint": problem.hint,
    }
    said |= {} if problem.until is None else {"_until_boot": problem.until}
    return said if problem.at is None else {**said, "_at_wall": round(now.wall_at(problem.at))}


def _is_awaited(intent: Intent) -> bool:
    return intent.confirmation.standing is Standing.AWAITED


def _undone_in(intent: Intent, now: Clock) -> int | None:
    return _left(intent.confirmation.until, now) if _is_awaited(intent) else None


def managed_by(config: Config) -> str | None:
    """The first file of mandatory policy that set anything, or None."""
    return next((origin.file for origin in config.origins if POLICY_DIR in origin.file), None)


# -- uplinks ----------------------------------------------------------------------------------------------------------
def _uplink(uplink: Uplink, intent: Intent) -> Document:
    return {
        "name": intent.network_name(uplink.link.name),
        "link": uplink.link.name,
        "kind": uplink_kind(uplink.link),
        "trusted": False,  # this version trusts no network
        "portal": None,  # and looks for no portal
    }


# -- tunnels ----------------------------------------------------------------------------------------------------------
def _users(config: Config, spec: TunnelSpec) -> list[str]:
    """Those who have it to themselves, and no other."""
    return [user.name for user in config.users if user.only == spec.name and spec.name not in config.companions]


def _tunnel(spec: TunnelSpec, users: list[str], intent: Intent, snapshot: Snapshot, desired: Desired) -> Document:
    beside = next((known for known in intent.companions if known.tunnel == spec.name), None)
    # The tunnel that carries comes first, where there is one.
    wishes = desired.tunnels[:1] if beside is None else desired.tunnels
    wish = next((wish for wish in wishes if wish.spec.name == spec.name), None)
    state = _state(wish, snapshot)
    memory = beside if beside is not None else intent
    at = memory.connected_at if wish is not None else None
    return {
        "name": spec.name,
        "backend": state.backend if state is not None else backend_of(spec),
        "users": users,
        "role": "companion" if beside is not None else _role(spec, wish, intent, desired),
        "link": state.link.name if state is not None else None,
        "state": _standing(wish, desired.phase if beside is None else None) if at is None else "connected",
        "endpoint": _endpoint(spec if wish is None else wish.spec, state),
        "since": None if at is None else rfc3339(snapshot.now.wall_at(at)),
        "last_handshake": rfc3339(state.handshake_wall) if state is not None and state.handshake_wall else None,
        "rx_bytes": max(state.got_bytes - memory.counted_from[0], 0) if state is not None else None,
        "tx_bytes": max(state.put_bytes - memory.counted_from[1], 0) if state is not None else None,
        **_sign_in(spec, intent, desired),
        "_since_boot": at,
        "_counted_from": list(memory.counted_from if wish is not None else (0, 0)),
        "_handshake_wall": state.handshake_wall if state is not None else None,
    }


def _sign_in(spec: TunnelSpec, intent: Intent, desired: Desired) -> Document:
    """Whether somebody has to sign in with a browser before the gateway lets anything through, and where."""
    visit = intent.visit
    if visit is None or visit.check.tunnel != spec.name or desired.phase not in {Phase.CONNECTED, Phase.RESTING}:
        return {"sign_in": None, "sign_in_url": None}
    known = "wanted" if visit.wanted is not None else "done" if visit.done else None
    return {"sign_in": known, "sign_in_url": visit.wanted}


def _standing(wish: TunnelWish | None, phase: Phase | None) -> str:
    """How a tunnel is that is not connected; the ``phase`` is about the one that carries."""
    return "down" if wish is None else "resting" if phase is Phase.RESTING else "connecting"


def _role(spec: TunnelSpec, wish: TunnelWish | None, intent: Intent, desired: Desired) -> str:
    """``chosen``: it carries, or is coming up to; ``failed``: it was left, for the time being; ``standby``: it waits
    for its turn; ``available``: it is not of the order. ``companion`` is the role of one that stands beside.
    """
    if wish is not None:
        return "chosen"
    entry = intent.gateways.entry(spec.name)
    if entry is not None and entry.back_at is None:
        return "failed"
    return "standby" if spec.name in desired.order else "available"


def _state(wish: TunnelWish | None, snapshot: Snapshot) -> TunnelState | None:
    if wish is None:
        return None
    mine = (s for s in snapshot.tunnels if s.link.name == wish.link_name and s.digest == wish.spec.digest())
    return next(mine, None)


def _endpoint(spec: TunnelSpec, state: TunnelState | None) -> str | None:
    """Where the newest handshake came from; before the first one, where it will be asked for."""
    heard = [peer for peer in state.peers if peer.handshake_wall and peer.endpoint] if state is not None else []
    if heard:
        return str(max(heard, key=lambda peer: peer.handshake_wall or 0).endpoint)
    return next((str(where) for where in (*spec.endpoints, *(name for name, _endpoint in spec.named))), None)


# -- names ------------------------------------------------------------------------------------------------------------
def _dns(desired: Desired, snapshot: Snapshot) -> Document | None:
    """Which servers of ours programs ask, as it is and not as it is wished; None while none of ours."""
    dns = snapshot.dns.dns
    if dns is None or dns != desired.dns or snapshot.dns.astray:
        return None
    return {
        "servers": [str(server) for server in dns.servers],
        "search": list(dns.search),
        "routes": list(dns.routes),
        "scope": dns.scope.value,
        "by": [mechanism.value for mechanism in snapshot.dns.by],
    }


# -- temporary access -------------------------------------------------------------------------------------------------
def _temporary_access(intent: Intent, now: Clock, phase: Phase) -> Document | None:
    grant = intent.grant
    if grant is None or phase is not Phase.TEMPORARY_ACCESS:
        return None
    return {
        "remaining_s": _left(grant.expires_at, now),
        "expires_at": rfc3339(now.wall_at(grant.expires_at)),
        "scope": SCOPE,
        "link": grant.link_name,
        "reason": grant.reason or None,
        "granted_to": grant.granted_to,
        "_expires_boot": grant.expires_at,
    }


# -- times ------------------------------------------------------------------------------------------------------------
def _left(ends: float, now: Clock) -> int:
    """Seconds, rounded up: while any time is left it is not 0."""
    return max(0, math.ceil(ends - now.boot))


def rfc3339(seconds: float) -> str:
    """Seconds since the epoch as RFC 3339, UTC, to the second; from 1970 to 9999, whatever a clock or a tunnel says."""
    return datetime.fromtimestamp(round(min(max(seconds, 0.0), _YEAR_9999)), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
