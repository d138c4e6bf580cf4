# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock that only one process may hold, and that says who holds it: flock(2) on a file that carries the pid.

Only the user that locks it, and root's group, may open the file: who can open a file can lock it, and would keep a dead
guard from coming back. The group is for the daemon, which is root without root's powers and reads who the guard is.
"""

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
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
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


def holder(path: Path | str) -> int | None:
    """The pid of the process that holds the lock at ``path``, or None when nobody does, or somebody whom we cannot see.

    The pid in the file counts only if the kernel's list of locks (proc(5), /proc/locks) says so too. The lock itself is
    not tried: that would keep the one who wants it out for a moment.
    """
    try:
        # The guard's user could put a pipe there, at which opening would wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, encoding="ascii", errors="replace") as file:  # noqa: PTH123 - nobody's path
            text, inode = file.read(32).strip(), os.fstat(file.fileno()).st_ino
        with open("/proc/locks", encoding="ascii", errors="replace") as file:  # noqa: PTH123 - also for who has no pathlib
            held = [words for line in file if len(words := line.split()) > 5]  # noqa: PLR2004 - down to the inode
    except OSError:
        return None
    holders = {words[4] for words in held if words[1] == "FLOCK" and words[5].rpartition(":")[2] == str(inode)}
    return int(text) if text.isdigit() and text in holders else None
