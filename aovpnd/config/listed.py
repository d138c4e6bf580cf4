# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists of tables in the settings, [[filter]], [[user]] and the like: a document's entries in, tables out."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from aovpnd.config import toml
from aovpnd.config.findings import quoted
from aovpnd.config.ike_tables import Reader, Table
from aovpnd.config.settings import Layer
from aovpnd.model import Config, Origin

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Form:
    """What a list is called, which keys its tables have, and what to do instead of writing more than ``most``."""

    name: str
    keys: tuple[str, ...]
    most: int
    instead: str

    def is_of(self, entry: toml.Value) -> bool:
        """Whether an entry of a document belongs to such a list."""
        return entry.path[0] == self.name

    def kept(self, previous: Config) -> tuple[tuple[Origin, ...], frozenset[str]]:
        """The origins of what a configuration has of such a list, and which of it a policy has set."""
        origins = tuple(origin for origin in previous.origins if self._has(origin.key))
        return origins, frozenset(filter(self._has, previous.locked))

    def _has(self, key: str) -> bool:
        """Whether a setting's name is that of one of these tables: ``filter.home``."""
        return key.startswith(f"{self.name}.")

    def read(self, entries: Iterable[toml.Value], layer: Layer, reader: Reader) -> list[Table]:
        """The tables of one file, in their order; what does not belong into them becomes a finding."""
        tables: list[Table] = []
        for entry in filter(self.is_of, entries):
            if reader.full:
                break
            if layer is Layer.CHOICE:
                hint = "administrators write it into aovpnd.toml"
                reader.fault(entry.line, "users cannot choose this", hint, self.name)
            else:
                self._sort(entry, tables, reader)
        return tables

    def _sort(self, entry: toml.Value, tables: list[Table], reader: Reader) -> None:
        name = ".".join(entry.path[1:])
        if not name and entry.value == [{}]:
            if len(tables) == self.most:
                reader.fault(entry.line, f"there are more than {self.most}", self.instead, self.name)
            tables.append(Table(self.name, entry.line))
        elif not name or not tables:
            hint = f"write [[{self.name}]] on a line of its own"
            reader.fault(entry.line, "is a list of tables", hint, self.name)
        elif len(entry.path) != 2 or name not in self.keys:  # noqa: PLR2004 - the table and its key
            close = difflib.get_close_matches(name, self.keys, 1)
            hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(self.keys)}"
            reader.fault(entry.line, f"{quoted(name)} is no key of [[{self.name}]]", hint)
        else:
            tables[-1].values[name] = entry


def demand(table: Table, reader: Reader, hints: Mapping[str, str]) -> None:
    """Tell which of some keys a table lacks, each with what to do."""
    for key, hint in hints.items():
        if key not in table.values:
            reader.wrong(table, key, "is missing", hint)


def one_each(found: Iterable[tuple[Table, str, _T]], reader: Reader, hint: str) -> list[_T]:
    """What tables say of a tunnel each, the first of each tunnel's; a second one is told."""
    first: dict[str, tuple[Table, _T]] = {}
    for table, tunnel, each in found:
        before, _ = first.setdefault(tunnel, (table, each))
        if before is not table:
            where = f"{hint}; the other one is in line {before.line}"
            reader.wrong(table, "tunnel", f"{quoted(tunnel)} is named by another table as well", where)
    return [each for _, each in first.values()]
