# SPDX-License-Identifier: GPL-3.0-or-later
"""The file of an IKE tunnel with those that it names, as somebody hands them over: NAME.toml, and beside it keys/.

Nothing of it is believed. What it names lies in that directory, itself and no link: one that leads to a secret of this
machine's would have it sent to somebody's gateway.
"""

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aovpnd.config import files, plain
from aovpnd.config.credentials import Store
from aovpnd.config.files import Holds
from aovpnd.config.findings import UnfitError

KEYS: Final = "keys"
"""The directory, beside the tunnel's file and in ours."""
_BESIDE: Final = re.compile(rf"{KEYS}/([A-Za-z0-9_][A-Za-z0-9_.+@-]{{0,95}})")
_WHERE: Final = f"put it into a directory {KEYS}/ beside the tunnel's file, and write {KEYS}/FILE"


@dataclass(frozen=True, slots=True)
class Brought:
    """A file that came with a tunnel: its name in keys/, what is in it, and whether that is secret."""

    name: str
    content: bytes
    secret: bool

    def __repr__(self) -> str:
        return f"Brought(name={self.name!r}, secret={self.secret})"


class Bundle(Store):
    """Reads what a tunnel file names from beside it, whoever's it is, and remembers it; what has an absolute path is on
    this machine already, and judged as ever. Lives as long as an import.
    """

    def __init__(self, home: Path, base: Path) -> None:
        super().__init__(base)
        self._home = home
        self._brought: dict[str, Brought] = {}

    @property
    def brought(self) -> tuple[Brought, ...]:
        """What was read, by name."""
        return tuple(each for _, each in sorted(self._brought.items()))

    def _content(self, value: object, holds: Holds) -> bytes:
        written = plain.text(value)
        if written.startswith("/"):
            return super()._content(value, holds)
        matched = _BESIDE.fullmatch(written)
        if matched is None:
            raise UnfitError("is no file that comes with the tunnel", _WHERE)
        content = self._read(matched[1], files.LARGEST[holds])
        known = self._brought.get(matched[1])
        is_secret = holds is Holds.CREDENTIAL or (known is not None and known.secret)
        self._brought[matched[1]] = Brought(matched[1], content, is_secret)
        return content

    def _read(self, name: str, most: int) -> bytes:
        try:
            directory = os.open(self._home / KEYS, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                # No waiting for the other end of a pipe, and no terminal becomes ours.
                flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW
                descriptor = os.open(name, flags, dir_fd=directory)
            finally:
                os.close(directory)
        except OSError:
            raise UnfitError("there is no such file", f"{_WHERE}; links are not followed") from None
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UnfitError("is not a regular file", _WHERE)
            content = file.read(most + 1)
        if len(content) > most:
            raise UnfitError(f"is too large: at most {most // 1024} KiB", "is it the right file?")
        return content
