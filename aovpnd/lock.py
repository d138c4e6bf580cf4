# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock that only one process may hold, and that says who holds it: flock(2) on a file that carries the pid."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from aovpnd.errors import AlreadyRunning, StateError


class Lock:
    """Held from entering to leaving, or to the death of the process. `AlreadyRunning` when another holds it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def __enter__(self) -> Self:
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise StateError(f"{self._path}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            pid = holder(self._path)
            raise AlreadyRunning(
                f"another process holds {self._path}" + (f" (pid {pid})" if pid else ""), hint="there can be only one"
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)


def holder(path: Path) -> int | None:
    """The pid of the process that holds the lock at ``path``, or None when nobody does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.read(descriptor, 32).strip()
        return int(text) if text.isdigit() else None
    else:
        return None
    finally:
        os.close(descriptor)
