# SPDX-License-Identifier: GPL-3.0-or-later
"""Spans of time as people write them, after systemd.time(7): ``3min``, ``1h 30s``, ``1.5 h``, ``90``.

A leaf without imports, not even ``re``: `aovpnctl allow-temp` reads its argument with it and must start at once.
"""

LONGEST_TEXT = 64
"""Characters; longer texts are not spans that anybody typed."""

_DIGITS = "0123456789"
_BLANKS = " \t"
_US = 1
_S = 1_000_000
_UNITS = {
    "usec": _US,
    "us": _US,
    "µs": _US,  # U+00B5, micro sign
    "\u03bcs": _US,  # U+03BC, Greek mu
    "msec": 1000,
    "ms": 1000,
    "seconds": _S,
    "second": _S,
    "sec": _S,
    "s": _S,
    "minutes": 60 * _S,
    "minute": 60 * _S,
    "min": 60 * _S,
    "m": 60 * _S,
    "hours": 3600 * _S,
    "hour": 3600 * _S,
    "hr": 3600 * _S,
    "h": 3600 * _S,
    "days": 86400 * _S,
    "day": 86400 * _S,
    "d": 86400 * _S,
    "weeks": 604800 * _S,
    "week": 604800 * _S,
    "w": 604800 * _S,
    "months": 2629800 * _S,
    "month": 2629800 * _S,
    "M": 2629800 * _S,
    "years": 31557600 * _S,
    "year": 31557600 * _S,
    "y": 31557600 * _S,
}
"""Microseconds per unit, as in systemd.time(7); a month is 30.44 days there, a year 365.25."""


def parse(text: str, *, at_most_s: int | None = None) -> int:
    """Seconds of a span: numbers with units, added up, or one plain number of seconds.

    ``ValueError``, with a text for a person, when it is no such span, not whole seconds, less than one second, or more
    than ``at_most_s``: too much is refused, never clamped.
    """
    us = _microseconds(text)
    if us is None:
        raise ValueError(f"{_quoted(text)} is no span of time; write it like 90, 3min or 1h 30s")
    seconds, rest = divmod(us, _S)
    if rest:
        raise ValueError(f"{_quoted(text)} is not a whole number of seconds")
    if not seconds:
        raise ValueError(f"{_quoted(text)} is no time at all")
    if at_most_s is not None and seconds > at_most_s:
        raise ValueError(f"{_quoted(text)} is too long: at most {render(at_most_s)}")
    return seconds


def render(seconds: int) -> str:
    """The shortest common spelling, which `parse` reads back: ``1h 30s``."""
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    parts = [f"{count}{unit}" for count, unit in ((hours, "h"), (minutes, "min"), (rest, "s")) if count]
    return " ".join(parts) or "0s"


def _microseconds(text: str) -> int | None:
    """The sum, or None when the text is no span."""
    if len(text) > LONGEST_TEXT:
        return None
    rest = text.strip(_BLANKS)
    whole, fraction, unit, rest = _term(rest)
    if not unit and not rest:
        return _scaled(whole, fraction, _S)
    total = 0
    while True:
        us = _scaled(whole, fraction, _UNITS.get(unit))
        if us is None:
            return None
        total += us
        if not rest:
            return total
        whole, fraction, unit, rest = _term(rest)


def _term(text: str) -> tuple[str, str | None, str, str]:
    """Split off one number (whole and fraction digits) with its unit; the rest begins with no blank."""
    whole, rest = _run(text, _DIGITS)
    fraction = None
    if rest.startswith("."):
        fraction, rest = _run(rest[1:], _DIGITS)
    rest = rest.lstrip(_BLANKS)
    length = 0
    while length < len(rest) and rest[length] not in _DIGITS and rest[length] not in _BLANKS:
        length += 1
    return whole, fraction, rest[:length], rest[length:].lstrip(_BLANKS)


def _run(text: str, of: str) -> tuple[str, str]:
    rest = text.lstrip(of)
    return text[: len(text) - len(rest)], rest


def _scaled(whole: str, fraction: str | None, unit: int | None) -> int | None:
    """Microseconds, exactly; None when a part is missing or finer than a microsecond."""
    if not whole or fraction == "" or unit is None:
        return None
    scaled, rest = divmod(int(whole + (fraction or "")) * unit, 10 ** len(fraction or ""))
    return None if rest else scaled


def _quoted(text: str) -> str:
    """The text for a message: one line, short, nothing that a terminal would obey."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in text[:LONGEST_TEXT])
    return f"'{shown}…'" if len(text) > LONGEST_TEXT else f"'{shown}'"
