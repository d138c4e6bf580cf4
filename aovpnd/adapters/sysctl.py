# SPDX-License-Identifier: GPL-3.0-or-later
"""/proc/sys, as sysctl(8) sees it; keys with slashes, because link names may hold dots."""

from pathlib import Path
from typing import Final

from aovpnd.errors import NetlinkError

PROC_SYS: Final = Path("/proc/sys")


def read(key: str, root: Path = PROC_SYS) -> int | None:
    """The value of a numeric key, or None when the kernel does not have it."""
    try:
        return int((root / key).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def ensure(key: str, value: int, root: Path = PROC_SYS) -> None:
    """Make a key have a value; it is written only if it differs. `NetlinkError` when it cannot be."""
    if read(key, root) == value:
        return
    try:
        (root / key).write_text(f"{value}\n", encoding="ascii")
    except OSError as error:
        raise NetlinkError(
            f"cannot set {key.replace('/', '.')} to {value}: {error.strerror}",
            hint="is /proc/sys writable for the daemon? A sandbox or container may mount it read-only",
        ) from error
    if read(key, root) != value:
        raise NetlinkError(f"{key.replace('/', '.')} did not become {value}")


def has_ipv6(root: Path = PROC_SYS) -> bool:
    """Whether this kernel speaks IPv6 at all.

    ``disable_ipv6`` does not count: any link may have it set back at any time, and rules and routes can be made all the
    same.
    """
    return (root / "net/ipv6/conf/all/disable_ipv6").exists()
