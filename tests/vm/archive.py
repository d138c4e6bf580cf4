# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive that a Linux kernel unpacks at boot: cpio in the "newc" form, written without any program.

Format: https://docs.kernel.org/driver-api/early-userspace/buffer-format.html. Every entry belongs to root. Archives may
be concatenated, which is how a machine gets its own files on top of a cached base.
"""

import stat
from pathlib import PurePosixPath
from typing import Final

from tests.lab.tree import Directory, Entry, File, Symlink, Tree

_MAGIC: Final = "070701"
_TRAILER: Final = "TRAILER!!!"


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
