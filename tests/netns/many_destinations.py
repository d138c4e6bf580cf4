# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends one packet to each of many destinations, as an ordinary program would; what came of it goes to stdout.

Reads a JSON list of [protocol, address, port, link] (port null for a ping, link "" but for link-local addresses), and
writes the list of errno values, 0 where nothing was said.
"""

import errno
import json
import socket
import struct
import sys
from typing import Final

ECHO: Final = {socket.AF_INET: 8, socket.AF_INET6: 128}
"""The type of an echo request, by family."""


def send(protocol: str, address: str, port: int | None, link: str) -> int:
    """Send one; its errno."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    scope = (0, socket.if_nametoindex(link) if link else 0) if family == socket.AF_INET6 else ()
    to = (address, port or 0, *scope)
    kind, number = socket.SOCK_DGRAM, 0
    if protocol == "tcp":
        kind = socket.SOCK_STREAM
    elif protocol == "icmp":
        number = socket.IPPROTO_ICMPV6 if family == socket.AF_INET6 else socket.IPPROTO_ICMP
    with socket.socket(family, kind | socket.SOCK_NONBLOCK, number) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        try:
            if protocol == "tcp":
                sender.connect(to)
            else:
                sender.sendto(struct.pack("!BBHHH", ECHO[family], 0, 0, 0, 1) if port is None else b"data", to)
        except OSError as error:
            return 0 if error.errno == errno.EINPROGRESS else error.errno or -1
    return 0


if __name__ == "__main__":
    json.dump([send(*destination) for destination in json.load(sys.stdin)], sys.stdout)
