# SPDX-License-Identifier: GPL-3.0-or-later
"""Packets that no ordinary socket makes: fragments, options, extension headers, any protocol (C5), built by scapy and
sent by raw sockets; and the same in frames of all sorts by packet sockets (D3).
"""

import itertools
import random
import socket
import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from scapy.config import conf
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import (
    ICMP,
    IP,
    TCP,
    UDP,
    IPOption,
    IPOption_LSRR,
    IPOption_Router_Alert,
    IPOption_RR,
    IPOption_SSRR,
    IPOption_Timestamp,
)
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RS,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
    RouterAlert,
)
from scapy.layers.l2 import GRE
from scapy.layers.sctp import SCTP, SCTPChunkInit
from scapy.packet import Packet, Raw

from tests.audits.shot import ANYBODY, GATEWAY, PORT, RESOLVER, ROUTER, Shot
from tests.lab import plan

conf.ipv6_enabled = True
_DEVICE: Final = 25  # SO_BINDTODEVICE
_IPV6_HDRINCL: Final = 36
_PROTOCOLS: Final = (
    0,
    2,
    3,
    4,
    5,
    8,
    27,
    33,
    41,
    46,
    47,
    50,
    51,
    55,
    88,
    89,
    94,
    97,
    103,
    108,
    112,
    115,
    132,
    136,
    137,
    253,
)
"""IGMP, IP in IP, DCCP, 6in4, RSVP, GRE, ESP, AH, EIGRP, OSPF, EtherIP, PIM, IPComp, VRRP, L2TP, SCTP, UDP-Lite, …"""
_HERE4, _HERE6 = f"{plan.HOME.lan4}.77", f"{plan.HOME.lan6}::77"
_TARGETS4: Final = (
    ANYBODY[4],
    RESOLVER[4],
    GATEWAY[4],
    ROUTER[4],
    f"{plan.HOME.lan4}.9",
    "224.0.0.251",
    "255.255.255.255",
)
_TARGETS6: Final = (ANYBODY[6], RESOLVER[6], GATEWAY[6], ROUTER[6], "fe80::9", "ff02::fb", "ff02::1")
_TOKEN: Final = b"\xaa" * 20
"""Stands for the payload until it is known; nothing in a packet depends on its bytes but checksums, which a packet that
nobody should see may have wrong.
"""


# -- packets -----------------------------------------------------------------------------------------------------------
_OPTIONS4: Final[dict[str, list[IPOption]]] = {
    "bare": [],
    "rr": [IPOption_RR(routers=["0.0.0.0"] * 3)],
    "lsrr": [IPOption_LSRR(routers=[ROUTER[4]])],
    "ssrr": [IPOption_SSRR(routers=[ROUTER[4]])],
    "alert": [IPOption_Router_Alert()],
    "timestamp": [IPOption_Timestamp()],
    "unknown": [IPOption(b"\x9e\x04ab")],
}
_CUTS4: Final = {"whole": (0, 0), "first": (1, 0), "middle": (1, 3), "last": (0, 185), "tiny": (1, 1), "odd": (0, 8189)}
"""More fragments, and offset in units of eight bytes."""

Recipe = tuple[str, Callable[[], Packet]]
"""The group, and how the packet is built, which takes scapy a while."""


def recipes4() -> Iterator[Recipe]:
    """IPv4: bodies × options × fragments, to every sort of target."""
    bodies = list(_bodies(4))
    for to, name, cut, ttl, (body, layers) in itertools.product(_TARGETS4, _OPTIONS4, _CUTS4, (1, 64), bodies):
        group = f"{body}4" if cut == "whole" and name == "bare" else f"{name}{cut}4"
        yield group, partial(_packet4, to, (name, cut), ttl, layers)
    for to, protocol in itertools.product(_TARGETS4, _PROTOCOLS):
        yield "protocol4", partial(_bare4, to, protocol)


def _bare4(to: str, protocol: int) -> Packet:
    return IP(src=_HERE4, dst=to, proto=protocol) / Raw(_TOKEN)


def _bare6(to: str, protocol: int) -> Packet:
    return IPv6(src=_HERE6, dst=to, nh=protocol) / Raw(_TOKEN)


