# SPDX-License-Identifier: GPL-3.0-or-later
"""The users of this machine, as passwd(5) has them.

The file is read itself, because getpwnam(3) may ask a directory, by a network that is closed.
"""

from pathlib import Path
from typing import Final

from aovpnd import names

_UID: Final = 2
_FIELDS: Final = 7
_LONGEST: Final = 10
"""Digits of a uid."""


def users(file: Path = Path(names.USERS_FILE)) -> dict[str, int]:
    """Uids by name, the first of a name; none where the file cannot be read."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    found: dict[str, int] = {}
    for words in (line.split(":") for line in lines):
        if len(words) >= _FIELDS and words[_UID].isascii() and words[_UID].isdigit() and len(words[_UID]) <= _LONGEST:
            found.setdefault(words[0], int(words[_UID]))
    return found
