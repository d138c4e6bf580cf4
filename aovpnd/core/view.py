# SPDX-License-Identifier: GPL-3.0-or-later
"""What one pass reads off configuration, wish and world before it decides anything, the phase included."""

from dataclasses import dataclass
from typing import Final

from aovpnd import names
from aovpnd.core import health
from aovpnd.core.uplinks import IPV4, uplinks
from aovpnd.links import is_tunnel_shaped
from aovpnd.model import Block, Config, Grant, Intent, Path, Phase, Snapshot, TunnelState, Uplink, Wish
from aovpnd.orders import LoadRuleset
from aovpnd.tunnel import TunnelSpec

PREFER: Final = "tunnel.prefer"
"""The key that says which tunnel, where it is set."""


@dataclass(frozen=True, slots=True)
class View:
    """What one pass reads off configuration, wish and world before it decides anything."""

    uplinks: tuple[Uplink, ...]
    spec: TunnelSpec | None
    link_name: str
    state: TunnelState | None
    """The chosen tunnel's link, once it is verified ours."""
    path: Path | None
    grant: Grant | None
    phase: Phase
    sealed: bool
    """The ruleset cannot be loaded and is not there: routing alone has to keep the machine shut."""


def view(config: Config, intent: Intent, snapshot: Snapshot) -> View:
    """Read what matters, and derive the phase: the first line of docs/security.md's table that fits."""
    found = uplinks(snapshot)
    spec = choose(config, intent)
    link_name = free_link_name(snapshot)
    state = own_tunnel(spec, snapshot)
    path = None
    if spec is not None and state is not None and found:
        path = Path(
            spec.name,
            spec.digest(),
            spec.endpoints,
            state.link.index,
            tuple(f"{u.link.index} {u.network}" for u in found),
        )
    sealed = not snapshot.table_present and any(failure.action == LoadRuleset.__name__ for failure in intent.failures)
    grant = None if sealed else live_grant(intent, snapshot, found)
    if intent.block is Block.OFF:
        phase = Phase.UNBLOCKED
    elif grant is not None:
        phase = Phase.TEMPORARY_ACCESS
    elif not found:
        phase = Phase.OFFLINE
    elif spec is None:
        phase = Phase.BLOCKED
    elif health.is_connected(intent, state, path, snapshot.now):
        phase = Phase.CONNECTED
    else:
        phase = Phase.CONNECTING
    return View(found, spec, state.link.name if state else link_name, state, path, grant, phase, sealed)


def choose(config: Config, intent: Intent) -> TunnelSpec | None:
    """The tunnel that the user named, else the preferred one, else the only one; none while disconnected.

    What a policy prefers, nobody names otherwise.
    """
    if intent.wish is Wish.DISCONNECT:
        return None
    chosen = None if PREFER in config.locked else intent.chosen
    for name in (chosen, config.prefer):
        if name is not None:
            return config.tunnel(name)
    return config.tunnels[0] if len(config.tunnels) == 1 and not config.broken else None


def own_tunnel(spec: TunnelSpec | None, snapshot: Snapshot) -> TunnelState | None:
    """The link that carries this tunnel's key and nothing else; the name alone proves nothing (facts T3)."""
    if spec is None:
        return None
    for state in snapshot.tunnels:
        if is_tunnel_shaped(state.link) and is_configured(spec, state, snapshot):
            return state
    return None


def is_configured(spec: TunnelSpec, state: TunnelState, snapshot: Snapshot) -> bool:
    """Whether a link has just the keys, peers, mark and addresses of its file; no IPv6 where the kernel speaks none."""
    wanted = {address for address in spec.addresses if snapshot.ipv6 or address.version == IPV4}
    return state.digest == spec.digest() and state.fwmark == names.FWMARK and set(state.addresses) == wanted


def free_link_name(snapshot: Snapshot) -> str:
    """The first of aovpn0, aovpn1, … that is not somebody else's."""
    ours = {state.link.name for state in snapshot.tunnels}
    foreign = {link.name for link in snapshot.links} - ours
    number = 0
    while f"{names.LINK_PREFIX}{number}" in foreign:
        number += 1
    return f"{names.LINK_PREFIX}{number}"


def live_grant(intent: Intent, snapshot: Snapshot, found: tuple[Uplink, ...]) -> Grant | None:
    """The grant, while its time runs and its link still carries the network that it was given for."""
    grant = intent.grant
    if grant is None or snapshot.now.boot >= grant.expires_at:
        return None
    there = any(
        (uplink.link.index, uplink.link.name, uplink.network) == (grant.link, grant.link_name, grant.network)
        for uplink in found
    )
    return grant if there else None
