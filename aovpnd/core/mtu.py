# SPDX-License-Identifier: GPL-3.0-or-later
"""How large a packet may be inside the tunnel, so that what WireGuard makes of it arrives in one piece.

Three know something of it, and the smallest is believed: the uplink and its default routes; the kernel's own path MTU
to the gateway, which ICMP tells (RFC 1191, RFC 8201); and a measurement inside the tunnel, because ICMP is filtered so
often (RFC 4821, RFC 8899). One packet of full size is sent through the tunnel, once per path and only when programs
send; only if it does not come back, smaller ones are. An idle tunnel says nothing.

A link that carries IPv6 cannot have an MTU below 1280 (RFC 8200 section 5; the kernel would take IPv6 off it). Where
less passes, TCP is told to be content with it (`narrow`), by the segment sizes in its handshakes.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from aovpnd.clock import Clock
from aovpnd.core import esp, uplinks
from aovpnd.core.filtering import may_ask
from aovpnd.core.health import is_used
from aovpnd.filters import Filter, lets_out
from aovpnd.gateways import Path, PathMtu
from aovpnd.inquiries import MeasurePath
from aovpnd.ipsec import IPsec, TunnelSpec
from aovpnd.model import Config, Intent, Snapshot, TunnelState, Uplink
from aovpnd.ruleset import L4, Address, Match, Protocol, Rule, Verdict

IPV4, IPV6 = 4, 6
USUAL: Final = 1500
"""Bytes that an uplink carries of which nothing is known."""
OVERHEAD: Final = {IPV4: 60, IPV6: 80}
"""Bytes that WireGuard adds to a packet: IP header, 8 of UDP, 32 of its own."""
LEAST: Final = {IPV4: 576, IPV6: 1280}
"""What a link must carry (RFC 791; RFC 8200 section 5)."""
MOST: Final = 65535 - OVERHEAD[IPV6]
"""What a link can be told; there are uplinks without a limit of their own."""
NARROWEST: Final = 128
"""Bytes of a packet with some room for TCP in it. Whatever a lease or a route says of an uplink, the rules that are
made of it have to be ones that nft takes."""
BLOCK: Final = 16
"""WireGuard pads a packet to a multiple of this, but to no more than the link's MTU (paper, section 5.4.6)."""
SIZES: Final = (*range(1408, 1183, -BLOCK), 1152, 1104, 1008, 800, 576)
"""What is tried when the full size does not pass: finely around what PPPoE, other tunnels and mobile networks leave."""
TARGETS: Final = 2
"""So many are asked at once."""

AGAIN_S: Final = 600.0
"""A path that is in use is measured again after that time: it may have changed behind our backs (RFC 8899, 5.1.1)."""
RETRY_S: Final = 30.0
"""When nobody answered anything: doubled each time, up to `AGAIN_S`."""
FIRST_LOOK_S, LAST_LOOK_S = 0.3, 60.0
"""Nothing tells us that a program begins to send, so we look: soon on a new path, then less and less often."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What the link's MTU is to be, and what passes in one piece where that is less than a link can be told."""

    link: int
    narrow: int | None = None


