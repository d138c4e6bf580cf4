# SPDX-License-Identifier: GPL-3.0-or-later
"""Files for those borders that are files: a directory in memory, gone with the process."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

_MEMORY = Path("/dev/shm")  # noqa: S108 - only a mount point; the directory in it is new, and ours alone


@cache
def place(name: str) -> Path:
    """A directory of this process, with nothing in it at first."""
    made = Path(tempfile.mkdtemp(prefix=f"aovpnd-fuzz-{name}-", dir=_MEMORY if _MEMORY.is_dir() else None))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def put(path: Path, content: bytes | str | None, mode: int = 0o600) -> Path:
    """A file that says this, or none."""
    if content is None:
        path.unlink(missing_ok=True)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    path.chmod(mode)
    return path
