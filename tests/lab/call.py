# SPDX-License-Identifier: GPL-3.0-or-later
"""A telephone call: fifty packets a second to the echo service, and when their echoes came.

``python -m tests.lab.call ADDRESS REPORT [INTERVAL]`` until SIGTERM; REPORT gets the Unix time of each packet as it is
sent, and of each echo as it comes. The socket is opened once and never bound: what becomes of it from network to
network is what a call would notice. Another interval (seconds) measures more finely.
"""

import contextlib
import itertools
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tests.lab import plan

RECORD: Final = struct.Struct("<dd")
"""When a packet was sent, and when its echo came; `_UNHEARD` as it is sent."""
INTERVAL_S: Final = 0.02
_UNHEARD: Final = 0.0


def _records(report: Path) -> list[tuple[float, float]]:
    data = report.read_bytes()
    return list(RECORD.iter_unpack(data[: len(data) // RECORD.size * RECORD.size]))


def arrivals(report: Path) -> list[float]:
    """When echoes came, in order (Unix times)."""
    return [heard for _, heard in _records(report) if heard != _UNHEARD]


def _said_and_heard(report: Path, start: float, end: float) -> tuple[set[float], set[float]]:
    """Of the packets of a span of Unix time: when they were sent, of all and of those whose echo has come."""
    spoken = [(sent, heard) for sent, heard in _records(report) if start <= sent < end]
    said = {sent for sent, heard in spoken if heard == _UNHEARD}
    return said, {sent for sent, heard in spoken if heard != _UNHEARD}


def share(report: Path, start: float, end: float) -> float:
    """The share of the packets of a span of Unix time whose echo has come; 0 when none was sent."""
    said, heard = _said_and_heard(report, start, end)
    return len(heard) / len(said) if said else 0.0


def lost(report: Path, start: float, end: float) -> int:
    """How many packets were sent in a span of Unix time whose echo has not come."""
    said, heard = _said_and_heard(report, start, end)
    return len(said - heard)


def first_heard(report: Path, since: float) -> float | None:
    """When the first echo came of what was sent after a moment (Unix times); None while none has."""
    return min((heard for sent, heard in _records(report) if sent >= since and heard != _UNHEARD), default=None)


def is_heard(report: Path, since: float) -> bool:
    """Whether an echo has come of something that was sent after a moment (Unix time)."""
    return any(sent >= since and heard != _UNHEARD for sent, heard in _records(report))


def gap(report: Path, start: float, end: float) -> float:
    """The longest silence between ``start`` and ``end`` in seconds."""
    return longest_silence(arrivals(report), start, end)


def longest_silence(moments: Iterable[float], start: float, end: float) -> float:
    """The longest time between two moments, or one and an end of the span; the whole span when there is none in it."""
    inside = [start, *(moment for moment in moments if start < moment < end), end]
    return max(after - before for before, after in itertools.pairwise(inside))


def main(arguments: list[str]) -> int:
    """Talk and listen until SIGTERM."""
    running, interval_s = True, float(arguments[2]) if len(arguments) > 2 else INTERVAL_S

    def end(_signal: int, _frame: object) -> None:
        nonlocal running
        running = False

    signal.signal(signal.SIGTERM, end)
    family = socket.AF_INET6 if ":" in arguments[0] else socket.AF_INET
    line = socket.socket(family, socket.SOCK_DGRAM)
    with Path(arguments[1]).open("wb", buffering=0) as file:
        due = time.monotonic()
        while running:
            sent = time.time()
            file.write(RECORD.pack(sent, _UNHEARD))
            with contextlib.suppress(OSError):  # refused for a moment: whoever speaks on is heard again
                line.sendto(struct.pack("<d", sent), (arguments[0], plan.ECHO_PORT))
            due += interval_s
            while (left := due - time.monotonic()) > 0:
                line.settimeout(left)
                with contextlib.suppress(OSError):
                    (echoed,) = struct.unpack("<d", line.recv(64))
                    file.write(RECORD.pack(echoed, time.time()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
