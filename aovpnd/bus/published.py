# SPDX-License-Identifier: GPL-3.0-or-later
"""RUNTIME/status.json, read whenever the daemon replaces it. inotify(7) says when; nothing polls."""

import ctypes
import json
import os
from pathlib import Path
from typing import Final

from aovpnd import names
from aovpnd.bus.translate import Document
from aovpnd.errors import StateError
from aovpnd.shape import STATUS, fits, is_shallow

LARGEST: Final = 1 << 20
"""Bytes of the file that are read."""
_CREATED_MOVED_GONE: Final = 0x100 | 0x80 | 0x400
"""IN_CREATE: a socket. IN_MOVED_TO: a file was put in its place. IN_DELETE_SELF: the directory went."""
_NONBLOCK_CLOEXEC: Final = os.O_NONBLOCK | os.O_CLOEXEC
_GONE: Final = 0x400 | 0x8000
"""IN_DELETE_SELF, IN_IGNORED."""
_EVENTS: Final = 1 << 16


class Watch:
    """An inotify descriptor on the runtime directory; `fileno` can be read when something happened."""

    def __init__(self, directory: Path) -> None:
        """`StateError` when the directory cannot be watched: there is none, or too many watches."""
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(_NONBLOCK_CLOEXEC)
        path = os.fsencode(directory)
        if self._descriptor < 0 or libc.inotify_add_watch(self._descriptor, path, _CREATED_MOVED_GONE) < 0:
            reason = os.strerror(ctypes.get_errno())
            self.close()
            raise StateError(f"{directory}: {reason}", hint="the daemon makes it: systemctl start aovpnd")

    def fileno(self) -> int:
        """For select(2)."""
        return int(self._descriptor)

    def drain(self) -> None:
        """Forget what happened. `StateError` when the directory itself is gone: then nothing more would be heard."""
        try:
            events = os.read(self._descriptor, _EVENTS)
        except BlockingIOError:
            return
        offset = 0
        while offset < len(events):  # struct inotify_event: wd, mask, cookie, len, name
            mask, length = (int.from_bytes(events[offset + at : offset + at + 4], "little") for at in (4, 12))
            if mask & _GONE:
                raise StateError("the runtime directory went away", hint="the daemon makes it: systemctl start aovpnd")
            offset += 16 + length

    def close(self) -> None:
        """May be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def read(runtime_dir: Path) -> Document | None:
    """What the daemon has published, or None where there is nothing that can be read."""
    try:
        with (runtime_dir / names.STATUS_FILE).open("rb") as file:
            document = json.loads(file.read(LARGEST))
    except (OSError, ValueError, RecursionError):
        return None
    return document if fits(document, STATUS) and is_shallow(document) else None