def _packet4(to: str, kind: tuple[str, str], ttl: int, layers: Packet) -> Packet:
    more, offset = _CUTS4[kind[1]]
    return IP(src=_HERE4, dst=to, ttl=ttl, options=_OPTIONS4[kind[0]], flags=more, frag=offset) / layers


def _bodies(version: int) -> Iterator[tuple[str, Packet]]:
    """What an IP header can have behind it, the shapes of permitted packets among them."""
    inner = IP(src=_HERE4, dst=ANYBODY[4]) / UDP(sport=PORT, dport=PORT) / Raw(_TOKEN)
    inner6 = IPv6(src=_HERE6, dst=ANYBODY[6]) / UDP(sport=PORT, dport=PORT) / Raw(_TOKEN)
    yield "udp", UDP(sport=PORT, dport=PORT) / Raw(_TOKEN)
    yield "wireguard", UDP(sport=PORT, dport=plan.GATEWAY_PORT) / Raw(b"\x04\0\0\0" + _TOKEN.ljust(28, b"\0"))
    yield "dhcp", UDP(sport=68, dport=68) / Raw(_TOKEN)
    yield "dns", UDP(sport=PORT, dport=53) / DNS(qd=DNSQR(qname="www.example.com")) / Raw(_TOKEN)
    for flags in ("S", "SA", "A", "R", "F", "FPU", ""):
        yield "tcp", TCP(sport=PORT, dport=443, flags=flags) / Raw(_TOKEN)
    yield "sctp", SCTP(sport=PORT, dport=PORT) / SCTPChunkInit() / Raw(_TOKEN)
    yield "gre", GRE() / inner
    yield "ipip", inner
    yield "sixinfour", inner6
    if version == 4:
        for kind in (0, 3, 5, 8, 11, 13, 17):
            yield "icmp", ICMP(type=kind) / Raw(_TOKEN)
    else:
        yield "icmp", ICMPv6EchoRequest(data=_TOKEN)
        yield "icmp", ICMPv6ND_RS(res=1) / Raw(_TOKEN)
        yield "icmp", ICMPv6ND_NS(tgt=ANYBODY[6]) / Raw(_TOKEN)
        yield "icmp", ICMPv6ND_NA(tgt=ANYBODY[6]) / Raw(_TOKEN)


_PADS: Final = PadN(optdata=b"\0" * 4)
_CHAINS6: Final[dict[str, tuple[Packet, ...]]] = {
    "bare": (),
    "hop": (IPv6ExtHdrHopByHop(options=[_PADS]),),
    "alert": (IPv6ExtHdrHopByHop(options=[RouterAlert()]),),
    "dest": (IPv6ExtHdrDestOpt(options=[_PADS]),),
    "dest2": (IPv6ExtHdrDestOpt(options=[_PADS]), IPv6ExtHdrDestOpt(options=[_PADS])),
    "first": (IPv6ExtHdrFragment(m=1, offset=0, id=7),),
    "middle": (IPv6ExtHdrFragment(m=1, offset=3, id=7),),
    "last": (IPv6ExtHdrFragment(m=0, offset=185, id=7),),
    "atomic": (IPv6ExtHdrFragment(m=0, offset=0, id=7),),
    "routing": (IPv6ExtHdrRouting(type=2, addresses=[ROUTER[6]]),),
    "destfirst": (IPv6ExtHdrDestOpt(options=[_PADS]), IPv6ExtHdrFragment(m=1, offset=0, id=9)),
}


def recipes6() -> Iterator[Recipe]:
    """IPv6: bodies behind chains of extension headers, fragments among them, to every sort of target."""
    bodies = list(_bodies(6))
    for to, name, hops, (body, layers) in itertools.product(_TARGETS6, _CHAINS6, (1, 64), bodies):
        yield f"{body}6" if name == "bare" else f"{name}6", partial(_packet6, to, name, hops, layers)
    for to, protocol in itertools.product(_TARGETS6, _PROTOCOLS):
        yield "protocol6", partial(_bare6, to, protocol)


def _packet6(to: str, name: str, hops: int, layers: Packet) -> Packet:
    packet: Packet = IPv6(src=_HERE6, dst=to, hlim=hops)
    for extension in _CHAINS6[name]:
        packet = packet / extension.copy()
    return packet / layers


