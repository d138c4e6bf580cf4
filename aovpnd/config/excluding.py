# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables [[exclude_from]] of the settings: networks that are kept out of one tunnel, and of no other. Of several
files the strongest that speaks of a tunnel says all of it; and a policy that says what is kept out of all tunnels
(``exclude.networks``) leaves no such list but a policy's.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from aovpnd import names
from aovpnd.config import settings, toml
from aovpnd.config.findings import OVERRULED, Finding, no_tunnel
from aovpnd.config.ike_tables import Reader, Table
from aovpnd.config.listed import Form, demand, one_each
from aovpnd.config.settings import Layer
from aovpnd.model import Config, Origin, Severity
from aovpnd.ruleset import Network

MOST: Final = 64
"""More lists in one file are a mistake."""
FORM: Final = Form(names.EXCLUDE_FROM, ("tunnel", "networks"), MOST, "one for each tunnel is enough")
_RULED: Final = "a policy says what is kept out of tunnels (exclude.networks), so that this list counts for nothing"
_LIKE: Final = 'write it like networks = ["198.51.100.0/24"]'


@dataclass(frozen=True, slots=True)
class Listed:
    """One list of a file."""

    tunnel: str
    networks: tuple[Network, ...]
    file: str
    line: int
    layer: Layer


@dataclass(frozen=True, slots=True)
class Lists:
    """Those in force, by their tunnels, each with its origin."""

    by_tunnel: tuple[tuple[str, tuple[Network, ...]], ...] = ()
    origins: tuple[Origin, ...] = ()
    locked: frozenset[str] = frozenset()


# -- one file ---------------------------------------------------------------------------------------------------------
def read(entries: Iterable[toml.Value], file: str, layer: Layer) -> tuple[list[Listed], list[Finding]]:
    """The lists of one file, and what is wrong with them; good only when nothing is an error."""
    reader = Reader(file)
    found = ((table, _listed(table, layer, reader)) for table in FORM.read(entries, layer, reader))
    good = ((table, each.tunnel, each) for table, each in found if each is not None)
    return one_each(good, reader, "write all of it into one list"), reader.all


def _listed(table: Table, layer: Layer, reader: Reader) -> Listed | None:
    tunnel = reader.typed(table, "tunnel", settings.tunnel_name)
    networks = reader.typed(table, "networks", settings.excluded)
    demand(table, reader, {"tunnel": 'say out of which tunnel: tunnel = "NAME"', "networks": _LIKE})
    return Listed(tunnel, networks, reader.file, table.line, layer) if tunnel and networks is not None else None


# -- all files --------------------------------------------------------------------------------------------------------
def merge(listed: Iterable[Listed], locked: frozenset[str]) -> Lists:
    """Those in force, of all files from weak to strong: of several for a tunnel, the last one. ``locked`` are the plain
    settings that a policy has set.
    """
    held = sorted({each.tunnel: each for each in listed if _counts(each, locked)}.items())
    return Lists(
        tuple((name, each.networks) for name, each in held if each.networks),
        tuple(Origin(_setting(name), ", ".join(map(str, each.networks)), each.file, each.line) for name, each in held),
        frozenset(_setting(name) for name, each in held if each.layer is Layer.POLICY),
    )


def _setting(tunnel: str) -> str:
    """The name of a tunnel's list, as settings have names."""
    return f"{FORM.name}.{tunnel}"


def strays(listed: Iterable[Listed], tunnels: frozenset[str], locked: frozenset[str]) -> list[Finding]:
    """Lists for tunnels that are not there, and those that a policy on all tunnels leaves without effect."""
    return [
        no_tunnel(each.tunnel, tunnels, each.file, each.line, f"{FORM.name}.tunnel", Severity.WARNING)
        if each.tunnel not in tunnels
        else Finding(each.file, _RULED, "", each.line, FORM.name, Severity.WARNING, OVERRULED)
        for each in listed
        if each.tunnel not in tunnels or not _counts(each, locked)
    ]


def _counts(each: Listed, locked: frozenset[str]) -> bool:
    return settings.EXCLUDE not in locked or each.layer is Layer.POLICY


def kept(previous: Config | None) -> Lists:
    """What was in force before, where what is written now cannot be read; without a before, nothing is kept out."""
    if previous is None:
        return Lists()
    return Lists(
        previous.exclude_from,
        *FORM.kept(previous),
    )
