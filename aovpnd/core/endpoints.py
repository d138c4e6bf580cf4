# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a tunnel's outer packets go *now*: names and families resolved to one address for each endpoint.

``concrete`` turns a file's tunnel into one with addresses alone, so that nobody behind `view` ever sees a name. Of
several addresses one is used at a time: when a handshake with it was in vain, ``turn`` goes on to the next one. So a
spoofed answer opens, for our marked packets, one protocol and port of one address, and nothing else.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Network
from itertools import zip_longest
from typing import Final, assert_never

from aovpnd.core import health, nat64
from aovpnd.core.uplinks import IPV4
from aovpnd.gateways import Path
from aovpnd.inquiries import Host
from aovpnd.ipsec import IPsec, TunnelSpec
from aovpnd.model import Intent, Snapshot, Uplink
from aovpnd.ruleset import Address
from aovpnd.tunnel import Endpoint, HostPort, Peer, WireGuard, unfit

MOST: Final = 8
"""Addresses of one name that are tried: more is no gateway, but a wish to be sent about."""
MOST_GOOD: Final = 2
"""Addresses that once worked and are kept."""
MOST_ATTEMPTS: Final = 5
"""Handshakes that one of several addresses is given before it is the next one's turn, in later rounds."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What can be reached from here: families that an uplink has (none known while there is no uplink), the network's
    NAT64 prefix where IPv4 goes no other way, and not what is ourselves.
    """

    families: frozenset[int]
    prefix: IPv6Network | None
    own: frozenset[Address]

    def __call__(self, addr: Address) -> Address | None:
        """The address by which ``addr`` is reached, or None."""
        if unfit(addr) is not None or addr in self.own:
            return None
        if not self.families or addr.version in self.families:
            return addr
        if self.prefix is None or not isinstance(addr, IPv4Address):
            return None
        behind = nat64.embed(self.prefix, addr)
        return None if unfit(behind) is not None or behind in self.own else behind


def place(uplink: Uplink) -> str:
    """The link and the network behind it, as `Path` and `Host` remember them."""
    return f"{uplink.link.index} {uplink.network}"


def known(hosts: Iterable[Host], name: str) -> Host:
    """What is known of a name, which may be nothing."""
    return next((host for host in hosts if host.name == name), Host(name))


def update(hosts: tuple[Host, ...], new: Host) -> tuple[Host, ...]:
    """The same with what is known of one name replaced."""
    return (*(host for host in hosts if host.name != new.name), new)


def reach(spec: TunnelSpec, hosts: Iterable[Host], snapshot: Snapshot, found: tuple[Uplink, ...]) -> Reach:
    """What ``spec`` can reach over these uplinks."""
    families = frozenset(family for uplink in found for family in uplink.families)
    asked = known(hosts, nat64.WELL_KNOWN)
    is_here = asked.network in map(place, found)
    own: set[Address] = {interface.ip for interface in spec.addresses}
    for address in snapshot.addresses:
        own.add(address.interface.ip)
        if address.interface.version == IPV4:
            own.add(address.interface.network.broadcast_address)
    needs = bool(families) and IPV4 not in families
    return Reach(families, nat64.prefix(asked.answered) if needs and is_here else None, frozenset(own))


def candidates(host: Host, to: Reach) -> tuple[Address, ...]:
    """The addresses of a name that can be tried here, in their order: the last answer, the families in turn and IPv6
    first (RFC 8305 section 4), then what once worked.
    """
    six = (addr for addr in host.answered if addr.version != IPV4)
    four = (addr for addr in host.answered if addr.version == IPV4)
    answered = (addr for pair in zip_longest(six, four) for addr in pair if addr is not None)
    able = (addr for addr in (*answered, *host.good) if to(addr) is not None)
    return tuple(dict.fromkeys(able))[:MOST]


def current(host: Host, to: Reach) -> Address | None:
    """The one address of a name that is used now; None when there is none."""
    able = candidates(host, to)
    return host.current if host.current in able else next(iter(able), None)


def concrete(spec: TunnelSpec, hosts: Iterable[Host], to: Reach) -> TunnelSpec:
    """The tunnel with an address for each endpoint, and none for a name without."""
    hosts = tuple(hosts)
    match spec:
        case WireGuard():
            peers = [replace(peer, endpoint=_endpoint(peer, hosts, to)) for peer in spec.peers]
            return replace(spec, peers=tuple(peers))
        case IPsec():
            able = gateways(spec, hosts, to)
            now = known(hosts, rota(spec)).current
            return replace(spec, endpoint=next((e for e in able if e.addr == now), able[0] if able else None))
        case _:
            assert_never(spec)


def rota(spec: IPsec) -> str:
    """Under which name it is remembered which of an IKE tunnel's gateways is tried now; no host has such a one."""
    return f"gateways of {spec.name}"


def turners(spec: TunnelSpec) -> tuple[str, ...]:
    """Under which names it is remembered whose turn it is: each name's of a WireGuard tunnel, one for all of IKE."""
    return (rota(spec),) if isinstance(spec, IPsec) else spec.hosts


