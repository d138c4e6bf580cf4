# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a thread of ours into a network namespace; the other threads stay where they are."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_CLONE_NEWNET: Final = 0x40000000


@contextmanager
def entered(namespace: Path) -> Iterator[None]:
    """Be in the namespace of a file (``/run/netns/NAME``, ``/proc/PID/ns/net``), and back: setns(2)."""
    with Path("/proc/thread-self/ns/net").open("rb") as before:
        with namespace.open("rb") as inside:
            _setns(inside.fileno())
        try:
            yield
        finally:
            _setns(before.fileno())


def _setns(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
