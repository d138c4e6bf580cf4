# SPDX-License-Identifier: GPL-3.0-or-later
"""TOML with line numbers: the standard library's parser says what a document means, this says where each value stands.

A document is cut into statements by asking the same parser: the shortest run of lines that it takes is one statement,
because no beginning of a multi-line string or array is valid by itself. So there is no second grammar to get wrong.
"""

import re
import tomllib
from dataclasses import dataclass
from typing import Final

from aovpnd.config.findings import HIDDEN, quoted
from aovpnd.errors import ConfigError

LONGEST_STATEMENT: Final = 16
"""Lines of one value. It bounds the work of cutting; no setting of ours needs two."""
LONGEST_LINE: Final = 1000
"""Characters. tomllib needs memory with the square of a dotted name's length: one of 200 kB would take all there is."""
_POSITION: Final = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


@dataclass(frozen=True, slots=True)
class Value:
    """One value with the line that it stands on. An array of tables is one value."""

    path: tuple[str, ...]
    value: object
    line: int


def parse(text: str, file: str) -> tuple[Value, ...]:
    """Every value of a document, in its order, empty tables included (as ``{}``).

    ``ConfigError`` with the line when it is not TOML.
    """
    text = text.replace("\r\n", "\n")
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if len(line) > LONGEST_LINE:
            reason = f"the line is longer than {LONGEST_LINE} characters"
            raise ConfigError(reason, file=file, line=number, hint="is it the right file?")
    try:
        _check(text, file)
        return _values(lines, file)
    except RecursionError:
        raise ConfigError("is nested too deeply", file=file, hint="no setting needs that") from None


def _values(lines: list[str], file: str) -> tuple[Value, ...]:
    found: list[Value] = []
    table: tuple[str, ...] = ()
    start = 0
    while start < len(lines):
        line = lines[start].strip()
        if not line or line.startswith("#"):
            start += 1
            continue
        end, statement = _statement(lines, start, file)
        values = _flat(statement, (), start + 1)
        if line.startswith("["):
            table = values[0].path
            found += values
        else:
            found += [Value(table + value.path, value.value, value.line) for value in values]
        start = end
    return tuple(found)


def _statement(lines: list[str], start: int, file: str) -> tuple[int, dict[str, object]]:
    """One statement and the line after it; the document as a whole is known to be valid."""
    for end in range(start + 1, min(start + LONGEST_STATEMENT, len(lines)) + 1):
        try:
            return end, tomllib.loads("\n".join(lines[start:end]))
        except ValueError:
            continue
    raise ConfigError(
        f"a value has more than {LONGEST_STATEMENT} lines", file=file, line=start + 1, hint="no setting needs that"
    )


def _flat(node: dict[str, object], path: tuple[str, ...], line: int) -> list[Value]:
    found: list[Value] = []
    for key, value in node.items():
        if isinstance(value, dict) and value:
            found += _flat(value, (*path, key), line)
        else:
            found.append(Value((*path, key), value, line))
    return found


def _check(text: str, file: str) -> None:
    """Raise ``ConfigError`` unless the whole is valid TOML."""
    try:
        tomllib.loads(text)
    except ValueError as error:
        message = str(error)
        position = _POSITION.search(message)
        line = int(position[1]) if position and position[1] else text.rstrip("\n").count("\n") + 1
        reason = _POSITION.sub("", message)
        if quoted(reason) == HIDDEN:
            reason = "a name is given twice, or out of place"
        hint = 'a value is written like key = "text"; see aovpnd.conf(5)'
        raise ConfigError(f"is not TOML: {reason}", file=file, line=line, hint=hint) from None
