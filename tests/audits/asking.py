# SPDX-License-Identifier: GPL-3.0-or-later
"""Names asked for on every port (C3), and discovery by multicast and broadcast (C4)."""

import socket
import struct
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Final

from tests.audits.shot import Shot, is6, numeric, opened, shots, syn, to
from tests.lab import plan

_DEVICE: Final = 25  # SO_BINDTODEVICE
_QUESTION: Final = struct.pack("!6H", 7, 256, 1, 0, 0, 0) + b"\3www\7example\3com\0" + struct.pack("!2H", 1, 1)
_DNS_PORTS: Final = (53, 853, 5353, 5355, 443, 784, 8853)
"""DNS (RFC 1035), over TLS and QUIC (RFC 7858, 9250), mDNS, LLMNR, over HTTPS, and drafts' ports."""


def names(link: str, _count: int) -> Iterator[Shot]:
    """C3: to eight resolvers, on every port, by UDP and TCP, bound to the link and not."""
    local = f"{plan.HOME.router_local}%{link}"
    resolvers = (
        *(str(plan.DNS4), str(plan.DNS6), str(plan.HOME.router4), str(plan.HOME.router6), local),
        *(str(plan.WEB4), str(plan.WEB6), str(plan.GATEWAY4)),
    )
    bound = ((socket.SOL_SOCKET, _DEVICE, link.encode()),)
    for address, port, options in product(resolvers, _DNS_PORTS, ((), bound)):
        family = 6 if is6(address) else 4
        yield from shots(f"udp{port}", partial(_asks, family, address, port, options))
        yield Shot(f"tcp{port}", syn(address, port, *options))


def _asks(
    family: int, address: str, port: int, options: tuple[tuple[int, int, bytes], ...]
) -> Callable[[bytes], object]:
    send = to(opened(family, socket.SOCK_DGRAM, 0, *options), address, port)
    return lambda payload: send(_QUESTION + payload)


_SUBNET: Final = f"{plan.HOME.lan4}.255"
_GROUPS: Final = {
    "mdns": (("224.0.0.251", 5353), ("ff02::fb", 5353), ("ff05::fb", 5353)),
    "llmnr": (("224.0.0.252", 5355), ("ff02::1:3", 5355)),
    "nbns": ((_SUBNET, 137), ("255.255.255.255", 137)),
    "nbdgm": ((_SUBNET, 138),),
    "ssdp": (("239.255.255.250", 1900), ("ff02::c", 1900), ("ff05::c", 1900)),
    "wsdiscovery": (("239.255.255.250", 3702), ("ff02::c", 3702)),
    "slp": (("239.255.255.253", 427), ("ff02::116", 427)),
    "dropbox": ((_SUBNET, 17500), ("255.255.255.255", 17500)),
    "spotify": ((_SUBNET, 57621), ("255.255.255.255", 57621)),
    "kdeconnect": ((_SUBNET, 1716), ("255.255.255.255", 1716)),
    "steam": ((_SUBNET, 27036),),
    "coap": (("224.0.1.187", 5683), ("ff02::fd", 5683)),
    "ntp": (("224.0.1.1", 123), ("ff02::101", 123)),
    "ptp": (("224.0.1.129", 319), ("ff02::6b", 319)),
    "rip": (("224.0.0.9", 520), ("ff02::9", 521)),
    "allhosts": (("224.0.0.1", 40000), ("ff02::1", 40000), ("ff01::1", 40000)),
    "dhcp": ((_SUBNET, 67), (str(plan.HOME.router4), 67), ("ff05::1:3", 547), ("ff02::1:2", 547)),
    "wakeonlan": ((_SUBNET, 9), ("255.255.255.255", 9)),
}
"""Who asks the whole network, and where: the protocols of a desktop, and DHCP beside its narrow permit (C8)."""


def discovery(link: str, _count: int) -> Iterator[Shot]:
    """C4: every protocol, by a socket that is bound to the link, by one that names it for multicast, and by neither."""
    index = socket.if_nametoindex(link)
    for group, places in _GROUPS.items():
        for (address, port), way in product(places, range(3)):
            if address == "ff01::1" or (is6(address) and not address.startswith("ff02") and way == 2):
                continue  # the kernel keeps ff01 to itself; wider scopes have no link of their own
            yield from shots(group, partial(_tells, address, port, (link, index), way))
    for address in ("224.0.0.251", "239.255.255.250", "239.1.2.3", "ff02::fb", "ff05::c", "ff02::1234"):
        yield Shot("join", partial(_joins, address, index))


def _tells(address: str, port: int, link: tuple[str, int], way: int) -> Callable[[bytes], object]:
    family = 6 if is6(address) else 4
    sock = opened(family, socket.SOCK_DGRAM, 0, (socket.SOL_SOCKET, socket.SO_BROADCAST, numeric(1)))
    if way == 0:
        sock.setsockopt(socket.SOL_SOCKET, _DEVICE, link[0].encode())
    elif way == 1 and family == 4:
        choice = struct.pack("4s4si", bytes(4), bytes(4), link[1])
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, choice)
    elif way == 1:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, numeric(link[1]))
    return to(sock, address, port)


_KEPT: Final[list[socket.socket]] = []
"""Groups are left when their socket goes; then the kernel says so, which is a second try."""


def _joins(address: str, index: int, _payload: bytes) -> None:
    """Join a group, upon which the kernel would tell the routers (IGMP, MLD)."""
    sock = opened(6 if is6(address) else 4, socket.SOCK_DGRAM)
    _KEPT.append(sock)
    if is6(address):
        request = socket.inet_pton(socket.AF_INET6, address) + struct.pack("i", index)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
    else:
        request = socket.inet_aton(address) + struct.pack("4si", bytes(4), index)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
