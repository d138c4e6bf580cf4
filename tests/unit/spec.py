# SPDX-License-Identifier: GPL-3.0-or-later
"""A second, independent reading of docs/security.md, to hold the first one (`aovpnd.core`) against.

Written from that page alone. It shares no code with `aovpnd.core`, only the values; it knows no rules, no chains and no
order of anything, just "may this packet pass?". Where it disagrees with the compiled ruleset, one of the two, or the
page, is wrong. Slow and plain on purpose: read it beside the page, section by section.
"""

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from aovpnd import names
from aovpnd.links import ARPHRD_ETHER, ARPHRD_LOOPBACK, ARPHRD_NONE, OUR_LINK, SAFE_NAME, Link
from aovpnd.model import Block, Config, Grant, Intent, Lan, Snapshot, TunnelSpec, Wish
from aovpnd.ruleset import L4, Address, Device, Network, Packet, Protocol


class Way(Enum):
    """How a packet crosses the machine."""

    OUT = "sent by a socket of ours"
    IN = "for us"
    FORWARD = "through us"
    RAW = "sent by a packet socket, a macvlan or a bridged guest: past all inet hooks"


@dataclass(frozen=True, slots=True)
class World:
    """One situation. ``granted_in`` is the world as it was when the intent's grant was given: its network is there."""

    config: Config
    intent: Intent
    snapshot: Snapshot
    granted_in: Snapshot | None = None


# -- words ------------------------------------------------------------------------------------------------------------
def _link(world: World, device: Device | None) -> Link | None:
    """The link that a packet's device is, if we know one with this index *and* name *and* kind."""
    for link in world.snapshot.links:
        if device is not None and (link.index, link.name, link.kind) == (device.index, device.name, device.kind or ""):
            return link
    return None


def is_loopback(world: World, device: Device | None) -> bool:
    """The link with index 1 and name ``lo``."""
    link = _link(world, device)
    return link is not None and link.index == 1 and link.name == "lo" and link.arphrd == ARPHRD_LOOPBACK


def _is_guest_port(link: Link) -> bool:
    is_tap = link.kind == "tun" and link.arphrd == ARPHRD_ETHER
    return link.kind == "veth" or is_tap


def _is_guest_bridge(world: World, bridge: Link) -> bool:
    ports = [link for link in world.snapshot.links if link.master == bridge.index]
    return bridge.kind == "bridge" and bridge.master == 0 and all(_is_guest_port(port) for port in ports)


def is_host_only(world: World, device: Device | None) -> bool:
    """A bridge whose ports are all veth or tap, or one of those ports; what cannot be named cannot be verified."""
    link = _link(world, device)
    if link is None or SAFE_NAME.fullmatch(link.name) is None:
        return False
    if _is_guest_bridge(world, link):
        return True
    masters = [bridge for bridge in world.snapshot.links if bridge.index == link.master]
    return _is_guest_port(link) and any(_is_guest_bridge(world, bridge) for bridge in masters)


def is_host_only_bridge(world: World, device: Device | None) -> bool:
    """The bridge itself, the only one of them that packets of ours are sent by."""
    link = _link(world, device)
    return link is not None and is_host_only(world, device) and link.kind == "bridge"


def chosen_tunnel(world: World) -> TunnelSpec | None:
    """The tunnel that the user named, else the preferred one, else the only one."""
    if world.intent.wish is Wish.DISCONNECT:
        return None
    tunnels = {tunnel.name: tunnel for tunnel in world.config.tunnels}
    wanted = world.intent.chosen or world.config.prefer
    if wanted is not None:
        return tunnels.get(wanted)
    return world.config.tunnels[0] if len(tunnels) == 1 else None


def is_tunnel(world: World, device: Device | None) -> bool:
    """The verified link of the chosen tunnel: name, index, kind and configuration are all as they must be."""
    link, tunnel = _link(world, device), chosen_tunnel(world)
    if link is None or tunnel is None:
        return False
    shaped = OUR_LINK.fullmatch(link.name) is not None and link.kind in names.TUNNEL_KINDS
    if not shaped or (link.kind == "tun" and link.arphrd != ARPHRD_NONE):
        return False
    return any(
        state.digest == tunnel.digest()
        and state.fwmark == names.FWMARK
        and set(state.addresses) == set(tunnel.addresses)
        and (state.link.index, state.link.name, state.link.kind) == (link.index, link.name, link.kind)
        for state in world.snapshot.tunnels
    )


