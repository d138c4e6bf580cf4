# SPDX-License-Identifier: GPL-3.0-or-later
"""Send many frames at once, by a packet socket: ``python -m tests.audits.pour LINK FILE ROUNDS``.

FILE holds each frame behind its length (two bytes). Nothing but the standard library: it starts in a moment.
"""

import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

LENGTH: Final = struct.Struct("!H")


def write(path: Path, frames: list[bytes]) -> None:
    """Make such a file."""
    path.write_bytes(b"".join(LENGTH.pack(len(frame)) + frame for frame in frames))


def read(path: Path) -> Iterator[bytes]:
    """The frames of such a file."""
    data, at = path.read_bytes(), 0
    while at < len(data):
        (length,) = LENGTH.unpack_from(data, at)
        at += LENGTH.size
        yield data[at : at + length]
        at += length


def main(arguments: list[str]) -> int:
    """Send them all, so many times."""
    link, path, rounds = arguments
    frames = list(read(Path(path)))
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((link, 0))
        for _ in range(int(rounds)):
            for frame in frames:
                sock.send(frame)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