def _some(count: int) -> list[tuple[str, int, bytes]]:
    """``count`` of them, drawn anew but always alike, each different from the others: group, IP version, bytes."""
    chance = random.Random(count)
    made = [(4, recipe) for recipe in recipes4()] + [(6, recipe) for recipe in recipes6()]
    chance.shuffle(made)
    found: dict[bytes, tuple[str, int, bytes]] = {}
    for version, (group, build) in made:
        if len(found) == count:
            break
        data = bytes(build())
        found.setdefault(data, (group, version, data))
    return list(found.values())


def raw(link: str, count: int) -> Iterator[Shot]:
    """C5: by raw sockets that bring their own IP header, bound to the link and not, by turns."""
    sockets = {}
    for version, bound in itertools.product((4, 6), (False, True)):
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        sock = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_RAW)
        if bound:
            sock.setsockopt(socket.SOL_SOCKET, _DEVICE, link.encode())
        if version == 4:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_HDRINCL, 1)
        sockets[version, bound] = sock
    index = socket.if_nametoindex(link)
    for number, (group, version, data) in enumerate(_some(count)):
        yield Shot(group, _raw(sockets[version, number % 3 != 0], version, data, index))


def _raw(sock: socket.socket, version: int, data: bytes, index: int) -> Callable[[bytes], object]:
    if version == 4:
        where: tuple[object, ...] = (socket.inet_ntoa(data[16:20]), 0)
    else:
        to = socket.inet_ntop(socket.AF_INET6, data[24:40])
        where = (to, 0, 0, index if to.startswith("f") else 0)
    return lambda payload: sock.sendto(_filled(data, payload), where)


def _filled(data: bytes, payload: bytes) -> bytes:
    return data.replace(_TOKEN, payload[: len(_TOKEN)].ljust(len(_TOKEN), b"\0"))


# -- frames ------------------------------------------------------------------------------------------------------------
_MACS: Final = bytes.fromhex("020000001001") + bytes.fromhex("020000000002")
_TYPES: Final = (
    0x0800,
    0x86DD,
    0x0806,
    0x888E,
    0x8100,
    0x88A8,
    0x8863,
    0x8864,
    0x8847,
    0x88CC,
    0x88F7,
    0x88B5,
    0x0026,
    0x22F0,
)
_BYPASS: Final = 20
_SOL_PACKET: Final = 263
_SO_MARK: Final = 36
_MARKS: Final = (0, 0x2A000000, 0x40000000, 0x6A000000, 0xFFFFFFFF)
"""None, the tunnel's own, the stamp, both, all."""


def frames(link: str, count: int) -> Iterator[Shot]:
    """D3: packets in frames of every type, the claimed one right and wrong, tagged once and twice, with every mark, by
    packet sockets of both kinds, with and without the queue.
    """
    chance = random.Random(count)
    ways = list(itertools.product((socket.SOCK_RAW, socket.SOCK_DGRAM), (0, 1), _MARKS))
    for number, (group, version, data) in enumerate(_some(count)):
        own = _TYPES[version == 6]
        said = own if number % 2 else chance.choice(_TYPES)
        claimed = said if number % 3 else chance.choice(_TYPES)
        tags = (b"", struct.pack("!HH", 0x8100, 5), struct.pack("!HHHH", 0x88A8, 5, 0x8100, 6))[number % 5 % 3]
        kind, bypass, mark = ways[number % len(ways)]
        if claimed in {0x0806, 0x888E} and (said == claimed or kind == socket.SOCK_DGRAM):
            continue  # ARP and EAPOL leave, whatever is in them: docs/security.md
        body = _MACS + tags + struct.pack("!H", said) + data
        sent = body if kind == socket.SOCK_RAW else data
        yield Shot(f"frame{group}", _framed(link, kind, claimed, (bypass, mark), sent))


def _framed(link: str, kind: int, claimed: int, way: tuple[int, int], body: bytes) -> Callable[[bytes], object]:
    bypass, mark = way

    def send(payload: bytes) -> None:
        with socket.socket(socket.AF_PACKET, kind, 0) as sock:
            sock.setsockopt(_SOL_PACKET, _BYPASS, bypass)
            sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, struct.pack("I", mark))
            sock.sendto(_filled(body, payload), (link, claimed, 0, 0, _MACS[:6]))

    return send
