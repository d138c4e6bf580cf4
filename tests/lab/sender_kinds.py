# SPDX-License-Identifier: GPL-3.0-or-later
"""Every way of sending that the lab's programs try: one row each, with how it is opened and sent.

A row's number travels behind the token in the payload, so that the recorder knows whose frame it saw. TCP SYNs carry no
payload: their destination port tells.
"""

import errno
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.lab import plan
from tests.lab.frames import TCP_BASE

Send = Callable[[bytes], object]
"""Sends one payload; raises OSError when the kernel refuses."""

_SOL_PACKET: Final = 263
_PACKET_QDISC_BYPASS: Final = 20
_ETH_IPV4: Final = 0x0800
_ETH_IPV6: Final = 0x86DD
_ETH_EXPERIMENT: Final = 0x88B5
_PROTOCOL_EXPERIMENT: Final = 253
_SO_MARK: Final = 36
STAMP: Final = 0x40000000
"""The bit that aovpnd stamps with (aovpnd.names.STAMP; a test compares). Who knows it can forge it: `FORGERS`."""
_MARKS: Final = (*(1 << bit for bit in range(32) if 1 << bit != STAMP), 0xFFFFFFFF & ~STAMP)
_SOURCE_MAC: Final = bytes.fromhex("020000000002")
_NEXT_HOP_MAC: Final = bytes.fromhex("020000001001")
_PORT: Final = 40000


@dataclass(frozen=True, slots=True)
class SenderKind:
    """One way of sending."""

    number: int
    name: str
    open: Callable[[str], Send]
    """Called with the name of the link that it is about; raises OSError while there is none, and is then called again.
    """
    needs_net_raw: bool = False
    needs_default_route: bool = True
    """Whether a laptop without any route cannot send it; the others leave as soon as the link is up."""


def _udp(address: str, port: int, *, bind: bool = False, connect: bool = False) -> Callable[[str], Send]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def opener(link: str) -> Send:
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.setblocking(False)
        if bind:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.encode())
        if connect:
            sock.connect((address, port))
            return sock.send
        return lambda payload: sock.sendto(payload, (address, port))

    return opener


def _syn(address: str, number: int, port: int = 0) -> Callable[[str], Send]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def send(_payload: bytes) -> None:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.setblocking(False)
            status = sock.connect_ex((address, port or TCP_BASE + number))
            if status not in {0, errno.EINPROGRESS}:
                raise OSError(status, "connect")

    return lambda _link: send


def _ping(address: str) -> Callable[[str], Send]:
    family, protocol, kind = (socket.AF_INET, socket.IPPROTO_ICMP, 8)
    if ":" in address:
        family, protocol, kind = (socket.AF_INET6, socket.IPPROTO_ICMPV6, 128)

    def opener(_link: str) -> Send:
        sock = socket.socket(family, socket.SOCK_DGRAM, protocol)
        sock.setblocking(False)
        return lambda payload: sock.sendto(struct.pack("!BBHHH", kind, 0, 0, 0, 1) + payload, (address, 0))

    return opener


def _multicast(address: str, port: int) -> Callable[[str], Send]:
    def opener(link: str) -> Send:
        index = socket.if_nametoindex(link)
        if ":" in address:
            sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            return lambda payload: sock.sendto(payload, (address, port, 0, index))
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("4s4si", b"", b"", index))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        return lambda payload: sock.sendto(payload, (address, port))

    return opener


def _raw(address: str) -> Callable[[str], Send]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def opener(_link: str) -> Send:
        sock = socket.socket(family, socket.SOCK_RAW, _PROTOCOL_EXPERIMENT)
        return lambda payload: sock.sendto(payload, (address, 0))

    return opener


def _marked(address: str, port: int, marks: tuple[int, ...] = _MARKS) -> Callable[[str], Send]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def opener(_link: str) -> Send:
        sock = socket.socket(family, socket.SOCK_DGRAM)
        turn = 0

        def send(payload: bytes) -> None:
            nonlocal turn
            sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, struct.pack("I", marks[turn % len(marks)]))
            turn += 1
            sock.sendto(payload, (address, port))

        return send

    return opener


def _packet(ethertype: int, *, bypass: bool = False, marks: tuple[int, ...] = ()) -> Callable[[str], Send]:
    def opener(link: str) -> Send:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        sock.bind((link, 0))
        if bypass:
            sock.setsockopt(_SOL_PACKET, _PACKET_QDISC_BYPASS, 1)
        turn = 0

        def send(payload: bytes) -> None:
            nonlocal turn
            if marks:
                sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, struct.pack("I", marks[turn % len(marks)]))
                turn += 1
            sock.send(frame(ethertype, payload))

        return send

    return opener


