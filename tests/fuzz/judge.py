# SPDX-License-Identifier: GPL-3.0-or-later
"""What every message has to be, whatever was read: one printable line, of bounded length, without a key in it."""

import re
from typing import Final

from aovpnd.errors import AovpndError, ConfigError

LONGEST: Final = 1000
"""Characters of a message that somebody may have to read."""
PART: Final = 16
"""Letters of a key that nobody may see together: a third of it."""
_RUN: Final = re.compile(r"[A-Za-z0-9+/=]{16,}")
_WORDS: Final = re.compile(r"[A-Za-z]{1,22}|[0-9.]+")
"""Runs that are words of a language or numbers, and no piece of a key."""


def told(text: str, *, longest: int = LONGEST) -> None:
    """A message, or whatever else is shown or logged, is one short printable line."""
    assert text.isprintable(), f"not printable: {text!r}"
    assert len(text) <= longest, f"{len(text)} characters: {text[:200]!r}"


def hides(text: str, *secrets: str) -> None:
    """Nothing of the secrets is in the text, not even a part that one could begin with."""
    for secret in secrets:
        parts = (secret[start : start + PART] for start in range(max(len(secret) - PART + 1, 1)))
        assert not any(part in text for part in parts), f"a part of a secret is in a message: {text!r}"


def quotes_no_run(text: str, source: str) -> None:
    """No run of letters that could be (part of) a key was copied from ``source``."""
    for run in _RUN.findall(text):
        assert run not in source or _WORDS.fullmatch(run), f"copied: {run!r}"


def error(found: AovpndError, *, longest: int = LONGEST) -> str:
    """A declared error reads as it should; its outcome."""
    told(str(found), longest=longest)
    told(found.code)
    if isinstance(found, ConfigError):
        assert found.file
        assert found.line is None or found.line >= 1
    return outcome(type(found).__name__, found.text)


_NUMBERS: Final = re.compile(r"'[^']*'|\"[^\"]*\"|\d+|\([^()]*\)")


def outcome(kind: str, text: str = "") -> str:
    """A word for what came of a case: the same for messages that differ in what they quote."""
    return f"{kind}: {_NUMBERS.sub('_', text)[:60]}" if text else kind
