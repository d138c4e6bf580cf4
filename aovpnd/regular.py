# SPDX-License-Identifier: GPL-3.0-or-later
"""Read a file whose place somebody may have taken with something else, without ever waiting for it.

Opening a named pipe waits until somebody writes to it: in the place of a file that is read in every pass, it would stop
the daemon for good, also the next one, before it has loaded anything.
"""

import errno
import os
import stat
from pathlib import Path


def read(path: Path, most: int) -> bytes:
    """The first ``most`` bytes of a regular file. `OSError` when it is none (EINVAL), or cannot be read."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "is no regular file", str(path))
        return file.read(most)
