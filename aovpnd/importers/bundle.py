# SPDX-License-Identifier: GPL-3.0-or-later
"""The file of an IKE tunnel with those that it names, as somebody hands them over: NAME.toml, and beside it keys/.

Nothing of it is believed. What it names lies in that directory, itself and under no other name: a path elsewhere, or a
link to a secret of this machine's, would have that sent to somebody's gateway.
"""

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from aovpnd import regular
from aovpnd.config import files, plain
from aovpnd.config.credentials import Store
from aovpnd.config.files import Holds
from aovpnd.config.findings import UnfitError
from aovpnd.errors import ConfigError

KEYS: Final = "keys"
"""The directory, beside the tunnel's file and in ours."""
_BESIDE: Final = re.compile(rf"{KEYS}/([A-Za-z0-9_][A-Za-z0-9_.+@-]{{0,95}})")
_WHERE: Final = f"put it into a directory {KEYS}/ beside the tunnel's file, and write {KEYS}/FILE"
_PRIVATE: Final = b"PRIVATE KEY-----"


@dataclass(frozen=True, slots=True)
class Brought:
    """A file that came with a tunnel: its name in keys/, what is in it, and whether that is secret."""

    name: str
    content: bytes
    secret: bool

    def __repr__(self) -> str:
        return f"Brought(name={self.name!r}, secret={self.secret})"


class Bundle(Store):
    """The directory ``home``, opened once: whoever exchanges it for another one meanwhile exchanges nothing. Reads what
    a tunnel file names from keys/ in it, whoever's it is, and remembers that. Lives as long as an import.

    ``ConfigError`` when there is no such directory.
    """

    def __init__(self, home: Path, base: Path, shown: str) -> None:
        super().__init__(base)
        try:
            self.home = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else "this is no path"
            raise ConfigError(f"cannot be read: {reason}", file=shown) from None
        self._brought: dict[str, Brought] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.home)

    @property
    def brought(self) -> tuple[Brought, ...]:
        """What was read, by name."""
        return tuple(each for _, each in sorted(self._brought.items()))

    def _content(self, value: object, holds: Holds) -> bytes:
        matched = _BESIDE.fullmatch(plain.text(value))
        if matched is None:
            raise UnfitError("is no file that comes with the tunnel", _WHERE)
        content = self._read(matched[1], files.LARGEST[holds])
        known = self._brought.get(matched[1])
        is_secret = holds is Holds.CREDENTIAL or _PRIVATE in content or (known is not None and known.secret)
        self._brought[matched[1]] = Brought(matched[1], content, is_secret)
        return content

    def _read(self, name: str, most: int) -> bytes:
        try:
            keys = os.open(KEYS, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.home)
            try:
                opened = regular.opened(name, follow=False, directory=keys)
            finally:
                os.close(keys)
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise UnfitError("is not a regular file", _WHERE) from None
            raise UnfitError("there is no such file", f"{_WHERE}; links are not followed") from None
        with opened as file:
            if os.fstat(file.fileno()).st_nlink > 1:
                raise UnfitError("is a file that has another name elsewhere (a hard link)", "copy it")
            content = file.read(most + 1)
        if len(content) > most:
            raise UnfitError(f"is too large: at most {most // 1024} KiB", "is it the right file?")
        return content
