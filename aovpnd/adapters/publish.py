# SPDX-License-Identifier: GPL-3.0-or-later
"""RUNTIME: the directory, the lock that one daemon holds for life, and the status file that everybody may read.

Two locks, because a file that everybody may open is a file that everybody may lock. ``daemon.lock`` is root's, and
keeps a second daemon out. ``lock`` is for readers, who ask whether it is held as only root can hold it (`vouch`). Each
daemon puts a new, already locked file in its place, so that no reader, whatever it locks, can keep a daemon from
starting.
"""

import fcntl
import json
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from aovpnd import names, regular, vouch
from aovpnd.errors import AlreadyRunning, StateError
from aovpnd.resting import Rested

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
"""Changes with every boot (random(4)): tells a status file that outlived its boot."""
DIRECTORY_MODE: Final = 0o755
PUBLIC_MODE: Final = 0o644
_ROOM: Final = "is its file system full, or read-only? See: df /run"
PRIVATE_MODE: Final = 0o600
_FINGERPRINT: Final = 64
"""Letters of a fingerprint that are read: twice as many as one has, so that a longer one fits nothing."""
_DIGITS: Final = 24
"""And of a counter of 64 bits, with the blank before it."""


class Runtime:
    """A daemon's hold on RUNTIME; the kernel ends it with the process."""

    def __init__(self, directory: Path) -> None:
        """Take the directory. `AlreadyRunning` when another daemon has it, `StateError` when it cannot be used.

        A status file that a daemon left is removed: until `publish` is called there is none.
        """
        self.directory = directory
        self._fds: list[int] = []
        self._last = b""
        self._proved = ""
        self._resting: Rested | None = None
        try:
            directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
            _judge(directory)
            self._fds.append(_locked(directory / names.DAEMON_LOCK_FILE, PRIVATE_MODE))
            (directory / names.STATUS_FILE).unlink(missing_ok=True)
            self._fds.append(_replaced_lock(directory / names.LOCK_FILE))
            self._boot_id = BOOT_ID.read_text(encoding="ascii").strip()
        except BlockingIOError:
            self.close()
            raise AlreadyRunning(
                f"another aovpnd already runs on {directory}",
                hint="two daemons need two network namespaces and two --runtime-dir",
            ) from None
        except OSError as error:
            self.close()
            raise StateError(f"{error.filename or directory}: {error.strerror or error}") from error
        except StateError:
            self.close()
            raise

    @property
    def control_socket(self) -> Path:
        """Where `control.Control` listens."""
        return self.directory / names.CONTROL_SOCKET

    def publish(self, document: Mapping[str, object]) -> None:
        """Replace the status file at once, for every reader whole; a document that says nothing new is not written.

        `StateError` when it cannot be written; then there is none, for the old one would lie.
        """
        text = json.dumps({**document, "_boot_id": self._boot_id}).encode() + b"\n"
        if text == self._last:
            return
        path = self.directory / names.STATUS_FILE
        self._last = b""
        try:
            try:
                replace_file(path, text, PUBLIC_MODE)
            except OSError:
                path.unlink(missing_ok=True)  # on a full file system this makes the room for the new one
                replace_file(path, text, PUBLIC_MODE)
        except OSError as error:
            raise StateError(f"cannot write {path}: {error.strerror or error}", hint=_ROOM) from error
        self._last = text

    def prove(self, path: str) -> None:
        """Keep the fingerprint of the path over which the tunnel proved itself. `StateError` when that fails."""
        if path == self._proved:
            return
        place = self.directory / names.PATH_FILE
        try:
            replace_file(place, path.encode(), PRIVATE_MODE)
        except OSError as error:
            raise StateError(f"cannot write {place}: {error.strerror or error}", hint=_ROOM) from error
        self._proved = path

    def proved(self) -> str:
        """What an earlier daemon has kept; "" when it is not there: then nothing is taken over."""
        try:
            return regular.read(self.directory / names.PATH_FILE, _FINGERPRINT).decode("ascii")
        except (OSError, ValueError):
            return ""

    def rest(self, resting: Rested | None) -> None:
        """Keep that the tunnel rests, or that it does not, for a daemon that comes after one that was killed.
        `StateError` when that fails.
        """
        if resting == self._resting:
            return
        place = self.directory / names.REST_FILE
        try:
            if resting is None:
                place.unlink(missing_ok=True)
            else:
                replace_file(place, f"{resting.path} {resting.tries}\n".encode(), PRIVATE_MODE)
        except OSError as error:
            raise StateError(f"cannot write {place}: {error.strerror or error}", hint=_ROOM) from error
        self._resting = resting

    def end(self) -> None:
        """Let go, after an end that was asked for: whoever comes next begins with a tunnel that shows that it works."""
        with suppress(StateError):
            self.rest(None)
        self.close()

    def rested(self) -> Rested | None:
        """What a daemon that was killed has kept; None where it is not just as it was written. What is there from now
        on, this daemon writes.
        """
        place = self.directory / names.REST_FILE
        try:
            path, tries = regular.read(place, _FINGERPRINT + _DIGITS).decode("ascii").split()
            self._resting = Rested(path, int(tries))
        except (OSError, ValueError):
            with suppress(OSError):
                place.unlink(missing_ok=True)
            self._resting = None
        return self._resting

    def close(self) -> None:
        """Let go. The status file stays as it is: without the lock nobody believes it. May be called twice."""
        while self._fds:
            os.close(self._fds.pop())


def replace_file(path: Path, content: bytes, mode: int) -> None:
    """Put a new file in the place of ``path`` (rename(2)). `OSError` when that fails; the old one stays.

    Nothing is synced: a runtime directory does not outlive the power.
    """
    new = path.with_name(f"{path.name}.new")
    fd = _new_file(new, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
        new.rename(path)
    except OSError:
        with suppress(OSError):
            new.unlink()
        raise


def _judge(directory: Path) -> None:
    """Whoever could put files of his own here could tell our readers anything."""
    found = directory.stat()
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StateError(
            f"{directory} can be written by others", hint=f"chown root {directory}; chmod 0755 {directory}"
        )


def _locked(path: Path, mode: int) -> int:
    """Open and lock a file; `BlockingIOError` when somebody else holds it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        os.fchmod(fd, mode)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


def _replaced_lock(path: Path) -> int:
    """A locked file in the place of whatever readers may still hold."""
    new = path.with_name(f"{path.name}.new")
    fd = _new_file(new, PRIVATE_MODE)  # nobody else can open it before it is locked
    try:
        vouch.take(fd)
        os.fchmod(fd, PUBLIC_MODE)
        new.rename(path)
    except OSError:
        os.close(fd)
        raise
    return fd


def _new_file(path: Path, mode: int) -> int:
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    os.fchmod(fd, mode)  # whatever the umask
    return fd
