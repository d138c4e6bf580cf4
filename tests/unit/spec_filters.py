# SPDX-License-Identifier: GPL-3.0-or-later
"""The page's section on filters, read a second time: as `spec`, of which it is a part, without a word of the core's."""

from aovpnd.filters import Direction, Filter
from aovpnd.ruleset import L4, Address, Conntrack, Flow, Protocol
from aovpnd.trace import Packet


def is_named_out(filters: tuple[Filter, ...], packet: Packet) -> bool:
    """Whether a filter names what goes out, or there is none."""
    named = (each for each in filters if each.direction is Direction.OUT)
    return not filters or any(_is_named(each, packet, packet.daddr, packet.dport) for each in named)


def is_let_out(filters: tuple[Filter, ...], packet: Packet) -> bool:
    """Of what the machine itself sends, answers to what a filter lets in may go out as well."""
    replies = packet.ct is Conntrack.ESTABLISHED and packet.flow is Flow.REPLY
    named = (each for each in filters if each.direction is Direction.IN)
    answers = any(_is_named(each, packet, packet.daddr, packet.sport) for each in named)
    return is_named_out(filters, packet) or (replies and answers)


def is_let_in(filters: tuple[Filter, ...], packet: Packet, *, error: bool) -> bool:
    """What a filter names, answers to what went out, and errors about connections."""
    answers = packet.ct is Conntrack.ESTABLISHED and packet.flow is Flow.REPLY
    if not filters or answers or (packet.ct is Conntrack.RELATED and error):
        return True
    named = (each for each in filters if each.direction is Direction.IN)
    return any(_is_named(each, packet, packet.saddr, packet.dport) for each in named)


def _is_named(each: Filter, packet: Packet, other: Address | None, port: int) -> bool:
    """By the other one's address, the protocol, and the port at which was asked."""
    spans = [(span, span) if isinstance(span, int) else (span.first, span.last) for span in each.ports]
    own_icmp = L4.ICMP if packet.protocol is Protocol.IP else L4.ICMPV6
    homes = [network for network in each.addresses if other is not None and network.version == other.version]
    return (
        (not each.addresses or any(other in network for network in homes))
        and (not each.protocols or packet.l4 in set(each.protocols) & {L4.TCP, L4.UDP, own_icmp})
        and (not spans or any(first <= port <= last for first, last in spans))
    )
