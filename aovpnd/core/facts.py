# SPDX-License-Identifier: GPL-3.0-or-later
"""``facts(config, intent, snapshot, now) -> Facts``: what the permits of this pass are made of, each verified."""

from collections.abc import Iterator
from ipaddress import ip_network

from aovpnd import names
from aovpnd.core import dns, mtu, uplinks, using
from aovpnd.core.beside import permits_beside
from aovpnd.core.permits import (
    Asks,
    Facts,
    Handshake,
    HostOnly,
    LookUp,
    OfTunnel,
    TemporaryAccess,
    Transformed,
    Tunnel,
    TunnelAddresses,
    Window,
)
from aovpnd.core.view import Beside, View
from aovpnd.ipsec import TunnelSpec
from aovpnd.model import Config, Intent, Snapshot, TunnelState
from aovpnd.ruleset import Address, Device
from aovpnd.tunnel import Endpoint
from aovpnd.users import Use


def facts(config: Config, intent: Intent, snapshot: Snapshot, now: View) -> Facts:
    """What is the case of all that a permit may be for; which phase has which, `permits` says."""
    own = _own(snapshot, now.spec, now.state)
    of_companions = {each.spec.name: _own(snapshot, each.spec, each.state) for each in now.companions}
    tunnel = None
    if now.spec is not None and now.state is not None:
        narrow = mtu.fit(now.spec, intent, snapshot, now.state, now.path).narrow
        others = tuple(address for theirs in of_companions.values() for address in theirs)
        tunnel = Tunnel(_device(now.state), narrow, now.filters, others, now.use, own)
    companions: list[OfTunnel] = []
    for each in now.companions:
        others = (*own, *(a for name, theirs in of_companions.items() if name != each.spec.name for a in theirs))
        narrow = mtu.fit(each.spec, intent, snapshot, each.state, each.path).narrow
        companions += _companion(each, narrow, of_companions[each.spec.name], others, _use(config, snapshot, each))
    return Facts(
        endpoints=tuple(dict.fromkeys(_endpoints(now))),
        addresses=own,
        tunnel=tunnel,
        transformed=tuple(_transformed(now.spec, now.state)),
        companions=tuple(companions),
        look_up=_look_up(snapshot, now),
        access=_access(snapshot, now),
        neighbours=uplinks.on_link_gateways(now.uplinks),
        host_only=tuple(_host_only(snapshot, tunnel, companions)),
        beside=permits_beside(config, now),
    )


def _host_only(snapshot: Snapshot, tunnel: Tunnel | None, companions: list[OfTunnel]) -> Iterator[HostOnly]:
    """Networks of guests; while no tunnel takes what they send, with all that they can reach."""
    found, here = uplinks.host_only(snapshot), None
    if not any(isinstance(each, Tunnel) and not each.use.owners for each in (tunnel, *companions)):
        own = {ip_network(address.interface.ip) for address in snapshot.addresses}
        here = uplinks.in_order(own.union(*(uplinks.on_link(snapshot, link.index) for link in found)))
    yield from (HostOnly(Device(link.index, link.name), here) for link in found)


def _use(config: Config, snapshot: Snapshot, each: Beside) -> Use:
    """Who may use a companion."""
    if not each.private:
        return using.by_everybody(config, each.spec.name)
    return using.by_owners(config, each.spec.name, dns.asked(each.spec, each.filters, ipv6=snapshot.ipv6))


def _companion(
    each: Beside, narrow: int | None, own: tuple[Address, ...], others: tuple[Address, ...], who: Use
) -> Iterator[OfTunnel]:
    """What a companion may: the same as the tunnel that carries."""
    yield from map(Handshake, dict.fromkeys(each.spec.endpoints))
    if each.state is not None:
        yield Tunnel(_device(each.state), narrow, each.filters, others, who, own)
        yield from _transformed(each.spec, each.state)
    if own:
        yield TunnelAddresses(own)


def _device(state: TunnelState) -> Device:
    return Device(state.link.index, state.link.name, state.link.kind)


def _transformed(spec: TunnelSpec | None, state: TunnelState | None) -> Iterator[Transformed]:
    """For whom the kernel makes ESP of what an XFRM interface takes."""
    if spec is not None and state is not None and state.link.kind == names.XFRM:
        yield from (Transformed(endpoint.addr) for endpoint in spec.endpoints)


def _endpoints(now: View) -> tuple[Endpoint, ...]:
    """Where handshakes may go: to the tunnel that carries, and to the one on trial."""
    trial = now.trial.spec.endpoints if now.trial is not None else ()
    return (*now.spec.endpoints, *trial) if now.spec is not None else ()


def _own(snapshot: Snapshot, spec: TunnelSpec | None, state: TunnelState | None) -> tuple[Address, ...]:
    """The addresses that a tunnel's link has, and those that it shall have, also while there is no link yet."""
    if spec is None:
        return ()
    shall = (interface for interface in spec.addresses if snapshot.ipv6 or interface.version == uplinks.IPV4)
    has = state.addresses if state is not None else ()
    return tuple(dict.fromkeys(interface.ip for interface in (*has, *shall)))


def _look_up(snapshot: Snapshot, now: View) -> LookUp | None:
    if now.look_up is None:
        return None
    asked = now.look_up.inquiry
    asks = Asks.TLS if asked.tls_name else Asks.PLAIN
    window = Window.between(now.look_up.asked_at, now.look_up.expires_at, snapshot.now)
    return LookUp(Device(asked.link, asked.link_name), asked.resolvers, asks, window)


def _access(snapshot: Snapshot, now: View) -> TemporaryAccess | None:
    if now.grant is None:
        return None
    uplink = next(uplink for uplink in now.uplinks if uplink.link.index == now.grant.link)
    window = Window.between(now.grant.granted_at, now.grant.expires_at, snapshot.now)
    device = Device(now.grant.link, now.grant.link_name)
    return TemporaryAccess(device, uplinks.resolvers(snapshot, uplink), window)
