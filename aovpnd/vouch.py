# SPDX-License-Identifier: GPL-3.0-or-later
"""A lock that everybody may ask about and only root can hold: a write lock of an open file description
(fcntl_locking(2), Linux 3.15).

flock(2) is taken by whoever may read a file, so it proves nothing: any user could hold it in a dead daemon's place. A
write lock takes a descriptor that is open for writing; who asks whether a read lock would be in the way takes nothing.
"""

import fcntl
import sys

_ALL = bytes(30)
"""Of struct flock behind its type: from the start of the file, without end, by no process but the description."""


def take(descriptor: int) -> None:
    """Hold it until ``descriptor``, open for writing, is closed, copies and all. `BlockingIOError` if another does."""
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _lock(fcntl.F_WRLCK))


def is_held(descriptor: int) -> bool:
    """Whether somebody holds it; ``descriptor`` is open for reading."""
    return fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _lock(fcntl.F_RDLCK))[:2] != _lock(fcntl.F_UNLCK)[:2]


def _lock(kind: int) -> bytes:
    return kind.to_bytes(2, sys.byteorder) + _ALL