# -- what is to be -----------------------------------------------------------------------------------------------------
def fit(spec: TunnelSpec, intent: Intent, snapshot: Snapshot, state: TunnelState | None, path: Path | None) -> Fit:
    """The size for a tunnel's link. What its file says is not questioned."""
    if spec.mtu is not None:
        return Fit(spec.mtu)
    known = known_of(intent, path)
    sizes = (_uplink_allows(spec, snapshot), _told(spec, state), known.inner if known is not None else None)
    passes = min(size for size in sizes if size is not None)
    least = LEAST[IPV6 if _carries_ipv6(spec, snapshot) else IPV4]
    return Fit(min(passes, MOST)) if passes >= least else Fit(least, max(passes // BLOCK * BLOCK, NARROWEST))


def _adds(spec: TunnelSpec | None) -> dict[int, int]:
    return esp.adds(spec.esp_proposals) if isinstance(spec, IPsec) else OVERHEAD


def _uplink_allows(spec: TunnelSpec | None, snapshot: Snapshot) -> int:
    """wg-quick(8)'s rule: what the best uplink and its routes carry, less what a tunnel adds to a packet at most."""
    best = next(iter(uplinks.uplinks(snapshot)), None)
    return (uplink_mtu(best, snapshot) if best is not None else USUAL) - _adds(spec)[IPV6]


def uplink_mtu(uplink: Uplink, snapshot: Snapshot) -> int:
    """The smallest of what the link carries and what its default routes say (router advertisements do, DHCP may)."""
    routes = (route for route in snapshot.main if route.link == uplink.link.index and route.dst.prefixlen == 0)
    return min([uplink.link.mtu or USUAL, *(route.mtu for route in routes if route.mtu)])


def _told(spec: TunnelSpec | None, state: TunnelState | None) -> int | None:
    """What the kernel knows of the way to the gateway, less what the tunnel adds there."""
    if state is None:
        return None
    found = (
        peer.path_mtu - _adds(spec)[peer.endpoint.addr.version]
        for peer in state.peers
        if peer.path_mtu is not None and peer.endpoint is not None
    )
    return min(found, default=None)


def _carries_ipv6(spec: TunnelSpec, snapshot: Snapshot) -> bool:
    """Whether the link has to know IPv6: for an address, or for a route, which ends there even if nobody can send."""
    return snapshot.ipv6 and any(item.version == IPV6 for item in (*spec.addresses, *spec.prefixes))


# -- what is remembered ------------------------------------------------------------------------------------------------
def known_of(intent: Intent, path: Path | None) -> PathMtu | None:
    """What was found out of this path; another one's says nothing."""
    known = intent.path_mtu
    return known if known is not None and path is not None and known.path == path.fingerprint() else None


def settle(
    intent: Intent, snapshot: Snapshot, spec: TunnelSpec | None, state: TunnelState | None, path: Path | None
) -> PathMtu | None:
    """The memory after looking: begun anew with each path, and no longer than it."""
    if state is None or path is None:
        return None
    known = known_of(intent, path) or PathMtu(path.fingerprint(), snapshot.now.boot, state.tx_bytes)
    if known.since is None:
        known = replace(known, since=snapshot.now.boot, tx_bytes=state.tx_bytes)
    if state.tx_bytes < known.tx_bytes:  # a new handshake counts from nothing
        known = replace(known, tx_bytes=0)
    told = _told(spec, state)
    if told is not None and told < min(_uplink_allows(spec, snapshot), known.inner or told + 1):
        known = replace(known, inner=told)  # the kernel forgets what ICMP told after ten minutes (mtu_expires)
    return known


def learn(known: PathMtu | None, inquiry: MeasurePath, size: int | None) -> PathMtu | None:
    """The memory after a measurement; ``size`` None: nobody answered."""
    if known is None or known.path != inquiry.path:
        return known
    if size is None:
        return replace(known, since=None, wait_s=min(max(known.wait_s * 2, RETRY_S), AGAIN_S))
    known = replace(known, since=None, wait_s=AGAIN_S)
    if size < inquiry.sizes[0]:
        known = replace(known, inner=min(size, known.inner or size), lost=True)
    return known


# -- when to measure ---------------------------------------------------------------------------------------------------
def must_measure(known: PathMtu | None, state: TunnelState, now: Clock) -> bool:
    """Whether programs have sent enough since the path is new, or since it was measured last."""
    if known is None or known.since is None or now.boot < known.since + known.wait_s:
        return False
    return is_used(state, known.tx_bytes, now.boot - known.since)


def inquiry(
    config: Config, intent: Intent, snapshot: Snapshot, spec: TunnelSpec, state: TunnelState, path: Path
) -> MeasurePath | None:
    """The measurement that is due on a tunnel that is connected, if one is."""
    known = known_of(intent, path)
    targets = targets_of(config, spec)
    if spec.mtu is not None or not targets or not must_measure(known, state, snapshot.now):
        return None
    size = fit(spec, intent, snapshot, state, path)
    full = size.narrow or size.link
    sizes = (full, *(smaller for smaller in SIZES if smaller < full))
    return MeasurePath(state.link.index, state.link.name, path.fingerprint(), targets, sizes)


def targets_of(config: Config, spec: TunnelSpec) -> tuple[Address, ...]:
    """Whom to ask: the tunnel's own name servers, else whom the configuration names for probes; behind the tunnel."""
    wanted = spec.dns or tuple(endpoint.addr for endpoint in config.probe)
    filters = config.filters_of(spec.name)
    return tuple(address for address in dict.fromkeys(wanted) if _answers(spec, filters, address))[:TARGETS]


def _answers(spec: TunnelSpec, filters: tuple[Filter, ...], address: Address) -> bool:
    """Whether an echo or a padded question may go there."""
    echo = L4.ICMPV6 if address.version == IPV6 else L4.ICMP
    return may_ask(spec, filters, address) or (spec.reaches(address) and lets_out(filters, address, echo))


def next_look(intent: Intent, path: Path | None, now: Clock) -> float | None:
    """When to look whether programs send over a path that was never measured (CLOCK_BOOTTIME)."""
    known = known_of(intent, path)
    if known is None or known.since is None:
        return None
    if known.wait_s:
        return known.since + known.wait_s
    return now.boot + min(max((now.boot - known.since) / 4, FIRST_LOOK_S), LAST_LOOK_S)


def clamped(match: Match, narrow: int | None) -> Iterable[Rule]:
    """TCP held to what passes in one piece, both ways: the size that a handshake offers binds who hears it."""
    if narrow is not None:
        for protocol, headers in _TCP_HEADERS:
            family = replace(match, protocol=protocol)
            yield Rule(family, Verdict.CONTINUE, "less passes than the link says", clamp_mss=narrow - headers)


_TCP_HEADERS: Final = ((Protocol.IP, 40), (Protocol.IP6, 60))
"""Bytes in front of a segment without options, as its size counts them (RFC 6691)."""
