# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that ``aovpnctl import`` puts into the configuration: whole or not at all, root's alone from the first byte on,
and never in the place of another one unasked.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aovpnd.config.findings import printable_path
from aovpnd.errors import CommandRefused, StateError

FILE_MODE, DIRECTORY_MODE = 0o600, 0o700


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file goes, what it is for a person ("a tunnel home"), and whether it may take another one's place."""

    directory: Path
    file: str
    what: str
    replaces: bool
    instead: str = "--replace takes its place; --name NAME gives this one another name"
    """What to do where there is one already."""

    @property
    def path(self) -> Path:
        """The whole path."""
        return self.directory / self.file


@dataclass(frozen=True, slots=True)
class Kept:
    """What was written: whether any of it is encrypted, so that the daemon has to be started anew, and whether files of
    systemd's units have changed; ``left`` are files that nothing names any more.
    """

    sealed: bool = False
    units: bool = False
    left: tuple[Path, ...] = ()


def put(place: Place, content: bytes) -> None:
    """Put a file there. `CommandRefused` when there is one already, or for whoever is not root; `StateError` when it
    cannot be written.
    """
    _put(place, lambda new, directory: _new_file(content, new, directory))


def link(place: Place, target: str) -> None:
    """Put a symbolic link there; as `put`."""
    _put(place, lambda new, directory: os.symlink(target, new, dir_fd=directory))


def judge(place: Place) -> None:
    """`CommandRefused` where there is one already that may not be replaced. Writes nothing."""
    if os.path.lexists(place.path) and not place.replaces:
        raise _exists(place)


def make(directory: Path) -> None:
    """Make a directory where there is none; raise what `put` would: who may not write there is told so by us."""
    os.close(_opened(directory))


def _put(place: Place, make: Callable[[str, int], None]) -> None:
    shown = printable_path(place.path)
    directory = _opened(place.directory)
    new = f".{place.file}.{secrets.token_hex(8)}"
    try:
        try:
            make(new, directory)
            if place.replaces:
                os.rename(new, place.file, src_dir_fd=directory, dst_dir_fd=directory)
            else:
                # Unlike rename(2), link(2) never takes the place of anything, not even of a link.
                os.link(new, place.file, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
        finally:
            _forget(new, directory)
        os.fsync(directory)
    except FileExistsError:
        raise _exists(place) from None
    except PermissionError:
        raise _not_root() from None
    except OSError as error:
        raise StateError(f"{shown}: {error.strerror or error}", hint="is the file system full or read-only?") from None
    finally:
        os.close(directory)


def _opened(directory: Path) -> int:
    try:
        return _directory(directory)
    except PermissionError:
        raise _not_root() from None
    except OSError as error:
        raise StateError(f"{printable_path(directory)}: {error.strerror or error}") from None


def _directory(path: Path) -> int:
    """Open the directory, made where there is none; nobody else may be able to change what is in it."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    if status.st_uid not in {0, os.geteuid()} or stat.S_IMODE(status.st_mode) & 0o022:
        os.close(descriptor)
        shown = printable_path(path)
        raise StateError(f"{shown} can be changed by others", hint=f"chown root {shown}; chmod 0700 {shown}")
    return descriptor


def _new_file(content: bytes, new: str, directory: int) -> None:
    """Hidden, so that nobody reads it before it is whole; root's alone from its first byte on."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(new, flags, FILE_MODE, dir_fd=directory)
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, FILE_MODE)  # whatever the umask
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _forget(name: str, directory: int) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return  # it was renamed: it is what it shall be now


def _exists(place: Place) -> CommandRefused:
    text = f"there is {place.what} already: {printable_path(place.path)}"
    return CommandRefused(text, hint=place.instead, code="exists")


def _not_root() -> CommandRefused:
    return CommandRefused("only root may import tunnels", hint="try sudo", code="not-authorised")
