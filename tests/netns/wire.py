# SPDX-License-Identifier: GPL-3.0-or-later
"""A `Packet` as the bytes that a raw socket sends, with a number in it by which it is known again.

The number is the identification of an IPv4 header and the flow label of an IPv6 one, and beside it stands a DSCP that
nobody else uses, for the kernel numbers its own packets as well: nothing that a rule of ours reads.
"""

import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Final, assert_never

from aovpnd.ruleset import L4
from aovpnd.trace import Packet

DSCP: Final = 0b010111
"""For experimental or local use (RFC 2474 section 6, pool 2)."""
_CLASS: Final = DSCP << 2
_ESP: Final = 50
"""What goes on the wire for a transport that no rule names."""
_NUMBERS: Final = {L4.ICMP: 1, L4.TCP: 6, L4.UDP: 17, L4.ICMPV6: 58, None: _ESP}


def encode(packet: Packet, number: int) -> bytes:
    """The IP packet, checksums included; ``number`` from 1 to 65535."""
    if isinstance(packet.daddr, IPv4Address) and isinstance(packet.saddr, IPv4Address):
        body = _transport(packet, number, packet.saddr.packed + packet.daddr.packed)
        head = struct.pack(
            "!BBHHHBBH4s4s",
            *(0x45, _CLASS, 20 + len(body), number, 0, packet.hop_limit, _NUMBERS[packet.l4], 0),
            *(packet.saddr.packed, packet.daddr.packed),
        )
        return head[:10] + struct.pack("!H", _checksum(head)) + head[12:] + body
    assert isinstance(packet.daddr, IPv6Address)
    assert isinstance(packet.saddr, IPv6Address)
    body = _transport(packet, number, packet.saddr.packed + packet.daddr.packed)
    return (
        struct.pack("!IHBB", 0x60000000 | _CLASS << 20 | number, len(body), _NUMBERS[packet.l4], packet.hop_limit)
        + packet.saddr.packed
        + packet.daddr.packed
        + body
    )


def number_of(data: bytes) -> int | None:
    """The number in an IP packet, if it is one of ours."""
    if data[0] >> 4 == 4:
        return int.from_bytes(data[4:6], "big") if data[1] == _CLASS else None
    words = int.from_bytes(data[:4], "big")
    return words & 0xFFFFF if words >> 20 & 0xFF == _CLASS else None


def _transport(packet: Packet, number: int, addresses: bytes) -> bytes:
    match packet.l4:
        case L4.UDP:
            body, at = struct.pack("!HHHH", packet.sport, packet.dport, 12, 0) + b"data", 6
        case L4.TCP:  # a SYN
            body, at = struct.pack("!HHIIBBHHH", packet.sport, packet.dport, 1, 0, 0x50, 2, 1024, 0, 0), 16
        case L4.ICMP | L4.ICMPV6:
            # An echo has an identifier, and with the same one it would belong to an earlier one's connection.
            body, at = struct.pack("!BBHHH", packet.icmp_type, 0, 0, number, 0) + bytes(16), 2
        case None:
            return b"\0\0\1\1" + bytes(12)
        case _:
            assert_never(packet.l4)
    pseudo = b"" if packet.l4 is L4.ICMP else addresses + struct.pack("!II", len(body), _NUMBERS[packet.l4])
    return body[:at] + struct.pack("!H", _checksum(pseudo + body) or 0xFFFF) + body[at + 2 :]


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def fragments(packet: Packet, number: int) -> tuple[bytes, bytes]:
    """The same in two fragments: the ports are in the first one alone. ``number`` identifies them."""
    whole = encode(packet, number)
    if whole[0] >> 4 == 4:
        body = whole[20:]
        parts = ((0x2000, body[:8]), (1, body[8:]))
        heads = (struct.pack("!BBHHHBB", 0x45, _CLASS, 20 + len(b), number, o, 64, whole[9]) for o, b in parts)
        first, second = (
            head + struct.pack("!H", _checksum(head + b"\0\0" + whole[12:20])) + whole[12:20] + body
            for head, (_, body) in zip(heads, parts, strict=True)
        )
        return first, second
    body = whole[40:]
    first, second = (
        struct.pack("!IHBB", 0x60000000 | _CLASS << 20 | number, 8 + len(part), 44, 64)
        + whole[8:40]
        + struct.pack("!BBHI", whole[6], 0, offset, number)
        + part
        for offset, part in ((1, body[:8]), (8, body[8:]))
    )
    return first, second
