# SPDX-License-Identifier: GPL-3.0-or-later
"""The queues of outside links, taken so that nobody else can: AF_XDP sends past every hook of the kernel.

A program with CAP_NET_RAW can bind an AF_XDP socket to a queue of a link and hand frames to the driver: no inet hook
and no egress chain sees them. But a queue takes one such socket. The guard binds one to each, in copy mode, which every
driver has and which changes nothing for anybody (Documentation/networking/af_xdp.rst); it sends and receives nothing.
"""

import ctypes
import errno
import logging
import mmap
import os
import resource
import select
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol

from aovpnd.links import Link

log = logging.getLogger("aovpnd.guard")

MOST_QUEUES: Final = 1024
"""Of one link; more than any card of a laptop has."""
SPARE: Final = 64
"""Descriptors that are left for everything else that the guard does, which matters more."""

_AF_XDP: Final = 44
_SOL_XDP: Final = 283
_TX_RING, _UMEM_REG, _FILL_RING, _COMPLETION_RING = 3, 4, 5, 6
_COPY: Final = 1 << 1
_PAGE: Final = mmap.PAGESIZE
_UMEM: Final = struct.Struct("=QQIIIxxxx")
_ADDRESS: Final = struct.Struct("=HHIII")


class Taken(Protocol):
    """A queue that is ours until it is closed."""

    def fileno(self) -> int:
        """Its descriptor, which is writable while link and queue are there and the link is up."""

    def close(self) -> None:
        """Give it back."""


class _Binder:
    """Opens AF_XDP sockets; none of them ever sends, so they share one page of memory."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._page = mmap.mmap(-1, _PAGE)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._page))

    def __call__(self, index: int, queue: int) -> Taken:
        """Bind to a queue of the link with this index; OSError with the kernel's reason."""
        taken = socket.socket(_AF_XDP, socket.SOCK_RAW | socket.SOCK_CLOEXEC)
        try:
            taken.setsockopt(_SOL_XDP, _UMEM_REG, _UMEM.pack(self._address, _PAGE, _PAGE, 0, 0))
            for ring in (_FILL_RING, _COMPLETION_RING, _TX_RING):
                taken.setsockopt(_SOL_XDP, ring, 1)
            where = _ADDRESS.pack(_AF_XDP, _COPY, index, queue, 0)  # Python's own bind knows no such address
            failed = self._libc.bind(taken.fileno(), where, len(where)) != 0
        except OSError:
            taken.close()
            raise
        if failed:
            number = ctypes.get_errno()
            taken.close()
            raise OSError(number, os.strerror(number))
        return taken


class Queues:
    """Holds every queue of the outside links, as far as the kernel has AF_XDP. Used from one thread."""

    def __init__(self, bind: Callable[[int, int], Taken] | None = None, room: int | None = None) -> None:
        self._bind = bind or _Binder()
        self._room = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE if room is None else room
        self._taken: dict[tuple[int, int], Taken] = {}
        self._foreign: frozenset[tuple[int, int]] = frozenset()
        self._done: frozenset[Link] = frozenset()
        self._complaint = ""

    def follow(self, links: Iterable[Link]) -> None:
        """Take what these links have and let go of what others had. A queue that somebody else has is tried again each
        time, and reported once.
        """
        names = {link.index: link.name for link in links}
        for index, queue in [key for key in self._taken if key[0] not in names]:
            self._taken.pop((index, queue)).close()
        ours = self._surely_ours()
        doubtful = {index for index, queue in (*self._foreign, *(self._taken.keys() - ours))}
        # A link that looks as it did has no more queues than it had, and a storm may be about others.
        new = [link.index for link in links if link not in self._done or link.index in doubtful]
        foreign = {key for index in new for key in self._take_all(index, ours)}
        for index, queue in sorted(foreign - self._foreign):
            name = names[index]
            log.warning("another program has taken queue %d of %s: by AF_XDP it sends past the block", queue, name)
        self._foreign = frozenset(foreign)
        self._done = frozenset(links)

    def _take_all(self, index: int, ours: set[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Take every queue of a link but those that are ``ours``; the others' are yielded."""
        for key in ((index, queue) for queue in range(MOST_QUEUES)):
            if key in ours:
                continue
            found = self._take(key)
            if found == errno.EBUSY and key not in self._taken:
                yield key
            elif found not in (0, errno.EBUSY):
                return

    def _take(self, key: tuple[int, int]) -> int:
        """Try one; 0, or why not."""
        if len(self._taken) >= self._room:
            self._complain("there are more queues than a process may have files")
            return errno.EMFILE
        try:
            taken = self._bind(*key)
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.EINVAL, errno.ENODEV, errno.ENXIO):
                self._complain(error.strerror or str(error))
            return error.errno or errno.EIO
        if old := self._taken.pop(key, None):
            old.close()
        self._taken[key] = taken
        return 0

    def _complain(self, why: str) -> None:
        """Say once that queues are left to others; a kernel without AF_XDP has none to take."""
        if why != self._complaint:
            log.warning("not every queue is taken: %s", why)
            self._complaint = why

    def _surely_ours(self) -> set[tuple[int, int]]:
        """Those whose socket still works: that of a link that went away and came back does not, nor is one of a link
        that is down to be told from it.
        """
        poll = select.poll()
        by_number = {taken.fileno(): key for key, taken in self._taken.items()}
        for number in by_number:
            poll.register(number, select.POLLOUT)
        return {by_number[number] for number, events in poll.poll(0) if events & select.POLLOUT}
