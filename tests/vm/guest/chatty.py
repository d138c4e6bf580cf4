#!/usr/bin/python3 -IS
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that will not wait: they send by every link, in every way they know, from before systemd starts.

Every frame carries the run's token and the sender's number (a TCP SYN, which has no payload, the number in its port).
What was tried is published in /run/chatty.json: for each sender, attempts while a link was up that did not fail for
want of a route or an address. Whether anything left is for the other end of the cable to say.
"""

import contextlib
import errno
import fcntl
import json
import os
import signal
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

FAR4 = "203.0.113.80"
FAR6 = "2001:db8:80::80"
TCP_BASE = 40000
REPORT = Path("/run/chatty.json")
TOKEN_FILE = Path("/etc/chatty-token")
"""The token in hexadecimal; a second word is the pause between two rounds, in seconds, for programs that are patient:
they leave the others their share of a machine that is translated.
"""
_PATIENT = 10
PERIOD_S = 0.2
SHARE = 4
"""It sends for a quarter of the time at most: a machine that is translated has one slow processor, and has to boot."""

_SIOCGIFFLAGS = 0x8913
_IFF_UP_AND_RUNNING = 0x41
_SO_BINDTODEVICE = 25
_SOL_PACKET = 263
_PACKET_QDISC_BYPASS = 20
_ETH_IP, _ETH_ARP, _ETH_VLAN, _ETH_EAPOL, _ETH_EXPERIMENT = 0x0800, 0x0806, 0x8100, 0x888E, 0x88B5
_NOT_POSSIBLE = frozenset({errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.ENETDOWN, errno.ENXIO, errno.ENODEV})


def _udp4(link: str, payload: bytes, to: tuple[str, int] = (FAR4, 9)) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        if link:
            sock.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, link.encode())
        sock.sendto(payload, to)


def _udp6(link: str, payload: bytes) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        if link:
            sock.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, link.encode())
        sock.sendto(payload, (FAR6, 9))


def _tcp4(_link: str, payload: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        error = sock.connect_ex((FAR4, TCP_BASE + payload[16]))
        if error not in {0, errno.EINPROGRESS}:
            raise OSError(error, "connect")


def _ping4(link: str, payload: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        if link:
            sock.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, link.encode())
        sock.sendto(b"\x08\0\0\0\0\1\0\1" + payload, (FAR4, 0))


def _mdns4(link: str, payload: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(
            socket.IPPROTO_IP,
            socket.IP_MULTICAST_IF,
            struct.pack("=4s4si", bytes(4), bytes(4), socket.if_nametoindex(link)),
        )
        sock.sendto(payload, ("224.0.0.251", 5353))


def _mdns6(link: str, payload: bytes) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.sendto(payload, ("ff02::fb", 5353, 0, socket.if_nametoindex(link)))


def _frame(ethertype: int, payload: bytes) -> bytes:
    """An Ethernet broadcast frame: with a UDP datagram for IPv4, for 802.1Q with the same behind a priority tag."""
    body = payload
    if ethertype == _ETH_VLAN:
        body = bytes(2) + _frame(_ETH_IP, payload)[12:]
    if ethertype == _ETH_IP:
        udp = struct.pack("!HHHH", 9, 9, 8 + len(payload), 0) + payload
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, socket.IPPROTO_UDP, 0) + bytes(4)
        body = head + socket.inet_aton(FAR4) + udp
    return bytes.fromhex("ffffffffffff 020000000099") + struct.pack("!H", ethertype) + body


def _packet(ethertype: int, claimed: int, *, bypass: bool = False) -> Callable[[str, bytes], None]:
    """A packet socket's frame of one ethertype, which it claims towards the kernel to be another."""

    def send(link: str, payload: bytes) -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
            if bypass:
                sock.setsockopt(_SOL_PACKET, _PACKET_QDISC_BYPASS, 1)
            sock.sendto(_frame(ethertype, payload), (link, claimed))

    return send


SENDERS: dict[int, tuple[str, Callable[[str, bytes], None]]] = {
    1: ("udp4", lambda _link, payload: _udp4("", payload)),
    2: ("udp4 to port 53", lambda _link, payload: _udp4("", payload, (FAR4, 53))),
    3: ("udp4 bound to the link", _udp4),
    4: ("udp6", lambda _link, payload: _udp6("", payload)),
    5: ("udp6 bound to the link", _udp6),
    6: ("tcp4", _tcp4),
    7: ("ping4 bound to the link", _ping4),
    8: ("mdns4", _mdns4),
    9: ("mdns6", _mdns6),
    10: ("packet socket, ipv4", _packet(_ETH_IP, _ETH_IP)),
    11: ("packet socket, ipv4, past the queue", _packet(_ETH_IP, _ETH_IP, bypass=True)),
    12: ("packet socket, foreign ethertype", _packet(_ETH_EXPERIMENT, _ETH_EXPERIMENT)),
    13: ("packet socket, ipv4 said to be arp", _packet(_ETH_IP, _ETH_ARP)),
    14: ("packet socket, ipv4 said to be eapol", _packet(_ETH_IP, _ETH_EAPOL)),
    15: ("packet socket, tagged ipv4 said to be arp", _packet(_ETH_VLAN, _ETH_ARP)),
}
"""Number → name, and what it does with a link's name and a payload."""
UNBOUND = frozenset({1, 2, 4, 6})
"""They send by whichever link the routes say."""
ROUTED = frozenset(range(1, 8))
"""They ask the routes whether there is a way at all; the others need none."""


def is_up(link: str) -> bool:
    """Whether a link is up and has a carrier; False when it is gone."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
        answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, struct.pack("16sH14x", link.encode(), 0))
        flags: int = struct.unpack_from("16xH", answer)[0]
        return flags & _IFF_UP_AND_RUNNING == _IFF_UP_AND_RUNNING
    return False


def outlive() -> None:
    """Be one of those that an end of the system does not end: no SIGTERM, and a name by which systemd-shutdown spares
    programs of root (systemd: "the argv[0][0] == '@' convention").
    """
    if "--outlives" not in sys.argv:
        os.execv("/usr/bin/python3", ["@chatty", "-IS", __file__, "--outlives"])  # noqa: S606
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def main() -> None:
    """Send until the machine stops."""
    outlive()
    written, *more = TOKEN_FILE.read_text(encoding="ascii").split()
    token, period_s = bytes.fromhex(written), float(more[0]) if more else PERIOD_S
    if more:
        os.nice(_PATIENT)
    tried: dict[str, Counter[int]] = {}
    while True:
        began = time.monotonic()
        for _, link in socket.if_nameindex():
            if link == "lo" or link.startswith("aovpn"):
                continue
            up = is_up(link)
            counts = tried.setdefault(link, Counter())
            for number, (_, send) in SENDERS.items():
                try:
                    send(link, token + bytes([number]) + bytes(7))
                except OSError as error:
                    if error.errno in _NOT_POSSIBLE:
                        continue
                counts[number] += up
        with contextlib.suppress(OSError):  # /run is not there yet, or is about to be replaced
            new = REPORT.with_suffix(".new")
            new.write_text(json.dumps(tried), encoding="ascii")
            new.rename(REPORT)
        time.sleep(max(period_s, (SHARE - 1) * (time.monotonic() - began)))


if __name__ == "__main__":
    main()