def gateways(spec: IPsec, hosts: Iterable[Host], to: Reach) -> tuple[Endpoint, ...]:
    """All addresses of all gateways that can be tried here, in their order; of one address's ports the first. Where
    there is none, those that are written as addresses stay as they are: whoever reads status wants to see them.
    """
    hosts = tuple(hosts)
    found: dict[Address, Endpoint] = {}
    for gateway in spec.gateways:
        if isinstance(gateway, HostPort):
            ways = map(to, candidates(known(hosts, gateway.host), to))
        else:
            ways = map(to, (gateway.addr,))
        for addr in (way for way in ways if way is not None):
            found.setdefault(addr, Endpoint(addr, gateway.port))
    return tuple(found.values()) or tuple(g for g in spec.gateways if isinstance(g, Endpoint))


def _endpoint(peer: Peer, hosts: tuple[Host, ...], to: Reach) -> Endpoint | None:
    if peer.host is not None:
        addr = current(known(hosts, peer.host.host), to)
        reached = to(addr) if addr is not None else None
        return Endpoint(reached, peer.host.port) if reached is not None else None
    if peer.endpoint is None:
        return None
    # An address that cannot be reached stays as it is written: whoever reads status wants to see it.
    return replace(peer.endpoint, addr=to(peer.endpoint.addr) or peer.endpoint.addr)


# -- in turn -----------------------------------------------------------------------------------------------------------
def turn(intent: Intent, spec: TunnelSpec, path: Path | None, to: Reach, now: float) -> tuple[Host, ...]:
    """The hosts after looking at a tunnel that is not connected: a handshake that was in vain is the next address's
    turn. Of WireGuard's peers each has its own turns; of an IKE tunnel's gateways one is tried after the other.
    """
    provoked, hosts = intent.provoked, intent.hosts
    if provoked is None or path is None:
        return hosts
    for name in turners(spec):
        host = known(hosts, name)
        if provoked.path.networks != path.networks:
            host = replace(host, vain=0, turns=0)
        elif provoked.path == path and not _hindered(intent) and now >= health.retry_at(intent):
            able = _able(spec, host, hosts, to)
            rounds = host.turns // max(len(able), 1)
            if provoked.attempts > min(rounds, MOST_ATTEMPTS - 1):
                left = _current(spec, host, able, to)
                host = replace(host, current=_next(able, left), vain=host.vain + 1, turns=host.turns + 1)
                hosts = _in_vain(spec, hosts, left, to)
        hosts = update(hosts, host)
    return hosts


def _hindered(intent: Intent) -> bool:
    """Whether something fails on this machine, so that a handshake in vain says nothing of the gateway."""
    return any(not failure.is_beside for failure in intent.failures)


def _able(spec: TunnelSpec, host: Host, hosts: Iterable[Host], to: Reach) -> tuple[Address, ...]:
    if isinstance(spec, IPsec):
        return tuple(endpoint.addr for endpoint in gateways(spec, hosts, to))
    return candidates(host, to)


def _current(spec: TunnelSpec, host: Host, able: tuple[Address, ...], to: Reach) -> Address | None:
    if isinstance(spec, IPsec):
        return host.current if host.current in able else next(iter(able), None)
    return current(host, to)


def _in_vain(spec: TunnelSpec, hosts: tuple[Host, ...], left: Address | None, to: Reach) -> tuple[Host, ...]:
    """The hosts after one address of an IKE tunnel's was tried in vain: it counts for the name that has it."""
    if isinstance(spec, IPsec):
        for name in spec.hosts:
            host = known(hosts, name)
            if left in map(to, candidates(host, to)):
                hosts = update(hosts, replace(host, vain=host.vain + 1))
    return hosts


def _next(able: tuple[Address, ...], addr: Address | None) -> Address | None:
    return able[(able.index(addr) + 1) % len(able)] if addr in able else None


def afresh(hosts: tuple[Host, ...]) -> tuple[Host, ...]:
    """The hosts when another tunnel has its turn: whoever comes back later begins with all its attempts."""
    return tuple(replace(host, turns=0, attempts=0) for host in hosts)


def succeed(hosts: tuple[Host, ...], spec: TunnelSpec, to: Reach) -> tuple[Host, ...]:
    """The hosts after a handshake: what is used now is good, and what went before is forgotten."""
    for name in spec.hosts:
        host = known(hosts, name)
        addr = current(host, to)
        if isinstance(spec, IPsec):  # one of all these names has it, or none
            used = spec.endpoint.addr if spec.endpoint is not None else None
            addr = next((addr for addr in candidates(host, to) if to(addr) == used), None)
        if addr is not None:
            good = (addr, *(other for other in host.good if other != addr))[:MOST_GOOD]
            hosts = update(hosts, Host(name, good, host.answered, host.network, addr))
    if isinstance(spec, IPsec) and spec.endpoint is not None:
        hosts = update(hosts, Host(rota(spec), current=spec.endpoint.addr))
    return hosts
