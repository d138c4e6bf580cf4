# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables [[user]] of the settings: which tunnels whose programs may use.

Users only ever lose ways by them, so they are read as filters are: where any of them cannot be read, a tunnel is used
only if it has a filter (`config.filters`). Of several files the strongest that speaks of a user says all of it.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from aovpnd import names
from aovpnd.config import plain, settings, toml
from aovpnd.config.findings import Finding, UnfitError, no_tunnel, quoted
from aovpnd.config.ike_tables import Reader, Table
from aovpnd.config.listed import Form
from aovpnd.config.settings import Layer
from aovpnd.model import Config, Origin, Severity
from aovpnd.users import TABLE, User, When, setting

MOST: Final = 64
"""More users in one file, and more tunnels of one user, are a mistake."""
UNKNOWN: Final = "user-unknown"
"""The code of a user who is not there, and of whom nothing is therefore kept."""
FORM: Final = Form(TABLE, ("name", "only", "never", "when"), MOST, "one may name several users")
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}")
_OURS: Final = "aovpnd"
"""How the names of our own users begin."""
_NOBODY: Final = 65534
"""Whom the kernel names where it may not say who it is."""
_LARGEST: Final = 4294967293


@dataclass(frozen=True, slots=True)
class Ruled:
    """One user of a file; ``user`` None where passwd(5) knows nobody of that name."""

    name: str
    user: User | None
    file: str
    line: int
    layer: Layer


@dataclass(frozen=True, slots=True)
class Users:
    """Those in force, by their names, each with its origin."""

    users: tuple[User, ...] = ()
    origins: tuple[Origin, ...] = ()
    locked: frozenset[str] = frozenset()


# -- one file ---------------------------------------------------------------------------------------------------------
def read(
    entries: Iterable[toml.Value], file: str, layer: Layer, there: Callable[[], dict[str, int]]
) -> tuple[list[Ruled], list[Finding]]:
    """The users of one file, and what is wrong with them; good only when nothing is an error. Who is ``there`` is asked
    for files that speak of anybody.
    """
    reader = Reader(file)
    tables = FORM.read(entries, layer, reader)
    known = there() if tables else {}
    ruled = [each for table in tables for each in _ruled(table, layer, reader, known)]
    for first, again in _twice(ruled):
        hint = f"write all that is said of him into one of the two tables; the other one is in line {first.line}"
        reader.fault(again.line, f"{quoted(again.name)} is named by another table as well", hint, f"{TABLE}.name")
    strangers = (each for each in ruled if each.user is None)
    return ruled, [*reader.all, *map(_stranger, strangers)]


def _twice(ruled: Iterable[Ruled]) -> Iterator[tuple[Ruled, Ruled]]:
    """Those of whom a second table speaks, by whatever name: one of the two would count for nothing."""
    first: dict[int, Ruled] = {}
    for each in ruled:
        if each.user is not None and first.setdefault(each.user.uid, each).line != each.line:
            yield first[each.user.uid], each


def _stranger(each: Ruled) -> Finding:
    hint = "a user of a directory (LDAP) is named by number; once there is one: systemctl reload aovpnd"
    reason = f"this machine has no user called {quoted(each.name)}, so nobody is meant"
    return Finding(each.file, reason, hint, each.line, f"{TABLE}.name", Severity.WARNING, UNKNOWN)


def _ruled(table: Table, layer: Layer, reader: Reader, there: dict[str, int]) -> list[Ruled]:
    """Everybody whom one table names; nobody where something is wrong with it."""
    before = len(reader.all)
    whom = reader.typed(table, "name", lambda value: plain.several(value, lambda one: _whom(one, there), MOST))
    only = reader.typed(table, "only", settings.tunnel_name)
    never = reader.typed(table, "never", lambda value: plain.several(value, settings.tunnel_name, MOST))
    when = reader.typed(table, "when", _when)
    if not whom and len(reader.all) == before:
        reader.wrong(table, "name", "names nobody", 'say whose programs are meant: name = "alice"')
    if ("only" in table.values) is ("never" in table.values):
        hint = 'only = "NAME" for the one tunnel that they may use, or never = ["NAME"] for those that they may not'
        reader.wrong(table, "only", "takes one of the keys only and never", hint)
    elif "never" in table.values and never == ():
        reader.wrong(table, "never", "an empty list forbids nothing", "remove the table, or name a tunnel")
    if when is When.LOGGED_IN and "only" not in table.values:
        reader.wrong(table, "when", "is about the tunnel that somebody has to himself", "it belongs beside only")
    if len(reader.all) > before or whom is None:
        return []
    made = (
        (name, User(name, uid, only, never or (), when or When.ALWAYS) if uid is not None else None)
        for name, uid in whom
    )
    return [Ruled(name, user, reader.file, table.line, layer) for name, user in made]


