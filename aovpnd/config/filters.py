# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables [[filter]] of the settings: what may go through which tunnel.

Filters only ever tighten, so what of them cannot be read counts as the tightest there could be: a tunnel of which no
filter is known carries nothing until all of them can be read (`Filters.closed`). Of several layers the highest that
has filters for a tunnel says all of them, as with every setting; a list that others could add to would be no list.
"""

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

from aovpnd.config import plain, settings, toml, values
from aovpnd.config.findings import Finding, UnfitError, quoted
from aovpnd.config.ike_tables import Reader, Table
from aovpnd.config.listed import Form
from aovpnd.config.settings import Layer
from aovpnd.filters import TABLE, Direction, Filter, setting
from aovpnd.model import Config, Origin
from aovpnd.ruleset import L4, LARGEST_PORT, Network, Port, Ports

MOST: Final = 64
"""More filters in one file, and more items in one list, are a mistake."""
FORM: Final = Form(
    TABLE, ("tunnel", "direction", "addresses", "protocol", "ports"), MOST, "one may name many addresses and ports"
)
_EVERYBODY: Final = 'addresses = ["0.0.0.0/0", "::/0"] names everybody'
_PORT: Final = 'write it like ports = [443, "8000-8100"]'
_OWN_WORDS: Final = frozenset({"direction", "addresses", "protocol", "ports"})
"""No other setting has a key of this name."""
_WORD: Final = re.compile(r"\w+")
_CLOSE: Final = 0.6
"""How much of ``filter`` a word must have (difflib's ratio) to be one that was written wrongly."""
_SPAN: Final = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Ruled:
    """One filter of a file, and the tunnels that it is for."""

    tunnels: tuple[str, ...]
    filter: Filter
    file: str
    line: int
    layer: Layer


@dataclass(frozen=True, slots=True)
class Filters:
    """Those in force, by tunnel, each with its origin. ``closed``: tunnels without any carry nothing."""

    by_tunnel: tuple[tuple[str, tuple[Filter, ...]], ...] = ()
    origins: tuple[Origin, ...] = ()
    locked: frozenset[str] = frozenset()
    closed: bool = False

    @property
    def tunnels(self) -> frozenset[str]:
        """The names of the tunnels that have any."""
        return frozenset(name for name, _ in self.by_tunnel)


def may_be_meant(entry: toml.Value) -> bool:
    """Whether an entry may be a filter that is called by a wrong name: it has the form of one, or a word of one."""
    is_list = isinstance(entry.value, list) and any(isinstance(item, dict) for item in entry.value)
    return is_list or _sounds_like_one(" ".join(entry.path))


def may_hold(text: str) -> bool:
    """Whether a document that is not TOML may have been meant to have filters: something in it has their form, or a
    word of theirs, or is an escape by which such a word could be written. A comment is meant as one.
    """
    lines = (line for line in text.split("\n") if not line.lstrip().startswith("#"))
    return any("[[" in line or "\\" in line or _sounds_like_one(line) for line in lines)


def _sounds_like_one(text: str) -> bool:
    words = _WORD.findall(text.lower())
    return bool(_OWN_WORDS.intersection(words) or difflib.get_close_matches(TABLE, words, 1, _CLOSE))


# -- one file ---------------------------------------------------------------------------------------------------------
def read(entries: Iterable[toml.Value], file: str, layer: Layer) -> tuple[list[Ruled], list[Finding]]:
    """The filters of one file, in their order, and what is wrong with them; good only when nothing is."""
    reader = Reader(file)
    tables = FORM.read(entries, layer, reader)
    ruled = [each for table in tables if (each := _ruled(table, layer, reader)) is not None]
    return ruled, reader.all


def _ruled(table: Table, layer: Layer, reader: Reader) -> Ruled | None:
    """One filter, or None and why not."""
    before = len(reader.all)
    names = reader.typed(table, "tunnel", _tunnels)
    direction = reader.typed(table, "direction", _direction)
    addresses = reader.typed(table, "addresses", _addresses)
    protocols = reader.typed(table, "protocol", _protocols)
    ports = reader.typed(table, "ports", _ports)
    if names is None and "tunnel" not in table.values:
        reader.wrong(table, "tunnel", "is missing", 'say which tunnel it is for: tunnel = "NAME"')
    if "addresses" not in table.values and "protocol" not in table.values:
        reader.wrong(table, "addresses", "is missing: it would name everything", _EVERYBODY)
    if len(reader.all) > before or names is None:
        return None
    try:
        made = Filter(direction or Direction.OUT, addresses or (), protocols or (), ports or ())
    except ValueError as error:
        hint = 'write protocol = "tcp"' if ports else "icmp is of IPv4, icmpv6 of IPv6"
        reader.wrong(table, "protocol", str(error), hint)
        return None
    return Ruled(names, made, reader.file, table.line, layer)


# -- what a value may be ----------------------------------------------------------------------------------------------
def _tunnels(value: object) -> tuple[str, ...]:
    return _some(value, settings.tunnel_name)


def _direction(value: object) -> Direction:
    text = plain.text(value)
    try:
        return Direction(text)
    except ValueError:
        raise UnfitError(f"{quoted(text)} is no direction", 'write "out" or "in"') from None


def _protocols(value: object) -> tuple[L4, ...]:
    return _some(value, _protocol)


def _protocol(value: object) -> L4:
    text = plain.text(value)
    try:
        return L4(text)
    except ValueError:
        hint = f"there are: {', '.join(L4)}; without protocol, a filter names all"
        raise UnfitError(f"{quoted(text)} is no protocol that a filter can name", hint) from None


def _addresses(value: object) -> tuple[Network, ...]:
    return values.joined(_some(value, _network))


def _network(value: object) -> Network:
    return values.exact_network(plain.text(value))


def _ports(value: object) -> tuple[Port, ...]:
    """Ports and ranges in their order, joined where they overlap or touch."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(_some(value, _span)):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return tuple(first if first == last else Ports(first, last) for first, last in joined)


def _span(value: object) -> tuple[int, int]:
    """The first and the last port of a range, or a port twice."""
    if isinstance(value, int):
        port = plain.whole(value, 1, LARGEST_PORT, _PORT)
        return port, port
    text = plain.text(value) if isinstance(value, str) else ""
    matched = _SPAN.fullmatch(text)
    if matched is None:
        raise UnfitError(f"must be ports, not {quoted(text) if text else plain.kind(value)}", _PORT)
    first, last = int(matched[1]), int(matched[2] or matched[1])
    if not 1 <= first <= last <= LARGEST_PORT:
        raise UnfitError(f"{quoted(text)} is no range of ports from 1 to {LARGEST_PORT}", _PORT)
    return first, last


def _some(value: object, parse: Callable[[object], _T]) -> tuple[_T, ...]:
    """One or several; an empty list would name nothing, or everything."""
    found = plain.several(value, parse, MOST)
    if not found:
        raise UnfitError("an empty list names nothing", "remove the line, or name something")
    return found


# -- all files --------------------------------------------------------------------------------------------------------
def merge(ruled: Iterable[Ruled], *, closed: bool = False) -> Filters:
    """Those in force, of all files from weak to strong: of several files with filters for a tunnel, the last one's."""
    by_tunnel: dict[str, list[Ruled]] = {}
    for each in ruled:
        for name in each.tunnels:
            kept = [other for other in by_tunnel.get(name, ()) if other.file == each.file]
            by_tunnel[name] = [*kept, each]
    return Filters(
        tuple((name, tuple(each.filter for each in held)) for name, held in sorted(by_tunnel.items())),
        tuple(
            Origin(setting(name), str(each.filter), each.file, each.line)
            for name, held in sorted(by_tunnel.items())
            for each in held
        ),
        frozenset(setting(name) for name, held in by_tunnel.items() if held[0].layer is Layer.POLICY),
        closed,
    )


def strays(ruled: Iterable[Ruled], known: frozenset[str]) -> list[Finding]:
    """Filters for tunnels that are not there: perhaps a name that was written wrongly, and then one has none."""
    hint = f"there are: {', '.join(sorted(known)) or 'none'}; tunnels without a filter of their own stay closed"
    return [
        Finding(each.file, f"there is no tunnel called '{name}'", hint, each.line, f"{TABLE}.tunnel")
        for each in ruled
        for name in each.tunnels
        if name not in known
    ]


def kept(previous: Config | None) -> Filters:
    """What was in force before, where what is written now cannot be read; closed, because nobody knows what it says."""
    if previous is None:
        return Filters(closed=True)
    return Filters(
        previous.filters,
        *FORM.kept(previous),
        closed=True,
    )
