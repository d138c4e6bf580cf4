# SPDX-License-Identifier: GPL-3.0-or-later
"""/etc/resolv.conf itself: put ours in its place, and give back what was there, whatever happened in between.

What was there is kept in STATE (on disk, synced) before ours is written, and removed after it was given back, so that a
crash or a power cut between any two steps loses nothing. Ours begins with `names.RESOLV_CONF_MARK`. A file that does
not is somebody's, and newer than what is kept: then that one is kept instead, or simply stays.

A leaf of the standard library: `aovpnctl unblock --offline` uses it when nothing else works. What cannot be done raises
`OSError`.
"""

import errno
import json
import os
import stat
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from aovpnd import names, regular

LARGEST: Final = 1 << 16
"""Bytes. Nobody's resolv.conf(5) is as long; what is, is left alone."""
_LARGEST_KEPT: Final = 8 * LARGEST
"""The same in JSON, where a byte that is no UTF-8 takes six."""
MODE: Final = 0o644
STAND_IN: Final = "# What stood here before aovpnd was lost; this is in its place.\n"
"""How a file begins that is given back because nobody knows what was there."""
_NO_RENAME: Final = frozenset((errno.EBUSY, errno.EXDEV, errno.EROFS, errno.EACCES, errno.EPERM))
"""A mount point (containers), or a directory that may not be changed: the file itself may be writable all the same."""


class Kind(StrEnum):
    """What stands in the place of the file."""

    FILE = "file"
    LINK = "link"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Found:
    """What stands there: the ``text`` of a file, or the target of a symbolic link."""

    kind: Kind
    text: str = ""
    mode: int = MODE

    @property
    def is_marked(self) -> bool:
        """Whether it is ours."""
        return self.kind is Kind.FILE and self.text.startswith(names.RESOLV_CONF_MARK)


@dataclass(frozen=True, slots=True)
class ResolvConf:
    """The file, and where what was there is kept."""

    path: Path
    save: Path

    # -- what is ------------------------------------------------------------------------------------------------------
    def found(self) -> Found:
        """What stands there now."""
        try:
            status = self.path.lstat()
        except FileNotFoundError:
            return Found(Kind.ABSENT)
        if stat.S_ISLNK(status.st_mode):
            return Found(Kind.LINK, str(self.path.readlink()))
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
            raise OSError(errno.EINVAL, "is no file that aovpnd could keep", str(self.path))
        return Found(Kind.FILE, _text(regular.read(self.path, LARGEST)), stat.S_IMODE(status.st_mode))

    def kept(self) -> Found | None:
        """What is kept, or None; None also when nobody can read it any more."""
        try:
            document = json.loads(regular.read(self.save, _LARGEST_KEPT))
            found = Found(Kind(document["kind"]), str(document["text"]), int(document["mode"]) & 0o777)
            usable = found.kind is not Kind.LINK or b"\0" not in _bytes(found.text)
            return found if usable and len(_bytes(found.text)) <= LARGEST else None
        except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
            return None

    def is_ours(self) -> bool:
        """Whether ours stands there. An empty file is one that we were writing in place when we were killed."""
        found = self.found()
        return found.is_marked or (found.kind is Kind.FILE and not found.text and self.kept() not in (None, found))

    def says(self, text: str) -> bool:
        """Whether ours stands there, says ``text``, and what was there before it is kept."""
        return self.found() == _ours(text) and self.kept() is not None

    def is_lost(self) -> bool:
        """Whether nobody knows what was there before ours. It never fails."""
        try:
            kept = self.kept()
        except OSError:
            return False
        return kept is not None and kept.text.startswith(STAND_IN)

    def users(self) -> str:
        """The text that programs would read if ours were not there; "" when there is none. It never fails."""
        try:
            own = self.is_ours()
            found = self.kept() if own else None
            path = self.path
            if found is not None and found.kind is not Kind.LINK:
                return found.text
            if own:
                if found is None:
                    return ""
                path = self.path.parent / found.text
            return _read(path)
        except (OSError, ValueError):
            return ""

    def read(self) -> str:
        """What programs read; "" when there is nothing. It never fails."""
        try:
            return _read(self.path)
        except OSError:
            return ""

    # -- what should be -----------------------------------------------------------------------------------------------
    def put(self, text: str, otherwise: str = "") -> None:
        """Let ours say ``text``. What stands there and is not ours is kept first; called again, it changes nothing.

        Where ours stands there and nobody knows what was there before, ``otherwise`` is kept in its place.
        """
        ours = _ours(text)
        if self.is_ours() and self.kept() is None:
            self._keep(Found(Kind.FILE, STAND_IN + otherwise))
        if not self.is_ours():
            self._keep(self.found())
        if self.found() != ours:
            self._write(ours)

    def give_back(self, otherwise: str = "") -> bool:
        """Put back what was there, and say whether that was to be done; somebody else's newer file stays.

        ``otherwise`` is what is written when ours stands there and nothing is kept.
        """
        own = self.is_ours()
        if own:
            self._write(self.kept() or Found(Kind.FILE, otherwise))
        if self.save.exists():
            self.save.unlink()
            _sync(self.save.parent)
        return own

    def _keep(self, found: Found) -> None:
        self.save.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        document = {"kind": found.kind.value, "text": found.text, "mode": found.mode}
        new = self.save.with_name(f".{self.save.name}.new")
        _new_file(new, json.dumps(document).encode() + b"\n", 0o600)
        new.replace(self.save)
        _sync(self.save.parent)

    def _write(self, wanted: Found) -> None:
        new = self.path.with_name(f".{self.path.name}.aovpnd")
        try:
            new.unlink(missing_ok=True)
            match wanted.kind:
                case Kind.ABSENT:
                    self.path.unlink(missing_ok=True)
                case Kind.LINK:
                    new.symlink_to(wanted.text)
                    new.replace(self.path)
                case Kind.FILE:
                    _new_file(new, _bytes(wanted.text), wanted.mode)
                    new.replace(self.path)
        except OSError as error:
            if error.errno not in _NO_RENAME:
                raise
            _unlink_quietly(new)
            self._write_in_place(wanted if wanted.kind is Kind.FILE else Found(Kind.FILE))
            return
        _sync(self.path.parent)

    def _write_in_place(self, wanted: Found) -> None:
        """Emptied first: killed before the new text is there, an empty file is known as ours."""
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, _bytes(wanted.text))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _ours(text: str) -> Found:
    return Found(Kind.FILE, names.RESOLV_CONF_MARK + text)


def _read(path: Path) -> str:
    return _text(regular.read(path, LARGEST))


def _new_file(path: Path, content: bytes, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _unlink_quietly(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def _sync(directory: Path) -> None:
    """A rename that a power cut forgets is none."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _text(content: bytes) -> str:
    """Any bytes, so that they come back as they were."""
    return content.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
