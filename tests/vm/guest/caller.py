#!/usr/bin/python3 -IS
# SPDX-License-Identifier: GPL-3.0-or-later
"""A telephone call with a download beside: fifty packets a second to an echo service, and one long TCP stream.

``caller ECHO WEB REPORT`` until it is killed. REPORT gets a line for each echo (``e``) and each piece of the stream
(``d``) that came, with the seconds since power-on, and for each connection of the stream (``c``): one, if it lives. The
call's socket is never bound and never made anew, and the stream's is given up only when the kernel calls it dead.
"""

import contextlib
import selectors
import socket
import struct
import sys
import time
from pathlib import Path
from typing import IO

INTERVAL_S = 0.02
ECHO_PORT = 7
WEB_PORT = 80
STREAM_BYTES = 1 << 30
STREAM_RATE = 50_000
"""Bytes a second: little enough for a machine that is translated."""
_AGAIN_S = 1.0


def now() -> float:
    """Seconds since power-on, as in /proc/uptime."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def note(report: IO[str], what: str) -> None:
    """Write that something came, and when."""
    report.write(f"{what} {now():.4f}\n")


def connect(web: str) -> socket.socket:
    """Begin to ask for the stream; it is connected when it can be written."""
    stream = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    stream.setblocking(False)
    stream.connect_ex((web, WEB_PORT))
    return stream


def main(echo: str, web: str, path: str) -> None:
    """Talk, listen and download."""
    line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    line.setblocking(False)
    asking = f"GET /paced?bytes={STREAM_BYTES}&rate={STREAM_RATE} HTTP/1.1\r\nHost: {web}\r\n\r\n".encode()
    with Path(path).open("w", encoding="ascii", buffering=1) as report, selectors.DefaultSelector() as selector:
        selector.register(line, selectors.EVENT_READ)
        stream: socket.socket | None = None
        due = again = now()
        while True:
            if stream is None and now() >= again:
                stream = connect(web)
                selector.register(stream, selectors.EVENT_WRITE)
            for key, _ in selector.select(max(0.0, due - now())):
                if key.fileobj is line:
                    with contextlib.suppress(OSError):
                        line.recv(64)
                        note(report, "e")
                    continue
                if stream is None:
                    continue
                try:
                    if key.events & selectors.EVENT_WRITE:
                        stream.send(asking)
                        selector.modify(stream, selectors.EVENT_READ)
                        note(report, "c")
                    elif stream.recv(1 << 16):
                        note(report, "d")
                    else:
                        raise ConnectionResetError
                except OSError:
                    selector.unregister(stream)
                    stream.close()
                    stream, again = None, now() + _AGAIN_S
            if now() >= due:
                due += INTERVAL_S
                with contextlib.suppress(OSError):  # refused for a moment: whoever speaks on is heard again
                    line.sendto(struct.pack("<d", due), (echo, ECHO_PORT))


if __name__ == "__main__":
    main(*sys.argv[1:])