def _whom(value: object, there: dict[str, int]) -> tuple[str, int | None]:
    """A user, by a name of passwd(5) or by number, and who it is."""
    if isinstance(value, int) and not isinstance(value, bool):
        return plain.number(value), _fit(plain.number(value), value, there)
    text = plain.text(value)
    if _NAME.fullmatch(text) is None:
        raise UnfitError(f"{quoted(text)} is no user's name", "a name of passwd(5), or a number")
    if text not in there and text.isdecimal():
        raise UnfitError(f"this machine has no user called {quoted(text)}", f"a number stands without quotes: {text}")
    return text, _fit(text, there[text], there) if text in there else None


def _fit(name: str, uid: int, there: dict[str, int]) -> int:
    if uid == 0:
        raise UnfitError("root is kept from nothing", "name users, or those that services run as")
    if any(number == uid and other.startswith(_OURS) for other, number in there.items()):
        raise UnfitError(f"{quoted(name)} is a user of aovpnd's own", "no tunnel stands without its ways")
    if uid == _NOBODY or not 0 < uid <= _LARGEST:
        raise UnfitError(f"{quoted(name)} is nobody in particular", "name a user of this machine")
    return uid


def _when(value: object) -> When:
    text = plain.text(value)
    try:
        return When(text)
    except ValueError:
        raise UnfitError(f"{quoted(text)} is not known", 'write "always" or "logged-in"') from None


# -- all files --------------------------------------------------------------------------------------------------------
def merge(ruled: Iterable[Ruled]) -> Users:
    """Those in force, of all files from weak to strong: of several that speak of somebody, the last one."""
    by_uid = {each.user.uid: each for each in ruled if each.user is not None}
    held = sorted(by_uid.values(), key=lambda each: each.name)
    return Users(
        tuple(each.user for each in held if each.user is not None),
        tuple(Origin(setting(each.name), str(each.user), each.file, each.line) for each in held),
        frozenset(setting(each.name) for each in held if each.layer is Layer.POLICY),
    )


def strays(ruled: Iterable[Ruled], tunnels: frozenset[str]) -> list[Finding]:
    """What is said of tunnels that are not there, and of one that is one too many."""
    ruled = tuple(ruled)
    own = {each.user.only: each for each in ruled if each.user is not None and each.user.only is not None}
    beyond = [own[name] for name in sorted(own)[len(names.LANE_TABLES) :]]
    reason = f"there are more than {len(names.LANE_TABLES)} tunnels that are somebody's own; this one leads nobody"
    return [
        *(Finding(each.file, reason, "", each.line, f"{TABLE}.only", Severity.WARNING) for each in beyond),
        *_unknown(ruled, tunnels),
    ]


def _unknown(ruled: Iterable[Ruled], tunnels: frozenset[str]) -> list[Finding]:
    return [
        no_tunnel(name, tunnels, each.file, each.line, f"{TABLE}.{key}", Severity.WARNING)
        for each in {(each.file, each.line): each for each in ruled if each.user is not None}.values()
        if each.user is not None
        for key, named in (("only", (each.user.only,)), ("never", each.user.never))
        for name in named
        if name is not None and name not in tunnels
    ]


def kept(previous: Config | None) -> Users:
    """What was in force before, where what is written now cannot be read."""
    if previous is None:
        return Users()
    return Users(
        previous.users,
        *FORM.kept(previous),
    )
