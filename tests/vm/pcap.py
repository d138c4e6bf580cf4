# SPDX-License-Identifier: GPL-3.0-or-later
"""The captures that QEMU and the guest's sniffer write: pcap, little-endian, microseconds."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_FILE_HEAD: Final = 24
_FRAME_HEAD: Final = 16


def frames_of(path: Path, start: int = 0) -> Iterator[bytes]:
    """The frames of a file, from byte ``start`` on (an earlier size of it); one that is being written is left out."""
    data = path.read_bytes()
    at = max(start, _FILE_HEAD)
    while at + _FRAME_HEAD <= len(data):
        (length,) = struct.unpack_from("<I", data, at + 8)
        at += _FRAME_HEAD
        if at + length > len(data):
            return
        yield data[at : at + length]
        at += length
