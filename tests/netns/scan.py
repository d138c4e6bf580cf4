# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at a host from outside: ``python -m tests.netns.scan ADDRESS PORT...`` tries TCP and UDP, and prints JSON.

``{"open": N, "refused": N, "silent": N, "udp_refused": N}``; what has not answered within a second is silent.
``python -m tests.netns.scan --arp LINK SOURCE ADDRESS`` asks who has an address, and prints the number of answers.
"""

import errno
import json
import select
import socket
import struct
import sys
import time
from collections import Counter
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

WAIT_S: Final = 1.0
_ARP: Final = 0x0806
_WORDS: Final = {0: "open", errno.ECONNREFUSED: "refused", errno.EHOSTUNREACH: "silent"}
"""EHOSTUNREACH is our own kernel's word: it got no answer from neighbour discovery."""


def scan(address: str, ports: list[int]) -> Counter[str]:
    """Connect to each port, and send a datagram to it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    found: Counter[str] = Counter(open=0, refused=0, silent=0, udp_refused=0)
    waiting, datagrams = {}, []
    for port in ports:
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.connect_ex((address, port))
        waiting[sock.fileno()] = sock
        udp = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        udp.connect((address, port))
        udp.send(b"anybody there?")
        datagrams.append(udp)
    deadline = time.monotonic() + WAIT_S
    poll = select.poll()
    for number in waiting:
        poll.register(number, select.POLLOUT | select.POLLERR)
    while waiting and (left := deadline - time.monotonic()) > 0:
        for number, _ in poll.poll(left * 1000):
            sock = waiting.pop(number)
            poll.unregister(number)
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            found[_WORDS.get(error) or errno.errorcode[error]] += 1
    found["silent"] += len(waiting)
    for udp in datagrams:
        found["udp_refused"] += udp.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
    return found


def who_has(link: str, source: str, address: str) -> int:
    """Ask five times who has an address; returns how many answers came."""
    mac = bytes.fromhex(Path(f"/sys/class/net/{link}/address").read_text(encoding="ascii").replace(":", ""))
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ARP))
    sock.bind((link, _ARP))
    asked, target = IPv4Address(source).packed, IPv4Address(address).packed
    question = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, mac, asked, bytes(6), target)
    for _ in range(5):
        sock.send(b"\xff" * 6 + mac + struct.pack("!H", _ARP) + question)
    answers, deadline = 0, time.monotonic() + WAIT_S
    while (left := deadline - time.monotonic()) > 0:
        if select.select([sock], [], [], left)[0]:
            frame = sock.recv(2048)
            answers += frame[20:22] == b"\0\2" and frame[28:32] == target
    return answers


def main(arguments: list[str]) -> int:
    """Print what is found."""
    if arguments[0] == "--arp":
        print(who_has(*arguments[1:4]))
    else:
        print(json.dumps(scan(arguments[0], list(map(int, arguments[1:])))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
