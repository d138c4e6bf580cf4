# SPDX-License-Identifier: GPL-3.0-or-later
"""Two hundred sockets that were opened while the network was open, and go on sending for ever.

``python -m tests.netns.many_sockets TOKEN REPORT`` until SIGTERM: opens the sockets, prints ``ready`` when all of them
have sent, and then sends by each of them ten times a second. REPORT gets one record per try (`RECORD`): Unix time, the
socket's number, errno (0: the kernel took it).
"""

import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.lab import plan
from tests.lab.process import SLOW

RECORD: Final = struct.Struct("<dHB")
EACH: Final = 34
INTERVAL_S: Final = 0.1
_OPEN_DEADLINE_S: Final = 3.0 * SLOW
_DOWNLOAD: Final = b"GET /paced?bytes=1000000000&rate=2000 HTTP/1.1\r\nHost: web\r\n\r\n"

Send = Callable[[bytes], object]


def _udp(address: str) -> Send:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    return lambda payload: sock.sendto(payload, (address, plan.ECHO_PORT))


def _connected(address: str) -> Send:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    sock.connect((address, plan.ECHO_PORT))
    return sock.send


def _tcp(address: str) -> Send:
    """A download that runs, on whose connection we send as well."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.create_connection((address, 80), _OPEN_DEADLINE_S) if family == socket.AF_INET else None
    if sock is None:
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.settimeout(_OPEN_DEADLINE_S)
        sock.connect((address, 80))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(_DOWNLOAD)
    sock.setblocking(False)
    stream = sock

    def send(payload: bytes) -> int:
        if select.select([stream], [], [], 0)[0]:
            stream.recv(65536)
        return stream.send(payload)

    return send


def _ping(address: str) -> Send:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMP)
    return lambda payload: sock.sendto(struct.pack("!BBHHH", 8, 0, 0, 0, 1) + payload, (address, 0))


KINDS: Final[tuple[tuple[str, Callable[[], Send]], ...]] = (
    ("udp4", lambda: _udp(str(plan.ECHO4))),
    ("udp6", lambda: _udp(str(plan.ECHO6))),
    ("connected4", lambda: _connected(str(plan.ECHO4))),
    ("tcp4", lambda: _tcp(str(plan.WEB4))),
    ("tcp6", lambda: _tcp(str(plan.WEB6))),
    ("ping4", lambda: _ping(str(plan.WEB4))),
)
SOCKETS: Final = EACH * len(KINDS)
FIRST: Final = 64
"""Sender number of the first kind behind the token (tests.lab.sender_kinds has those below)."""


def main(arguments: list[str]) -> int:
    """Send until SIGTERM."""
    token, report = bytes.fromhex(arguments[0]), Path(arguments[1])
    running = True

    def end(_signal: int, _frame: object) -> None:
        nonlocal running
        running = False

    signal.signal(signal.SIGTERM, end)
    sockets = [(number, opener()) for number, (_name, opener) in enumerate(KINDS) for _ in range(EACH)]
    announced = False
    with report.open("wb", buffering=0) as file:
        due = time.monotonic()
        while running:
            records = b""
            for index, (kind, send) in enumerate(sockets):
                status, stamp = 0, time.time()
                try:
                    send(token + bytes([FIRST + kind]))
                except OSError as error:
                    status = min(error.errno or 254, 254)
                records += RECORD.pack(stamp, index, status)
            file.write(records)
            if not announced:
                print("ready", flush=True)
                announced = True
            due = max(due + INTERVAL_S, time.monotonic())
            time.sleep(due - time.monotonic() if due > time.monotonic() else 0)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
