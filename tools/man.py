# SPDX-License-Identifier: GPL-3.0-or-later
"""The manual pages of docs/man as man(7) has them: for the package, with nothing but Python.

It knows what those pages use of Markdown, in the form that pandoc(1) reads: headings, paragraphs, lists, definition
lists (``: ``), tables, indented text, and ``**bold**``, ``*italic*``, ``code`` in a line.
"""

import re
from collections.abc import Iterator
from itertools import groupby
from typing import Final

_INLINE: Final = re.compile(r"`([^`]+)`|\*\*(.+?)\*\*|\*([^*\s][^*]*)\*|\[([^\]]+)\]\([^)]+\)")
_TITLE: Final = re.compile(r"# (?P<name>[\w.-]+)\((?P<section>\d)\)")
_RULE: Final = re.compile(r"\|[-|: ]+\|")


def page(markdown: str, version: str) -> str:
    """One page as troff. `ValueError` when it does not begin with its name and section, ``# name(8)``."""
    title = next((found for line in markdown.splitlines() if (found := _TITLE.fullmatch(line))), None)
    if title is None:
        raise ValueError("no title like # name(8)")
    body = markdown[markdown.index(title[0]) + len(title[0]) :]
    body = re.sub(r"(?i)(?<=## name\n\n)([^\n]*?) – ", r"\1 - ", body)  # lexgrog(1), for apropos(1)
    licence = '.\\" SPDX-License-Identifier: GPL-3.0-or-later'
    head = f'.TH {title["name"]} {title["section"]} "" "aovpnd {version}"'
    return "\n".join((licence, head, *_blocks(body.splitlines()))) + "\n"


def _blocks(lines: list[str]) -> Iterator[str]:
    """Paragraph by paragraph; the first line of each says what it is."""
    for empty, group in groupby(lines, key=lambda line: not line.strip()):
        if not empty:
            yield from _block(list(group))


def _block(lines: list[str]) -> Iterator[str]:
    first = lines[0]
    if first.startswith("#"):
        level, _, words = first.partition(" ")
        yield f".SH {_plain(words).upper()}" if level == "##" else f".SS {_plain(words)}"
        lines = lines[1:]
        if lines:
            yield from _block(lines)
    elif first.startswith("    "):
        yield from (".PP", ".nf", *(f"\\&{_plain(line)}" for line in lines), ".fi")
    elif first.startswith("|"):
        yield from _table([line for line in lines if not _RULE.fullmatch(line)])
    elif first.startswith(("* ", "- ")):
        for item in re.split(r"(?m)^[*-] ", "\n".join(lines))[1:]:
            yield from ('.IP "\\(bu" 2', _line(item))
    elif any(line.startswith(": ") for line in lines):
        at = next(number for number, line in enumerate(lines) if line.startswith(": "))
        yield from (".TP", _line(" ".join(lines[:at])), _line("\n".join((lines[at][2:], *lines[at + 1 :]))))
    elif first.startswith("  "):
        yield from (".IP", _line("\n".join(lines)))  # goes on with the definition above
    else:
        yield from (".PP", _line("\n".join(lines)))


def _table(rows: list[str]) -> Iterator[str]:
    """As definitions: the first column, then the others; the head is left out where there are two columns."""
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]
    head, *rest = cells
    for name, *columns in rest:
        told = (
            columns if len(columns) == 1 else [f"{what}: {cell}" for what, cell in zip(head[1:], columns, strict=True)]
        )
        yield from (".TP", _line(name), _line("; ".join(told)))


def _line(text: str) -> str:
    """Running text in one line of troff, so that no line begins with a request."""
    text = " ".join(text.split())
    parts = []
    end = 0
    for found in _INLINE.finditer(text):
        parts.append(_plain(text[end : found.start()]))
        code, bold, italic, link = found.groups()
        inner = _plain(next(word for word in (code, bold, italic, link) if word is not None))
        parts.append(inner if link else f"\\f{'I' if italic else 'B'}{inner}\\fR")
        end = found.end()
    parts.append(_plain(text[end:]))
    return "\\&" + "".join(parts)


def _plain(text: str) -> str:
    """Text that troff shows as it is."""
    return text.replace("\\|", "|").replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
