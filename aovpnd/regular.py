# SPDX-License-Identifier: GPL-3.0-or-later
"""Read a file whose place somebody may have taken with something else, without ever waiting for it; keep one whole.

Opening a named pipe waits until somebody writes to it: in the place of a file that is read in every pass, it would stop
the daemon for good, also the next one, before it has loaded anything.
"""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def read(path: Path, most: int) -> bytes:
    """The first ``most`` bytes of a regular file. `OSError` when it is none (EINVAL), or cannot be read."""
    with opened(path) as file:
        return file.read(most)


def opened(path: Path | str, *, follow: bool = True, write: bool = False, directory: int | None = None) -> BinaryIO:
    """A regular file, opened, with ``write`` to be changed as well; a relative path may begin in an open ``directory``.
    `OSError` when it is none (EINVAL), or is a link (ELOOP) that shall not be followed: where somebody else may write,
    it could lead to what only we may change.
    """
    flags = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    flags |= (os.O_RDWR if write else os.O_RDONLY) | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags, dir_fd=directory)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "is no regular file", str(path))  # noqa: TRY301 - closed below
        return os.fdopen(descriptor, "r+b" if write else "rb")
    except OSError:
        os.close(descriptor)
        raise


def put(path: Path, text: str, *, secret: bool = True) -> None:
    """Keep a file that root alone reads, or everybody where it is no ``secret``: whole or not at all, also when the
    power is cut. Its directory is made where it is missing. `OSError`.
    """
    new = path.with_name(f".{path.name}.new")
    path.parent.mkdir(mode=0o700 if secret else 0o755, parents=True, exist_ok=True)
    mode = 0o600 if secret else 0o644
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())  # a budget that a power cut forgets is no budget
    new.replace(path)
