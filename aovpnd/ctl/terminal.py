# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing for a person at a terminal: colour where there is one, and nothing that a stranger wrote is obeyed by it."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

BOLD, RED, GREEN, YELLOW, DIM = "1", "31", "32", "33", "2"
WIDTH = 80


class Style:
    """How to write to one stream."""

    __slots__ = ("colour", "width")

    def __init__(self, *, colour: bool, width: int | None) -> None:
        """``width`` in columns, or None where lines are not folded."""
        self.colour = colour
        self.width = width

    def paint(self, text: str, *codes: str) -> str:
        """``text`` in colours (SGR codes), where there are any."""
        return f"\033[{';'.join(codes)}m{text}\033[0m" if self.colour else text

    def fold(self, text: str, first: str = "", rest: str = "") -> list[str]:
        """Lines of whole words that fit; the first one begins with ``first``, the others with ``rest``."""
        if self.width is None:
            return [first + text]
        lines: list[str] = []
        line = ""
        for word in text.split(" "):
            longer = f"{line} {word}" if line else word
            if line and len((rest if lines else first) + longer) > self.width:
                lines.append((rest if lines else first) + line)
                longer = word
            line = longer
        return [*lines, (rest if lines else first) + line]


PLAIN = Style(colour=False, width=None)


def style(stream: TextIO) -> Style:
    """What ``stream`` can show. NO_COLOR (no-color.org) and a dumb terminal are honoured."""
    if not stream.isatty():
        return PLAIN
    try:
        width = os.get_terminal_size(stream.fileno()).columns or WIDTH
    except OSError:
        width = WIDTH
    colour = not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
    return Style(colour=colour, width=width)


def plain(text: object) -> str:
    """Somebody else's text on one line, with everything spelt out that a terminal might obey or that cannot be seen."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(text))


def countdown(seconds: int) -> str:
    """``00:02:56``."""
    minutes, seconds = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}"


def ago(seconds: float) -> str:
    """How long a moment is past, as one says it."""
    seconds = max(0, int(seconds))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def size(count: int) -> str:
    """Bytes as wg(8) shows them."""
    if count < 1024:  # noqa: PLR2004 - KiB
        return f"{count} B"
    value = float(count)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        value /= 1024
        if value < 1024 or unit == "TiB":  # noqa: PLR2004 - the next unit
            break
    return f"{value:.1f} {unit}"


def complain(text: str) -> None:
    """One line about what went wrong."""
    print(f"aovpnctl: {plain(text)}", file=sys.stderr)
