# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of TOML by their types: in goes what the document's parser has read, out comes the type that a key wants, or
`UnfitError`.
"""

from collections.abc import Callable
from typing import TypeVar

from aovpnd import durations
from aovpnd.config.findings import HIDDEN, UnfitError, quoted

_T = TypeVar("_T")


def text(value: object) -> str:
    """A text, as it is."""
    if not isinstance(value, str):
        raise UnfitError(f"must be a text, not {kind(value)}", "put it in double quotes")
    return value


def boolean(value: object) -> bool:
    """``true`` or ``false``."""
    if not isinstance(value, bool):
        raise UnfitError(f"must be true or false, not {kind(value)}", "write true or false, without quotes")
    return value


def whole(value: object, smallest: int, largest: int, hint: str = "") -> int:
    """A whole number within bounds."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise UnfitError(f"must be a whole number, not {kind(value)}", hint or f"from {smallest} to {largest}")
    if not smallest <= value <= largest:
        raise UnfitError(f"{number(value)} is out of range", hint or f"from {smallest} to {largest}")
    return value


def span(value: object, least_s: int, most_s: int) -> int:
    """Seconds, written as a span of time (systemd.time(7)) or as a number."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UnfitError(f"must be a span of time, not {kind(value)}", 'write it like "3min", "1h 30s" or 90')
    written = value if isinstance(value, str) else number(value)
    hint = f"from {durations.render(least_s)} to {durations.render(most_s)}"
    try:
        seconds = durations.parse(written, at_most_s=most_s)
    except ValueError as error:
        reason = f"{HIDDEN} is no span of time" if quoted(written) == HIDDEN else str(error)
        raise UnfitError(reason, hint) from None
    if seconds < least_s:
        raise UnfitError(f"{quoted(written)} is too short: at least {durations.render(least_s)}", hint)
    return seconds


def kind(value: object) -> str:
    """What a value is, in words."""
    match value:
        case bool():
            return "true or false"
        case str():
            return "a text"
        case int() | float():
            return "a number"
        case list():
            return "a list"
        case dict():
            return "a table"
        case _:
            return "a date or time"


def number(value: int) -> str:
    """A number for a message; one with thousands of digits cannot even be converted."""
    return str(value) if abs(value) < 10**12 else "the number"


def several(value: object, parse: Callable[[object], _T], most: int) -> tuple[_T, ...]:
    """A list, none of it twice; one value stands for a list of one."""
    if not isinstance(value, list):
        return (parse(value),)
    if len(value) > most:
        raise UnfitError(f"a list of {len(value)} is too long", f"at most {most}")
    found = tuple(map(parse, value))
    if len(set(found)) != len(found):
        raise UnfitError("something stands twice in the list", "remove one of them")
    return found
