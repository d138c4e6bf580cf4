# SPDX-License-Identifier: GPL-3.0-or-later
"""Be woken when files change, or who may read and write them, by inotify(7), which the standard library does not have:
three calls of the C library.

A wake-up and nothing more: what a file says is read in the pass that follows. Where the kernel gives no watch (its
number is limited), the loop's own resync still looks now and then.
"""

import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

IN_MODIFY, IN_ATTRIB, IN_CLOSE_WRITE, IN_MOVED_TO, IN_CREATE, IN_DELETE = 0x2, 0x4, 0x8, 0x80, 0x100, 0x200
_OF_FILE: Final = IN_MODIFY | IN_CLOSE_WRITE
_OF_DIRECTORY: Final = IN_ATTRIB | IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_DELETE
_EVENT: Final = struct.Struct("iIII")  # inotify_event: watch, mask, cookie, length of the name
_BUFFER: Final = 1 << 16
_libc: Final = ctypes.CDLL(None, use_errno=True)


class FileWatch:
    """Watches files by path. One that is "*" in its directory means any file there."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = tuple(paths)
        self._names: dict[int, set[str]] = {}
        self._fd: int = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self.follow()

    def fileno(self) -> int:
        """For the event loop; -1 when the kernel gives no inotify."""
        return self._fd

    def follow(self) -> None:
        """Watch what has appeared since. Cheap: what is watched already stays as it is."""
        names: dict[int, set[str]] = {}
        for path in self._paths:
            number = self._add(path.parent, _OF_DIRECTORY)
            names.setdefault(number, set()).add(path.name)
            if path.name != "*":
                # The file itself too: a mount point (containers) tells its directory nothing.
                names.setdefault(self._add(path, _OF_FILE), set()).add("")
        names.pop(-1, None)
        self._names = names

    def _add(self, path: Path, mask: int) -> int:
        return int(_libc.inotify_add_watch(self._fd, os.fsencode(path), ctypes.c_uint32(mask)))

    def drain(self) -> bool:
        """Take in what was said; returns whether any of it was about our files."""
        ours = False
        while True:
            try:
                data = os.read(self._fd, _BUFFER)
            except BlockingIOError:
                return ours
            offset = 0
            while offset + _EVENT.size <= len(data):
                number, _, _, length = _EVENT.unpack_from(data, offset)
                name = os.fsdecode(data[offset + _EVENT.size : offset + _EVENT.size + length].rstrip(b"\0"))
                offset += _EVENT.size + length
                # -1: events were lost, and one of them may have been ours.
                ours = ours or number == -1 or bool({name, "*"} & self._names.get(number, set()))

    def close(self) -> None:
        """Give it back; may be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
