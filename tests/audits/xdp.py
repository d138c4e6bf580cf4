# SPDX-License-Identifier: GPL-3.0-or-later
"""AF_XDP (D3): frames that go from a program's memory to the driver, past every hook; CAP_NET_RAW is enough.

Documentation/networking/af_xdp.rst of the kernel; copy mode, which every driver has.
"""

import ctypes
import itertools
import mmap
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Final

from tests.audits.shot import Shot
from tests.lab.host import Host
from tests.lab.sender_kinds import frame

AF_XDP: Final = 44
_SOL_XDP: Final = 283
_MMAP_OFFSETS, _TX_RING, _UMEM_REG, _FILL_RING, _COMPLETION_RING = 1, 3, 4, 5, 6
_PAGE: Final = 4096
_ENTRIES: Final = 64
_TX_RING_AT: Final = 0x80000000
_COPY: Final = 2
_COMPLETIONS_AT: Final = 0x180000000


class XdpSocket:
    """A socket on one queue of a link; sends single frames."""

    def __init__(self, link: str, queue: int) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._sock = socket.socket(AF_XDP, socket.SOCK_RAW)
        self._memory = mmap.mmap(-1, _PAGE * 4)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._sock.setsockopt(_SOL_XDP, _UMEM_REG, struct.pack("QQIII4x", address, _PAGE * 4, _PAGE, 0, 0))
        for ring in (_FILL_RING, _COMPLETION_RING, _TX_RING):
            self._sock.setsockopt(_SOL_XDP, ring, struct.pack("i", _ENTRIES))
        offsets = struct.unpack("16Q", self._sock.getsockopt(_SOL_XDP, _MMAP_OFFSETS, 128))
        self._tx, self._done = offsets[4:8], offsets[12:16]
        where = struct.pack("HHIII", AF_XDP, _COPY, socket.if_nametoindex(link), queue, 0)
        if self._libc.bind(self._sock.fileno(), where, len(where)):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        descriptor = self._sock.fileno()
        self._ring = mmap.mmap(descriptor, self._tx[2] + 16 * _ENTRIES, offset=_TX_RING_AT)
        self._completions = mmap.mmap(descriptor, self._done[2] + 8 * _ENTRIES, offset=_COMPLETIONS_AT)
        self._sent = 0

    def send(self, data: bytes) -> None:
        """Hand one frame to the driver."""
        self._memory[: len(data)] = data
        at = self._tx[2] + 16 * (self._sent % _ENTRIES)
        self._ring[at : at + 16] = struct.pack("QII", 0, len(data), 0)
        self._sent += 1
        self._ring[self._tx[0] : self._tx[0] + 4] = struct.pack("I", self._sent)
        if self._libc.sendto(self._sock.fileno(), None, 0, socket.MSG_DONTWAIT, None, 0) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        self._completions[self._done[1] : self._done[1] + 4] = struct.pack("I", self._sent)


def shots(link: str, count: int) -> Iterator[Shot]:
    """Frames of IPv4, IPv6 and an experiment, by every queue; each tries to get a socket anew while it has none."""
    sockets: dict[int, XdpSocket] = {}

    def through(queue: int, ethertype: int) -> Callable[[bytes], object]:
        def send(payload: bytes) -> None:
            if queue not in sockets:
                sockets[queue] = XdpSocket(link, queue)
            sockets[queue].send(frame(ethertype, payload))

        return send

    for _, queue, ethertype in itertools.product(range(max(1, count // 32)), range(4), (0x0800, 0x86DD, 0x88B5)):
        yield Shot("xdp", through(queue, ethertype))


_TRY: Final = """
import errno, sys
from tests.audits.xdp import XdpSocket
try:
    XdpSocket(sys.argv[1], 0)
    print("bound")
except OSError as error:
    print(errno.errorcode[error.errno])
"""


def queue_state(host: Host, link: str) -> str:
    """What somebody hears who wants the first queue of a link: ``bound``, or the name of an errno."""
    return host.run(sys.executable, "-c", _TRY, link).stdout.strip()
