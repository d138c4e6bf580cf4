# SPDX-License-Identifier: GPL-3.0-or-later
"""A telephone call: fifty packets a second to the echo service, and when their echoes came.

``python -m tests.lab.call ADDRESS REPORT`` until SIGTERM; REPORT gets the Unix time of each echo as it comes. The
socket is opened once and never bound: what becomes of it from network to network is what a call would notice.
"""

import contextlib
import itertools
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Final

from tests.lab import plan

RECORD: Final = struct.Struct("<d")
INTERVAL_S: Final = 0.02


def arrivals(report: Path) -> list[float]:
    """When echoes came, in order (Unix times)."""
    data = report.read_bytes()
    return [moment for (moment,) in RECORD.iter_unpack(data[: len(data) // RECORD.size * RECORD.size])]


def gap(report: Path, start: float, end: float) -> float:
    """The longest silence between ``start`` and ``end`` in seconds."""
    moments = [start, *(moment for moment in arrivals(report) if start < moment < end), end]
    return max(after - before for before, after in itertools.pairwise(moments))


def main(arguments: list[str]) -> int:
    """Talk and listen until SIGTERM."""
    running = True

    def end(_signal: int, _frame: object) -> None:
        nonlocal running
        running = False

    signal.signal(signal.SIGTERM, end)
    family = socket.AF_INET6 if ":" in arguments[0] else socket.AF_INET
    line = socket.socket(family, socket.SOCK_DGRAM)
    with Path(arguments[1]).open("wb", buffering=0) as file:
        due = time.monotonic()
        while running:
            with contextlib.suppress(OSError):  # refused for a moment: whoever speaks on is heard again
                line.sendto(b"hello", (arguments[0], plan.ECHO_PORT))
            due += INTERVAL_S
            while (left := due - time.monotonic()) > 0:
                line.settimeout(left)
                with contextlib.suppress(OSError):
                    line.recv(64)
                    file.write(RECORD.pack(time.time()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