def is_outside(world: World, device: Device | None) -> bool:
    """Everything else. Unknown means outside."""
    return not (is_loopback(world, device) or is_host_only(world, device) or is_tunnel(world, device))


def device_of(link: Link) -> Device:
    """How a packet names a link."""
    return Device(link.index, link.name, link.kind or None)


def uplinks(world: World) -> list[Link]:
    """Outside links, up and with carrier, that carry a default route of the main table."""
    carriers = {route.link for route in world.snapshot.main if route.dst.prefixlen == 0}
    return [
        link
        for link in world.snapshot.links
        if link.index in carriers
        and link.up
        and link.carrier
        and SAFE_NAME.fullmatch(link.name)
        and is_outside(world, device_of(link))
    ]


def gateways(snapshot: Snapshot, link: Link) -> set[Address]:
    """Where the link's default routes lead."""
    routes = [route for route in snapshot.main if route.link == link.index and route.dst.prefixlen == 0]
    return {route.gateway for route in routes if route.gateway is not None}


def prefixes(snapshot: Snapshot, link: Link) -> set[Network]:
    """The link's on-link prefixes."""
    return {address.interface.network for address in snapshot.addresses if address.link == link.index}


# -- phases -----------------------------------------------------------------------------------------------------------
class Phase(Enum):
    """As on the page, but for its last two lines, which allow the same packets."""

    UNBLOCKED = "unblocked"
    TEMPORARY_ACCESS = "temporary-access"
    OFFLINE = "offline"
    BLOCKED = "blocked"
    TUNNEL = "connecting or connected"


def phase(world: World, at: float | None = None) -> Phase:
    """The first line that fits, for a packet sent ``at`` (CLOCK_BOOTTIME; the snapshot's time if None)."""
    if world.intent.block is Block.OFF:
        return Phase.UNBLOCKED
    if grant_is_alive(world, world.snapshot.now.boot if at is None else at):
        return Phase.TEMPORARY_ACCESS
    if not uplinks(world):
        return Phase.OFFLINE
    if chosen_tunnel(world) is None:
        return Phase.BLOCKED
    return Phase.TUNNEL


def grant_is_alive(world: World, at: float) -> bool:
    """The deadline has not passed, and the link still carries the network that the grant was given for."""
    grant = world.intent.grant
    if grant is None or world.granted_in is None or at >= grant.expires_at:
        return False
    now = _link_of_grant(world.snapshot, grant)
    then = _link_of_grant(world.granted_in, grant)
    return (
        now is not None
        and then is not None
        and now in uplinks(world)
        and _network(world.snapshot, now) == _network(world.granted_in, then)
    )


def _network(snapshot: Snapshot, link: Link) -> tuple[int, frozenset[Address], frozenset[Network]]:
    """Carriers, gateways and on-link prefixes, of IPv4 where there are any."""
    ways, nets = gateways(snapshot, link), prefixes(snapshot, link)
    version = 6 if ways and all(gateway.version == 6 for gateway in ways) else 4
    return (
        link.carrier_ups,
        frozenset(gateway for gateway in ways if gateway.version == version),
        frozenset(network for network in nets if network.version == version),
    )


def _link_of_grant(snapshot: Snapshot, grant: Grant) -> Link | None:
    named = [link for link in snapshot.links if (link.index, link.name) == (grant.link, grant.link_name)]
    return named[0] if named else None


# -- permits ----------------------------------------------------------------------------------------------------------
def allowed(world: World, packet: Packet, way: Way, at: float | None = None) -> bool:
    """Whether the packet may pass. ``at`` is when it is sent, at or after the snapshot (CLOCK_BOOTTIME)."""
    when = world.snapshot.now.boot if at is None else at
    if phase(world, when) is Phase.UNBLOCKED:
        return True
    match way:
        case Way.OUT:
            return _may_leave(world, packet, when)
        case Way.IN:
            return _may_come_in(world, packet)
        case Way.FORWARD:
            return _may_be_forwarded(world, packet)
        case Way.RAW:
            return _may_leave_raw(world, packet)


