#!/usr/bin/python3 -IS
# SPDX-License-Identifier: GPL-3.0-or-later
"""Notes four times a second whether the laptop is online, and whether it has an uplink, from before systemd starts.

A line of /run/online: seconds since power-on without sleep, 1 or 0 for the uplink, and how many answers of the echo
service came since the line before, over IPv4 and over IPv6. There is an uplink when a card that has carrier has a
default route to the router that /etc/uplinks names for it, a line for each: the card, and its router.
"""

import contextlib
import selectors
import socket
import struct
import time
from pathlib import Path

ECHO4, ECHO6, ECHO_PORT = "203.0.113.7", "2001:db8:80::7", 7
TICK_S = 0.25
REPORT = Path("/run/online")
UPLINKS = Path("/etc/uplinks")
_ROUTES = Path("/proc/net/route")
_GATEWAY = 0x2


def has_uplink() -> bool:
    """Whether one of the routers is a default route's, by a card with carrier."""
    with contextlib.suppress(OSError):
        routers = {tuple(line.split()) for line in UPLINKS.read_text(encoding="ascii").splitlines()}
        for line in _ROUTES.read_text(encoding="ascii").splitlines()[1:]:
            link, to, by, flags, *_ = line.split()
            router = socket.inet_ntoa(struct.pack("=L", int(by, 16)))
            if int(to, 16) == 0 and int(flags, 16) & _GATEWAY and (link, router) in routers and has_carrier(link):
                return True
    return False


def has_carrier(link: str) -> bool:
    """Whether a card is up and has carrier."""
    with contextlib.suppress(OSError):
        return Path(f"/sys/class/net/{link}/carrier").read_text(encoding="ascii").strip() == "1"
    return False


def main() -> None:
    """Ask and note until the machine stops."""
    sockets = {
        socket.socket(family, socket.SOCK_DGRAM): (address, ECHO_PORT)
        for family, address in ((socket.AF_INET, ECHO4), (socket.AF_INET6, ECHO6))
    }
    with selectors.DefaultSelector() as selector:
        for sock in sockets:
            sock.setblocking(False)
            selector.register(sock, selectors.EVENT_READ)
        due = time.monotonic()
        while True:
            heard = dict.fromkeys(sockets, 0)
            due = max(due + TICK_S, time.monotonic())
            for sock, echo in sockets.items():
                with contextlib.suppress(OSError):
                    sock.sendto(b"meter", echo)
            while (left := due - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    with contextlib.suppress(OSError):
                        key.fileobj.recv(64)  # type: ignore[union-attr]  # they are sockets
                        heard[key.fileobj] += 1  # type: ignore[index]
            counts = " ".join(map(str, heard.values()))
            with contextlib.suppress(OSError), REPORT.open("a", encoding="ascii") as report:
                report.write(f"{time.monotonic():.2f} {has_uplink():d} {counts}\n")


if __name__ == "__main__":
    main()
