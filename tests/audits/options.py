# SPDX-License-Identifier: GPL-3.0-or-later
"""Socket options that lead packets elsewhere (D1), and marks (D2): what programs can ask of the kernel by setsockopt(2)
and control messages.
"""

import random
import socket
import struct
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Final

from tests.audits.shot import ANYBODY, GATEWAY, PORT, RESOLVER, ROUTER, Shot, is6, numeric, opened, shots, syn, to
from tests.lab import plan

_IP_UNICAST_IF, _IPV6_UNICAST_IF = 50, 76
_IP_FREEBIND, _IP_PKTINFO, _IP_MTU_DISCOVER = 15, 8, 10
_IPV6_FREEBIND, _IPV6_TRANSPARENT = 78, 75
_IPPROTO_UDPLITE: Final = 136
_SO_MARK, _SO_PRIORITY = 36, 12
_UDP_SEGMENT: Final = 103
_ON: Final = numeric(1)
_DEVICE: Final = 25  # SO_BINDTODEVICE
_LOOSE_SOURCE_ROUTE: Final = bytes([131, 7, 4]) + plan.HOME.router4.packed + b"\x00"
_RECORD_ROUTE: Final = bytes([7, 7, 4]) + bytes(4) + b"\x00"
_LEVEL: Final = {4: socket.IPPROTO_IP, 6: socket.IPPROTO_IPV6}
_SEGMENTS: Final = 4

Option = tuple[int, int, bytes]


def programs(link: str, _count: int) -> Iterator[Shot]:
    """D1: every option that chooses a link, a source or a way, to five destinations of each family."""
    index = socket.if_nametoindex(link)
    for family, where in product((4, 6), (ANYBODY, RESOLVER, GATEWAY, ROUTER)):
        for name, options in _options(family, link, index).items():
            yield from _udp(f"{name}{family}", family, where[family], options)
        yield from shots(f"pktinfo{family}", partial(_pktinfo, family, where[family], index))
        for source in _sources(family):
            yield from _from(f"source{family}", family, source, where[family])
        bound = (socket.SOL_SOCKET, _DEVICE, link.encode())
        for port in (PORT, 22, 80, 443, plan.GATEWAY_PORT):
            yield Shot(f"syn{family}", syn(where[family], port))
            yield Shot(f"boundsyn{family}", syn(where[family], port, bound))
        yield from shots(f"ping{family}", partial(_ping, family, where[family], bound))


def _options(family: int, link: str, index: int) -> dict[str, tuple[Option, ...]]:
    """Ways to choose, by name; those that need a privilege are left out where the program has none."""
    level, unicast = _LEVEL[family], _IP_UNICAST_IF if family == 4 else _IPV6_UNICAST_IF
    bound = (socket.SOL_SOCKET, _DEVICE, link.encode())
    found: dict[str, tuple[Option, ...]] = {
        "plain": (),
        "bindtodevice": (bound,),
        "unicastif": ((level, unicast, struct.pack("!I", index)),),
        "dontroute": ((socket.SOL_SOCKET, socket.SO_DONTROUTE, _ON), bound),
        "priority": ((socket.SOL_SOCKET, _SO_PRIORITY, numeric(6)), bound),
        "broadcast": ((socket.SOL_SOCKET, socket.SO_BROADCAST, _ON), bound),
    }
    if family == 4:
        found["loosesourceroute"] = ((level, socket.IP_OPTIONS, _LOOSE_SOURCE_ROUTE), bound)
        found["recordroute"] = ((level, socket.IP_OPTIONS, _RECORD_ROUTE), bound)
        found["probe"] = ((level, _IP_MTU_DISCOVER, numeric(3)), bound)
        found["tos"] = ((level, socket.IP_TOS, numeric(0xB8)), bound)
    else:
        pad = b"\x00\x00\x01\x04" + bytes(4)
        found["hopbyhop"] = ((level, socket.IPV6_HOPOPTS, pad), bound)
        found["destinationoptions"] = ((level, socket.IPV6_DSTOPTS, pad), bound)
        found["class"] = ((level, socket.IPV6_TCLASS, numeric(0xB8)), bound)
    return found