def stamped(world: World, packet: Packet, at: float | None = None) -> bool:
    """Whether the packet carries the stamp when it leaves."""
    inside = is_loopback(world, packet.oif) or is_tunnel(world, packet.oif) or is_host_only_bridge(world, packet.oif)
    return allowed(world, packet, Way.OUT, at) and not inside


def _may_leave(world: World, packet: Packet, when: float) -> bool:
    link = packet.oif
    if is_loopback(world, link) or tunnel_permit(world, link):
        return True
    if _is_link_setup_out(world, packet) or _is_handshake_out(world, packet):
        return True
    if _is_dns(packet):
        return _by_grant(world, link, when) and packet.daddr in _resolvers(world)
    return _by_grant(world, link, when) or is_host_only_bridge(world, link) or _is_lan_out(world, packet)


def _may_come_in(world: World, packet: Packet) -> bool:
    link = packet.iif
    if is_loopback(world, link) or tunnel_permit(world, link):
        return True
    if packet.daddr is not None and packet.daddr in _tunnel_addresses(world):
        return False
    if packet.ct is not None or is_host_only_bridge(world, link):
        return True
    return _is_link_setup_in(packet) or _is_lan_in(world, packet)


def _may_be_forwarded(world: World, packet: Packet) -> bool:
    if is_host_only_bridge(world, packet.iif) and tunnel_permit(world, packet.oif):
        return True
    if not is_host_only_bridge(world, packet.oif) or _is_dns(packet):
        return False
    answers = tunnel_permit(world, packet.iif) and packet.ct is not None
    return answers or is_host_only_bridge(world, packet.iif)


def _may_leave_raw(world: World, packet: Packet) -> bool:
    """The guard's egress chains alone; they are static and know no gateway."""
    if not is_outside(world, packet.oif) or packet.mark & names.STAMP:
        return True
    if packet.protocol in {Protocol.ARP, Protocol.EAPOL}:
        return True
    return _is_dhcp_out(packet) or _is_discovery_out(packet, frozenset())


def _is_dns(packet: Packet) -> bool:
    return packet.l4 in {L4.TCP, L4.UDP} and packet.dport in {53, 853}


# Link set-up.
ALL_ROUTERS: Final = IPv6Address("ff02::2")
ALL_NODES: Final = IPv6Address("ff02::1")
DHCPV6_SERVERS: Final = IPv6Address("ff02::1:2")
SOLICITED_NODE: Final = ip_network("ff02::1:ff00:0/104")
LINK_LOCAL: Final = ip_network("fe80::/10")
BROADCAST: Final = IPv4Address("255.255.255.255")


def _is_link_setup_out(world: World, packet: Packet) -> bool:
    near = {
        gateway
        for link in uplinks(world)
        for gateway in gateways(world.snapshot, link)
        if any(_inside(gateway, prefix) for prefix in prefixes(world.snapshot, link))
    }
    return _is_dhcp_out(packet) or _is_discovery_out(packet, frozenset(near))


def _is_dhcp_out(packet: Packet) -> bool:
    ports = (packet.sport, packet.dport)
    if packet.l4 is not L4.UDP:
        return False
    if packet.daddr == DHCPV6_SERVERS:
        return ports == (546, 547) and _inside(packet.saddr, LINK_LOCAL)
    return packet.daddr == BROADCAST and ports == (68, 67)


def _is_discovery_out(packet: Packet, near: frozenset[Address]) -> bool:
    if packet.l4 is not L4.ICMPV6 or packet.hop_limit != 255:
        return False
    to = packet.daddr
    if packet.icmp_type == 133:
        return to == ALL_ROUTERS
    if packet.icmp_type == 135:
        return _inside(to, SOLICITED_NODE) or _inside(to, LINK_LOCAL) or to in near
    return packet.icmp_type == 136 and (to == ALL_NODES or _inside(to, LINK_LOCAL) or to in near)


