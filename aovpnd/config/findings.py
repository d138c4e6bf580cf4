# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a file, and how a message quotes what it found there without ever showing a key."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from aovpnd.errors import ConfigError
from aovpnd.model import Problem, Severity

INVALID: Final = ConfigError.code
"""The code of every error in a file."""
NOT_HONOURED: Final = "config-not-honoured"
"""The code of lines that are understood and left alone."""
OVERRULED: Final = "config-overruled"
"""The code of a value that a policy forbids, so that another is used."""
WEAK: Final = "config-weak"
"""The code of what works and protects badly: an error, unless the settings allow it."""

MOST: Final = 20
"""Faults of one file that are told: nobody mends more at once, and status shall not grow with a file of rubbish."""
_KEY_LIKE: Final = re.compile(r"[A-Za-z0-9+/=]{16}")
"""A run this long may be (part of) a key; no address, port or span of time has one."""
_LONGEST_QUOTE: Final = 60
HIDDEN: Final = "(hidden)"
"""What stands for text that may be a key."""


class UnfitError(ValueError):
    """A value cannot be used; whoever knows file, line and key turns it into a `Finding`."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that somebody should know about a file.

    ``line`` counts from 1, ``key`` is the setting; both None where the whole file is meant. An ERROR makes the file
    unusable, a WARNING does not.
    """

    file: str
    reason: str
    hint: str = ""
    line: int | None = None
    key: str | None = None
    severity: Severity = Severity.ERROR
    code: str = INVALID

    @property
    def text(self) -> str:
        """``file:line: key: what is wrong``, in one line."""
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{where}: {self.key}: {self.reason}" if self.key else f"{where}: {self.reason}"

    def __str__(self) -> str:
        return f"{self.text} ({self.hint})" if self.hint else self.text

    def problem(self) -> Problem:
        """As status shows it."""
        return Problem(self.code, self.severity, self.text, self.hint)


class Findings:
    """Collects what is wrong with one file, up to `MOST`; lives as long as its parsing."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.all: list[Finding] = []

    @property
    def full(self) -> bool:
        """Whether there is no sense in looking for more."""
        return len(self.all) > MOST

    def fault(self, line: int, reason: str, hint: str = "", key: str | None = None) -> None:
        """Something that makes the file unusable."""
        if len(self.all) < MOST:
            self.all.append(Finding(self.file, reason, hint, line, key))
        elif not self.full:
            self.all.append(Finding(self.file, "there are more faults", "mend those first", line))


def no_tunnel(
    name: str, known: Collection[str], file: str, line: int | None, key: str, severity: Severity = Severity.ERROR
) -> Finding:
    """A tunnel that is named in a file, and is not there."""
    hint = f"there are: {', '.join(sorted(known)) or 'none'}"
    return Finding(file, f"there is no tunnel called '{name}'", hint, line, key, severity)


def finding_of(error: ConfigError) -> Finding:
    """An error that was raised, as a finding."""
    return Finding(error.file, error.reason, error.hint, error.line, error.key, code=error.code)


def quoted(text: str) -> str:
    """Text from a file as a message may show it: one short line, nothing that a terminal obeys, nothing like a key."""
    if _KEY_LIKE.search(text):
        return HIDDEN
    shown = "".join(letter if letter.isprintable() else "?" for letter in text[:_LONGEST_QUOTE])
    return f"'{shown}…'" if len(text) > _LONGEST_QUOTE else f"'{shown}'"


def printable_path(path: object) -> str:
    """A path as a message may show it, and as a terminal shows it; a file's name may hold anything but / and NUL."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(path))
