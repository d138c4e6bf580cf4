# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables [[sign_in]] of the settings: which page behind a tunnel's gateway tells whether somebody has to sign in
with his browser. Of several files the strongest that speaks of a tunnel says all of it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

from aovpnd.config import hosts, plain, settings, toml
from aovpnd.config.findings import Finding, UnfitError, no_tunnel, quoted
from aovpnd.config.ike_tables import Reader, Table
from aovpnd.config.listed import Form, demand, one_each
from aovpnd.config.settings import Layer
from aovpnd.model import Config, Origin, Severity
from aovpnd.pages import PRINTABLE, TABLE, Check, Page, Scheme, setting
from aovpnd.ruleset import LARGEST_PORT, Address
from aovpnd.tunnel import unfit

MOST: Final = 64
"""More checks in one file are a mistake."""
LONGEST: Final = 512
"""Characters of a check: it is written by hand."""
FORM: Final = Form(TABLE, ("tunnel", "check"), MOST, "one for each tunnel is enough")
_LIKE: Final = 'write it like "http://10.8.0.1/" or "https://portal.example.com/"'


@dataclass(frozen=True, slots=True)
class Checked:
    """One check of a file."""

    check: Check
    file: str
    line: int
    layer: Layer


@dataclass(frozen=True, slots=True)
class Checks:
    """Those in force, by their tunnels, each with its origin."""

    checks: tuple[Check, ...] = ()
    origins: tuple[Origin, ...] = ()
    locked: frozenset[str] = frozenset()


# -- one file ---------------------------------------------------------------------------------------------------------
def read(entries: Iterable[toml.Value], file: str, layer: Layer) -> tuple[list[Checked], list[Finding]]:
    """The checks of one file, and what is wrong with them; good only when nothing is an error."""
    reader = Reader(file)
    found = ((table, _check(table, reader)) for table in FORM.read(entries, layer, reader))
    good = ((table, each.tunnel, Checked(each, file, table.line, layer)) for table, each in found if each is not None)
    return one_each(good, reader, "a tunnel has one check"), reader.all


def _check(table: Table, reader: Reader) -> Check | None:
    tunnel = reader.typed(table, "tunnel", settings.tunnel_name)
    page = reader.typed(table, "check", _page)
    demand(table, reader, {"tunnel": 'say which tunnel it is for: tunnel = "NAME"', "check": _LIKE})
    return Check(tunnel, page) if tunnel is not None and page is not None else None


def _page(value: object) -> Page:
    """A page by its URL (RFC 3986), of which nothing is left to be guessed."""
    text = plain.text(value)
    if len(text) > LONGEST:
        raise UnfitError("is longer than a check may be", f"at most {LONGEST} characters")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise UnfitError(f"{quoted(text)} is no URL", _LIKE) from None
    # urlsplit() takes some of them out in silence.
    if parts.scheme not in set(Scheme) or not parts.netloc or not text.isprintable() or " " in text:
        raise UnfitError(f"{quoted(text)} is no URL of http or https", _LIKE)
    if "@" in parts.netloc:
        raise UnfitError("has a user or a password in it", "nobody signs in by a check: leave it out")
    if "#" in text:
        raise UnfitError("has a fragment (#), which is never asked for", "leave it out")
    scheme = Scheme(parts.scheme)
    if port is not None and not 1 <= port <= LARGEST_PORT:
        raise UnfitError(f"{port} is no port", f"from 1 to {LARGEST_PORT}")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if PRINTABLE.fullmatch(target) is None:
        raise UnfitError("has something in it that no URL has", "write it percent-encoded (RFC 3986 section 2.1)")
    return Page(scheme, _host(parts), port or scheme.port, target)


def _host(parts: SplitResult) -> Address | str:
    name = parts.hostname or ""
    try:
        addr = ip_address(name)
    except ValueError:
        addr = None
    if addr is None or "%" in name:
        if not name or ":" in name:
            raise UnfitError(f"{quoted(name)} is neither a host name nor an address", _LIKE)
        return hosts.name(name)
    if (why := unfit(addr)) is not None:
        raise UnfitError(f"{quoted(str(addr))} is {why}: no page behind a gateway is there", _LIKE)
    return addr


# -- all files --------------------------------------------------------------------------------------------------------
def merge(checked: Iterable[Checked]) -> Checks:
    """Those in force, of all files from weak to strong: of several for a tunnel, the last one."""
    held = sorted({each.check.tunnel: each for each in checked}.items())
    return Checks(
        tuple(each.check for _, each in held),
        tuple(Origin(setting(name), str(each.check.page), each.file, each.line) for name, each in held),
        frozenset(setting(name) for name, each in held if each.layer is Layer.POLICY),
    )


def strays(checked: Iterable[Checked], tunnels: frozenset[str]) -> list[Finding]:
    """Checks of tunnels that are not there."""
    return [
        no_tunnel(each.check.tunnel, tunnels, each.file, each.line, f"{TABLE}.tunnel", Severity.WARNING)
        for each in checked
        if each.check.tunnel not in tunnels
    ]


def kept(previous: Config | None) -> Checks:
    """What was in force before, where what is written now cannot be read."""
    if previous is None:
        return Checks()
    return Checks(
        previous.sign_in,
        *FORM.kept(previous),
    )
