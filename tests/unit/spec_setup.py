# SPDX-License-Identifier: GPL-3.0-or-later
"""The page's sections on link set-up and on frames that pass no inet hook, read a second time: a part of `spec`."""

from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Final

from aovpnd import names
from aovpnd.ruleset import L4, Address, Framing, Origin, Owner, Protocol
from aovpnd.trace import Packet
from tests.unit.spec_beside import is_inside

NONE: Final[frozenset[Address]] = frozenset()
ALL_ROUTERS: Final = IPv6Address("ff02::2")
ALL_NODES: Final = IPv6Address("ff02::1")
DHCPV6_SERVERS: Final = IPv6Address("ff02::1:2")
SOLICITED_NODE: Final = ip_network("ff02::1:ff00:0/104")
LINK_LOCAL: Final = ip_network("fe80::/10")
BROADCAST: Final = IPv4Address("255.255.255.255")


def is_dhcp(packet: Packet) -> bool:
    """From a client to a server, wherever that is."""
    return packet.l4 is L4.UDP and (packet.sport, packet.dport) in {(68, 67), (546, 547)}


def is_error(packet: Packet) -> bool:
    """Destination unreachable, packet too big, time exceeded, parameter problem (RFC 792, RFC 4443)."""
    errors = {L4.ICMP: {3, 11, 12}, L4.ICMPV6: {1, 2, 3, 4}}
    return packet.l4 is not None and packet.icmp_type in errors.get(packet.l4, ())


def is_dhcp_out(packet: Packet) -> bool:
    """From a client to any server on the link, as clients ask."""
    ports = (packet.sport, packet.dport)
    if packet.l4 is not L4.UDP:
        return False
    if packet.daddr == DHCPV6_SERVERS:
        return ports == (546, 547) and is_inside(packet.saddr, LINK_LOCAL)
    return packet.daddr == BROADCAST and ports == (68, 67)


def is_discovery_out(packet: Packet, near: frozenset[Address]) -> bool:
    """Neighbour discovery that may be sent; ``near`` are on-link gateways."""
    if packet.l4 is not L4.ICMPV6 or packet.hop_limit != 255:
        return False
    to = packet.daddr
    if packet.icmp_type == 133:
        return to == ALL_ROUTERS
    if packet.icmp_type == 135:
        return is_inside(to, SOLICITED_NODE) or is_inside(to, LINK_LOCAL) or to in near
    return packet.icmp_type == 136 and (to == ALL_NODES or is_inside(to, LINK_LOCAL) or to in near)


def is_redirect(packet: Packet) -> bool:
    """What would lead packets by another way."""
    return (packet.l4, packet.icmp_type) in {(L4.ICMP, 5), (L4.ICMPV6, 137)}


def is_link_setup_in(packet: Packet) -> bool:
    """What may answer."""
    ports = (packet.sport, packet.dport)
    if packet.l4 is L4.UDP and packet.protocol is Protocol.IP:
        return ports == (67, 68)
    if packet.l4 is L4.UDP and packet.protocol is Protocol.IP6:
        return ports == (547, 546) and is_inside(packet.saddr, LINK_LOCAL)
    if packet.l4 is not L4.ICMPV6 or packet.hop_limit != 255:
        return False
    return packet.icmp_type in {135, 136} or (packet.icmp_type == 134 and is_inside(packet.saddr, LINK_LOCAL))


def raw_allowed(packet: Packet, *, outside: bool, above: Collection[str] = ()) -> bool:
    """Whether the guard's egress chains let out what passed no inet hook: packet sockets, macvlan, bridged guests;
    ``above`` are the kinds of links there are that send by others.
    """
    frame = packet.frame or packet.protocol  # what the frame itself says; a packet socket may lie about it
    if not outside or (packet.protocol is frame and frame in {Protocol.ARP, Protocol.EAPOL}):
        return True
    if packet.protocol is Protocol.ARP:
        return frame is Protocol.VLAN and packet.tagged is Protocol.ARP
    if packet.mark & names.STAMP and packet.framing is Framing.OTHER:
        return True
    if packet.protocol in {Protocol.PPPOE_DISCOVERY, Protocol.PPPOE_SESSION}:
        return _is_of_its_type(packet) and _pppoe_allowed(packet, above)
    if "vlan" in above and packet.mark & names.STAMP and frame is Protocol.VLAN and packet.tagged is packet.protocol:
        return packet.protocol in {Protocol.IP, Protocol.IP6}
    by_stack = packet.mark & names.STAMP and packet.origin is Origin.ROUTED
    if (
        by_stack
        and packet.protocol in {Protocol.IP, Protocol.IP6}
        and frame in {Protocol.IP, Protocol.IP6, Protocol.VLAN}
    ):
        return True
    if packet.framing is Framing.OTHER or packet.protocol is not frame:
        behind_tag = frame is Protocol.VLAN and packet.tagged is Protocol.IP
        return behind_tag and packet.daddr == BROADCAST and is_dhcp_out(packet)
    return is_dhcp_out(packet) or is_discovery_out(packet, NONE)


def _is_of_its_type(packet: Packet) -> bool:
    """Whether an Ethernet frame, or what is behind its tag, is what its sender says."""
    frame = packet.frame or packet.protocol
    kind = packet.tagged if frame is Protocol.VLAN else frame
    return packet.framing is Framing.ETHERNET and kind is packet.protocol


def _pppoe_allowed(packet: Packet, above: Collection[str]) -> bool:
    """The search for a session is root's; a session is the kernel's, and what is in it has been judged or is PPP's."""
    if packet.protocol is Protocol.PPPOE_DISCOVERY:
        return packet.owner is Owner.ROOT
    judged = bool(packet.mark & names.STAMP) and packet.ppp in {0x0021, 0x0057}
    control = packet.owner is None and packet.ppp in {0xC021, 0xC023, 0xC223, 0x8021, 0x8057}
    return "ppp" in above and (judged or control)