def frame(ethertype: int, payload: bytes) -> bytes:
    """Build an Ethernet frame: UDP from a made-up address to the web server for IPv4 and IPv6, else the payload as it
    is.
    """
    udp = struct.pack("!HHHH", _PORT, _PORT, len(payload) + 8, 0) + payload
    body = payload
    if ethertype == _ETH_IPV4:
        source, to = socket.inet_aton("192.168.10.77"), plan.WEB4.packed
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + source + to
        total = sum(struct.unpack("!10H", head))
        total = (total & 0xFFFF) + (total >> 16)
        body = head[:10] + struct.pack("!H", ~total & 0xFFFF) + head[12:] + udp
    elif ethertype == _ETH_IPV6:
        source6, to6 = socket.inet_pton(socket.AF_INET6, "2001:db8:10::77"), plan.WEB6.packed
        body = struct.pack("!IHBB", 6 << 28, len(udp), 17, 64) + source6 + to6 + udp
    return _NEXT_HOP_MAC + _SOURCE_MAC + struct.pack("!H", ethertype) + body


_WEB4, _WEB6, _DNS4, _DNS6 = map(str, (plan.WEB4, plan.WEB6, plan.DNS4, plan.DNS6))
_GATEWAY4, _GATEWAY6, _ECHO4 = map(str, (plan.GATEWAY4, plan.GATEWAY6, plan.ECHO4))

KINDS: Final = (
    SenderKind(0, "udp4", _udp(_WEB4, _PORT)),
    SenderKind(1, "udp6", _udp(_WEB6, _PORT)),
    SenderKind(2, "tcp4", _syn(_WEB4, 2)),
    SenderKind(3, "tcp6", _syn(_WEB6, 3)),
    SenderKind(4, "ping4", _ping(_WEB4)),
    SenderKind(5, "ping6", _ping(_WEB6)),
    SenderKind(6, "dns4", _udp(_DNS4, 53)),
    SenderKind(7, "dns6", _udp(_DNS6, 53)),
    SenderKind(8, "doq4", _udp(_DNS4, 853)),
    SenderKind(9, "conn4", _udp(_ECHO4, plan.ECHO_PORT, connect=True)),
    SenderKind(10, "bound4", _udp(_WEB4, _PORT, bind=True), needs_default_route=False),
    SenderKind(11, "bound6", _udp(_WEB6, _PORT, bind=True)),
    SenderKind(12, "mdns4", _multicast("224.0.0.251", 5353), needs_default_route=False),
    SenderKind(13, "mdns6", _multicast("ff02::fb", 5353), needs_default_route=False),
    SenderKind(14, "broadcast4", _multicast("255.255.255.255", 17500), needs_default_route=False),
    SenderKind(15, "endpoint4", _udp(_GATEWAY4, plan.GATEWAY_PORT)),
    SenderKind(16, "endpoint6", _udp(_GATEWAY6, plan.GATEWAY_PORT)),
    SenderKind(17, "gateway4", _udp(_GATEWAY4, _PORT)),
    SenderKind(18, "dnstcp4", _syn(_DNS4, 18, 53)),
    SenderKind(19, "dot4", _syn(_DNS4, 19, 853)),
    SenderKind(32, "raw4", _raw(_WEB4), needs_net_raw=True),
    SenderKind(33, "raw6", _raw(_WEB6), needs_net_raw=True),
    SenderKind(34, "mark4", _marked(_WEB4, _PORT), needs_net_raw=True),
    SenderKind(35, "mark6", _marked(_WEB6, _PORT), needs_net_raw=True),
    SenderKind(36, "packet4", _packet(_ETH_IPV4), needs_net_raw=True, needs_default_route=False),
    SenderKind(37, "packet6", _packet(_ETH_IPV6), needs_net_raw=True, needs_default_route=False),
    SenderKind(38, "bypass4", _packet(_ETH_IPV4, bypass=True), needs_net_raw=True, needs_default_route=False),
    SenderKind(39, "ethertype", _packet(_ETH_EXPERIMENT), needs_net_raw=True, needs_default_route=False),
    SenderKind(40, "packetmark4", _packet(_ETH_IPV4, marks=_MARKS), needs_net_raw=True, needs_default_route=False),
    SenderKind(41, "markendpoint4", _marked(_GATEWAY4, _PORT), needs_net_raw=True),
)
"""All that must never get out; numbers below 32 are ordinary programs, those above need CAP_NET_RAW."""
FORGERS: Final = (
    SenderKind(42, "forgedpacket4", _packet(_ETH_IPV4, marks=(STAMP,)), needs_net_raw=True, needs_default_route=False),
    SenderKind(43, "forged4", _marked(_WEB4, _PORT, (STAMP,)), needs_net_raw=True),
    SenderKind(44, "forged6", _marked(_WEB6, _PORT, (STAMP,)), needs_net_raw=True),
)
"""Programs that know aovpnd and forge its stamp: docs/known-issues.md says when they get out."""
BY_NUMBER: Final = {kind.number: kind for kind in (*KINDS, *FORGERS)}
BY_NAME: Final = {kind.name: kind for kind in (*KINDS, *FORGERS)}
