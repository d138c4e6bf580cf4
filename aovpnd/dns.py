# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is asked for names: frozen values, in the words of resolv.conf(5) and resolvectl(1)."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from aovpnd.ruleset import Address


class Scope(StrEnum):
    """Which names go to a tunnel's servers."""

    ALL = "all"
    DOMAINS = "domains"


class Mechanism(StrEnum):
    """What programs ask for names on this machine."""

    RESOLVED = "systemd-resolved"
    RESOLVCONF = "resolvconf"
    FILE = "resolv.conf"


@dataclass(frozen=True, slots=True)
class Dns:
    """The servers of one tunnel, and which names they are asked for.

    ``search`` are appended to short names, and their own names go to the servers as well; ``routes`` are domains whose
    names go there and which are not appended. Both in lower case, without the last dot. ``beside`` are those of the
    tunnels beside this one, for domains alone: systemd-resolved can tell them apart, and nobody else.
    """

    link: int
    link_name: str
    servers: tuple[Address, ...]
    search: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    scope: Scope = Scope.ALL
    beside: "tuple[Dns, ...]" = ()

    @property
    def each(self) -> "tuple[Dns, ...]":
        """What each tunnel's link has."""
        return (self, *self.beside)

    @property
    def domains(self) -> tuple[str, ...]:
        """As resolvectl(1) writes them: ``~`` before what is not appended, ``~.`` for all names."""
        everything = ("~.",) if self.scope is Scope.ALL else ()
        return (*self.search, *(f"~{domain}" for domain in self.routes), *everything)

    def __str__(self) -> str:
        names = "all names" if self.scope is Scope.ALL else ", ".join((*self.search, *self.routes))
        return "; ".join((f"{', '.join(map(str, self.servers))} for {names}", *map(str, self.beside)))


@dataclass(frozen=True, slots=True)
class DnsState:
    """What is: ``by`` what programs resolve names here, which ``dns`` of ours is in force, and what is ``astray``.

    ``astray`` says in words why something of ours has to be put right whatever is wanted: it was overwritten, is left
    over, or cannot be seen; "" when nothing is. ``lost``: nobody knows what resolv.conf(5) said before ours.
    """

    by: tuple[Mechanism, ...] = ()
    dns: Dns | None = None
    astray: str = ""
    lost: bool = False


UNTOUCHED: Final = DnsState()
"""Nothing of ours anywhere."""