def _udp(group: str, family: int, address: str, options: tuple[Option, ...]) -> Iterator[Shot]:
    """The same by UDP, by UDP-Lite, connected, corked, and as one large piece that the kernel cuts."""
    yield from shots(group, lambda: to(opened(family, socket.SOCK_DGRAM, 0, *options), address, PORT))
    yield from shots(group, lambda: to(opened(family, socket.SOCK_DGRAM, 0, *options), address, plan.GATEWAY_PORT))
    yield from shots(group, lambda: to(opened(family, socket.SOCK_DGRAM, _IPPROTO_UDPLITE, *options), address, PORT))
    yield from shots(group, lambda: _connected(opened(family, socket.SOCK_DGRAM, 0, *options), address))
    yield from shots(group, lambda: _corked(opened(family, socket.SOCK_DGRAM, 0, *options), address))
    segmented = (*options, (socket.IPPROTO_UDP, _UDP_SEGMENT, numeric(64)))
    yield from shots(group, lambda: _large(opened(family, socket.SOCK_DGRAM, 0, *segmented), address))


def _connected(sock: socket.socket, address: str) -> Callable[[bytes], object]:
    def send(payload: bytes) -> None:
        sock.connect((address, PORT))
        sock.send(payload)

    return send


def _corked(sock: socket.socket, address: str) -> Callable[[bytes], object]:
    def send(payload: bytes) -> None:
        sock.sendto(payload, socket.MSG_MORE, (address, PORT))
        sock.sendto(payload, (address, PORT))

    return send


def _large(sock: socket.socket, address: str) -> Callable[[bytes], object]:
    return lambda payload: sock.sendto(payload.ljust(64, b"\0") * _SEGMENTS, (address, PORT))


def _pktinfo(family: int, address: str, index: int) -> Callable[[bytes], object]:
    sock = opened(family, socket.SOCK_DGRAM)
    if family == 4:
        level, kind, data = socket.IPPROTO_IP, _IP_PKTINFO, struct.pack("=I4s4s", index, bytes(4), bytes(4))
    else:
        level, kind, data = socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, struct.pack("=16sI", bytes(16), index)
    return lambda payload: sock.sendmsg([payload], [(level, kind, data)], 0, (address, PORT))


def _sources(family: int) -> tuple[str, ...]:
    """Addresses that a socket might call its own: the link's, the tunnel's, others'."""
    if family == 4:
        return "0.0.0.0", str(plan.TUNNEL4), f"{plan.HOME.lan4}.77", str(plan.WEB4), "127.0.0.1"
    return "::", str(plan.TUNNEL6), f"{plan.HOME.lan6}::77", str(plan.WEB6), "::1"


def _from(group: str, family: int, source: str, address: str) -> Iterator[Shot]:
    """Bound to a source, whether it is ours (IP_FREEBIND needs no privilege) or not (IP_TRANSPARENT does)."""
    level = _LEVEL[family]
    free, transparent = (_IP_FREEBIND, socket.IP_TRANSPARENT) if family == 4 else (_IPV6_FREEBIND, _IPV6_TRANSPARENT)
    for option in (free, transparent):

        def make(option: int = option) -> Callable[[bytes], object]:
            sock = opened(family, socket.SOCK_DGRAM, 0, (level, option, _ON))
            sock.bind((source, 0))
            return to(sock, address, PORT)

        yield from shots(group, make)


def _ping(family: int, address: str, bound: Option) -> Callable[[bytes], object]:
    """An echo request, with the token where ping(8) has its pattern (C6)."""
    protocol, kind = (socket.IPPROTO_ICMP, 8) if family == 4 else (socket.IPPROTO_ICMPV6, 128)
    send = to(opened(family, socket.SOCK_DGRAM, protocol, bound), address, 0)
    return lambda payload: send(struct.pack("!BBHHH", kind, 0, 0, 0, 1) + payload)


def marks(link: str, count: int) -> Iterator[Shot]:
    """D2: every bit of the mark alone, all together, all but one, and some by chance, with and without a bound link."""
    chance = random.Random(count)
    bits = [1 << bit for bit in range(32)]
    tried = [*bits, *(0xFFFFFFFF ^ bit for bit in bits), 0xFFFFFFFF, *(chance.getrandbits(32) for _ in range(64))]
    bound = (socket.SOL_SOCKET, _DEVICE, link.encode())
    for mark, where, options in product(tried, (ANYBODY, RESOLVER), ((), (bound,))):
        for family in (4, 6):
            port = 53 if where is RESOLVER else PORT
            yield from shots(f"mark{family}", partial(_marked, mark, where[family], port, options))


def _marked(mark: int, address: str, port: int, options: tuple[Option, ...]) -> Callable[[bytes], object]:
    def send(payload: bytes) -> None:
        with opened(6 if is6(address) else 4, socket.SOCK_DGRAM, 0, *options) as sock:
            sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, struct.pack("I", mark))
            sock.sendto(payload, (address, port))

    return send
