# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tables and keys an IKE tunnel's file has: a document's values in, tables out, and a word about the rest."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from aovpnd.config import toml
from aovpnd.config.findings import Findings, UnfitError, quoted

IKE: Final = "ike"
AUTH: Final = "ike.auth"
TOKEN: Final = "ike.auth.token"  # noqa: S105 - a table
TPM: Final = "ike.auth.tpm"
SERVER: Final = "ike.server"
PPK: Final = "ike.ppk"
TUNNEL: Final = "tunnel"

_T = TypeVar("_T")


def _keys(text: str) -> tuple[str, ...]:
    return tuple(text.split())


KEYS: Final = {
    IKE: _keys(
        "gateways version aggressive identity proposals esp_proposals mobike fragmentation childless dpd rekey"
        " child_rekey reauth"
    ),
    AUTH: _keys("method secret_file user password_file password certificate key pkcs12"),
    TOKEN: _keys("module slot handle pin_file pin"),
    TPM: _keys("handle pin_file pin"),
    SERVER: _keys("method identity authorities revocation crls"),
    PPK: _keys("identity secret_file required"),
    TUNNEL: _keys("networks families addresses dns search mtu"),
}
"""Every key there is, by its table; aovpnd-ike(5) is the same list in words."""
ASKED: Final = frozenset({"password", "pin"})
"""Keys whose value is the table { ask = "..." }: what a person is asked for."""
MOST_ROUNDS: Final = 4
"""Rounds of authentication: nobody has more than two, one of the machine and one of the person."""


@dataclass(slots=True)
class Table:
    """One table of the document: its keys' values by their names. Lives as long as its parsing."""

    name: str
    line: int
    values: dict[str, toml.Value] = field(default_factory=dict)
    token: "Table | None" = None
    tpm: "Table | None" = None

    def key(self, name: str) -> str:
        """A key's whole name, for messages."""
        return f"{self.name}.{name}"

    def at(self, name: str) -> int:
        """The line of a key, or of the table that lacks it."""
        return self.values[name].line if name in self.values else self.line


class Reader(Findings):
    """Makes typed values of tables' keys, and collects all that is wrong; lives as long as its parsing."""

    def typed(self, table: Table, name: str, parse: Callable[[object], _T]) -> _T | None:
        """The value of a key; None when it is absent or was found wanting."""
        entry = table.values.get(name)
        if entry is None:
            return None
        try:
            return parse(entry.value)
        except UnfitError as error:
            self.wrong(table, name, error.reason, error.hint)
            return None

    def wrong(self, table: Table, name: str, reason: str, hint: str) -> None:
        """Something wrong with a key; where it is missing, its table is the place."""
        self.fault(table.at(name), reason, hint, table.key(name))


@dataclass(slots=True)
class Tables:
    """All tables of a document; those that it does not have are empty. Lives as long as its parsing."""

    ike: Table = field(default_factory=lambda: Table(IKE, 1))
    server: Table = field(default_factory=lambda: Table(SERVER, 1))
    tunnel: Table = field(default_factory=lambda: Table(TUNNEL, 1))
    ppk: Table | None = None
    rounds: list[Table] = field(default_factory=list)


def read(entries: tuple[toml.Value, ...], findings: Findings) -> Tables:
    """The tables of a document; what does not belong into them becomes a finding."""
    tables = Tables()
    for entry in entries:
        if findings.full:
            break
        _sort(entry, tables, findings)
    return tables


def _sort(entry: toml.Value, tables: Tables, findings: Findings) -> None:
    match entry.path:
        case ("ike", "auth"):
            _round(entry, tables, findings)
        case ("ike", "auth", "token" | "tpm" as name, *rest):
            _inner(name, tuple(rest), entry, tables, findings)
        case ("ike", "auth", *rest):
            if not tables.rounds:
                _single(entry, tables, findings)
            _put(tables.rounds[-1], tuple(rest), entry, findings)
        case ("ike", "ppk", *rest):
            if tables.ppk is None:
                tables.ppk = Table(PPK, entry.line)
            _put(tables.ppk, tuple(rest), entry, findings)
        case ("ike", "server", *rest):
            _put(tables.server, tuple(rest), entry, findings)
        case ("ike", *rest):
            _put(tables.ike, tuple(rest), entry, findings)
        case ("tunnel", *rest):
            _put(tables.tunnel, tuple(rest), entry, findings)
        case _:
            hint = "there are [ike], [[ike.auth]], [ike.server], [ike.ppk] and [tunnel]"
            findings.fault(entry.line, f"{quoted('.'.join(entry.path))} is no table of a tunnel", hint)


def _round(entry: toml.Value, tables: Tables, findings: Findings) -> None:
    if entry.value == {}:
        return _single(entry, tables, findings)
    if entry.value != [{}]:
        return findings.fault(entry.line, "is no value", "write [[ike.auth]] on a line of its own", AUTH)
    if len(tables.rounds) == MOST_ROUNDS:
        findings.fault(entry.line, f"there are more than {MOST_ROUNDS} rounds", "one or two are usual", AUTH)
    return tables.rounds.append(Table(AUTH, entry.line))


def _single(entry: toml.Value, tables: Tables, findings: Findings) -> None:
    """``[ike.auth]`` instead of ``[[ike.auth]]``: meant, and yet no list."""
    findings.fault(entry.line, "is a list of rounds", "write [[ike.auth]], with two brackets", AUTH)
    tables.rounds.append(Table(AUTH, entry.line))


def _inner(name: str, rest: tuple[str, ...], entry: toml.Value, tables: Tables, findings: Findings) -> None:
    """``token`` or ``tpm`` of the last round."""
    if not tables.rounds:
        _single(entry, tables, findings)
    table = tables.rounds[-1]
    if not rest and entry.value != {}:
        return findings.fault(entry.line, "is a table", f'write {name} = {{ handle = "..." }}', table.key(name))
    if name == "token":
        inner = table.token = table.token or Table(TOKEN, entry.line)
    else:
        inner = table.tpm = table.tpm or Table(TPM, entry.line)
    return _put(inner, rest, entry, findings)


def _put(table: Table, rest: tuple[str, ...], entry: toml.Value, findings: Findings) -> None:
    """A value into its table; the table's own head has none."""
    if not rest:
        if entry.value != {}:
            hint = f"write [{table.name}] on a line of its own"
            return findings.fault(entry.line, "is a table", hint, table.name)
        table.line = entry.line
        return None
    name = ".".join(rest)
    known = KEYS[table.name]
    if rest[0] in ASKED and rest[0] in known and rest[1:] == ("ask",):
        table.values[rest[0]] = replace(entry, value={"ask": entry.value})
        return None
    if len(rest) != 1 or name not in known:
        close = difflib.get_close_matches(name, known, 1)
        owner = next((other for other, keys in KEYS.items() if name in keys), None)
        hint = f"there are: {', '.join(known)}"
        if close:
            hint = f"did you mean {close[0]}?"
        elif owner is not None:
            hint = f"it belongs into [{owner}]"
        return findings.fault(entry.line, f"{quoted(name)} is no key of [{table.name}]", hint)
    table.values[name] = entry
    return None