def _is_link_setup_in(packet: Packet) -> bool:
    ports = (packet.sport, packet.dport)
    if packet.l4 is L4.UDP and packet.protocol is Protocol.IP:
        return ports == (67, 68)
    if packet.l4 is L4.UDP and packet.protocol is Protocol.IP6:
        return ports == (547, 546) and _inside(packet.saddr, LINK_LOCAL)
    if packet.l4 is not L4.ICMPV6 or packet.hop_limit != 255:
        return False
    return packet.icmp_type in {135, 136} or (packet.icmp_type == 134 and _inside(packet.saddr, LINK_LOCAL))


# Handshake.
def _is_handshake_out(world: World, packet: Packet) -> bool:
    marked = packet.mark & names.FWMARK_MASK == names.FWMARK and not is_host_only_bridge(world, packet.oif)
    return packet.l4 is L4.UDP and marked and (packet.daddr, packet.dport) in _endpoints(world)


def from_endpoint(world: World, packet: Packet) -> bool:
    """Whether prerouting puts our fwmark on a packet that comes in."""
    is_handshake = packet.l4 is L4.UDP and (packet.saddr, packet.sport) in _endpoints(world)
    return is_handshake and phase(world) is not Phase.UNBLOCKED


def _endpoints(world: World) -> set[tuple[Address | None, int]]:
    tunnel = chosen_tunnel(world)
    if tunnel is None:
        return set()
    return {(peer.endpoint.addr, peer.endpoint.port) for peer in tunnel.peers if peer.endpoint is not None}


# Tunnel.
def tunnel_permit(world: World, device: Device | None) -> bool:
    """Whether the tunnel is open at this link. It is in every phase but ``blocked``, which has no chosen tunnel."""
    return is_tunnel(world, device)


def _tunnel_addresses(world: World) -> set[Address]:
    """The tunnel's own addresses, as soon as there is a tunnel."""
    tunnel = chosen_tunnel(world)
    if tunnel is None or not any(tunnel_permit(world, device_of(link)) for link in world.snapshot.links):
        return set()
    return {interface.ip for interface in tunnel.addresses}


# Temporary access.
def _resolvers(world: World) -> set[Address]:
    """The lease's name servers, or the gateways of the grant's link where it gave none."""
    grant = world.intent.grant
    link = _link_of_grant(world.snapshot, grant) if grant is not None else None
    return set(world.snapshot.resolvers) or (gateways(world.snapshot, link) if link is not None else set())


def _by_grant(world: World, device: Device | None, when: float) -> bool:
    grant = world.intent.grant
    link = _link(world, device)
    if grant is None or link is None or not grant_is_alive(world, when):
        return False
    return (link.index, link.name) == (grant.link, grant.link_name)


# LAN.
PRIVATE: Final = tuple(
    map(
        ip_network,
        ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fe80::/10", "fc00::/7"),
    )
)
DISCOVERY: Final = frozenset(
    map(ip_address, ("224.0.0.251", "239.255.255.250", "255.255.255.255", "ff02::fb", "ff02::1:3"))
)


def _lan(world: World, device: Device | None) -> set[Network] | None:
    """The prefixes of an uplink that may be reached; None where the LAN is shut or there are none."""
    link = _link(world, device)
    if world.config.lan is not Lan.ALLOW or link is None or link not in uplinks(world):
        return None
    return {
        prefix for prefix in prefixes(world.snapshot, link) if any(_lies_in(prefix, home) for home in PRIVATE)
    } or None


def _is_lan_out(world: World, packet: Packet) -> bool:
    lan = _lan(world, packet.oif)
    if lan is None:
        return False
    return packet.daddr in DISCOVERY or any(_inside(packet.daddr, prefix) for prefix in lan)


def _is_lan_in(world: World, packet: Packet) -> bool:
    lan = _lan(world, packet.iif)
    return lan is not None and any(_inside(packet.saddr, prefix) for prefix in lan)


# -- addresses --------------------------------------------------------------------------------------------------------
def _inside(address: Address | None, network: Network) -> bool:
    return address is not None and address.version == network.version and address in network


def _lies_in(prefix: Network, home: Network) -> bool:
    return (
        prefix.version == home.version
        and prefix.prefixlen >= home.prefixlen
        and prefix.network_address in home
        and prefix.broadcast_address in home
    )
