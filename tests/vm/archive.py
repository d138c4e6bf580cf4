# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive that a Linux kernel unpacks at boot: cpio in the "newc" form, written without any program.

Format: https://docs.kernel.org/driver-api/early-userspace/buffer-format.html. Every entry belongs to root. Archives may
be concatenated, which is how a machine gets its own files on top of a cached base.
"""

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

_MAGIC: Final = "070701"
_TRAILER: Final = "TRAILER!!!"


@dataclass(frozen=True, slots=True)
class File:
    """A regular file; ``mode`` holds permission bits alone."""

    data: bytes
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Symlink:
    """A symbolic link; the target is not looked at."""

    target: str


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory. Parents of other entries are made by themselves, as 0755."""

    mode: int = 0o755


Entry = File | Symlink | Directory
Tree = Mapping[str, Entry]
"""Absolute path in the target → what is there."""


def text(content: str, mode: int = 0o644) -> File:
    """Return a file that holds ``content`` as UTF-8."""
    return File(content.encode(), mode)


def copied(path: Path, mode: int | None = None) -> File:
    """Return a copy of a file on this machine; its permission bits too unless ``mode`` is given."""
    return File(path.read_bytes(), stat.S_IMODE(path.stat().st_mode) if mode is None else mode)


def cpio(tree: Tree) -> bytes:
    """Return the archive of ``tree``, parents before children, ending on a 512-byte border."""
    whole: dict[str, Entry] = {}
    for path in sorted(tree):
        for parent in reversed(PurePosixPath(path).parents):
            if str(parent) != "/":
                whole.setdefault(str(parent), tree.get(str(parent), Directory()))
        whole[path] = tree[path]
    out = bytearray()
    for number, (path, entry) in enumerate(whole.items(), start=1):
        match entry:
            case File(data, mode):
                out += _record(path.lstrip("/"), number, stat.S_IFREG | mode, data)
            case Symlink(target):
                out += _record(path.lstrip("/"), number, stat.S_IFLNK | 0o777, target.encode())
            case Directory(mode):
                out += _record(path.lstrip("/"), number, stat.S_IFDIR | mode, b"")
    out += _record(_TRAILER, 0, 0, b"")
    out += bytes(-len(out) % 512)
    return bytes(out)


def _record(name: str, inode: int, mode: int, data: bytes) -> bytes:
    """One header, name and content, each padded to four bytes. Owner, times and device numbers are zero."""
    encoded = name.encode() + b"\0"
    fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
    header = (_MAGIC + "".join(f"{field:08X}" for field in fields)).encode()
    head = header + encoded
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)
