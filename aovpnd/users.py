# SPDX-License-Identifier: GPL-3.0-or-later
"""Users of this machine, and which tunnels their programs may use: frozen values, in the words of aovpnd.conf(5).

The kernel knows a packet's user by the socket that it comes from. What it sends by itself (an answer to a ping, a
router solicitation) has none, and is nobody's program.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from aovpnd.ruleset import Address

TABLE: Final = "user"
"""What the settings call them."""


def setting(user: str) -> str:
    """The name of what is said of a user, as settings have names."""
    return f"{TABLE}.{user}"


@dataclass(frozen=True, slots=True)
class Use:
    """Who may use a tunnel, by uid: its ``owners`` alone, where it has any, and nobody who is ``barred``. Its name
    ``servers`` anybody may ask by it: names are resolved by a program of its own.
    """

    owners: tuple[int, ...] = ()
    barred: tuple[int, ...] = ()
    servers: tuple[Address, ...] = ()


EVERYBODY: Final = Use()
"""Nobody is kept from it."""


class When(StrEnum):
    """When a tunnel that a user has to himself stands."""

    ALWAYS = "always"
    LOGGED_IN = "logged-in"


@dataclass(frozen=True, slots=True)
class User:
    """What programs of one user may: ``only`` that tunnel, or all but those that are ``never`` for him."""

    name: str
    uid: int
    only: str | None = None
    never: tuple[str, ...] = ()
    when: When = When.ALWAYS

    def may_use(self, tunnel: str) -> bool:
        """Whether a tunnel is for him."""
        return self.only in {None, tunnel} and tunnel not in self.never

    def __str__(self) -> str:
        said = f"only {self.only}" if self.only is not None else f"never {', '.join(self.never)}"
        return f"{said}, while logged in" if self.when is When.LOGGED_IN else said
