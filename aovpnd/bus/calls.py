# SPDX-License-Identifier: GPL-3.0-or-later
"""What crosses the bus, as values: a call that came in, a call that goes out, and what can go wrong with one."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from aovpnd.errors import AovpndError

CALL_TIMEOUT_S: Final = 10.0
"""How long another service may take for what it answers from memory."""


class BusError(AovpndError):
    """A call failed: the service is not there, refused, or said nothing in time. ``name`` is the D-Bus error."""

    code = "bus-error"

    def __init__(self, text: str, *, name: str = "") -> None:
        super().__init__(text)
        self.name = name


class BusLost(BusError):
    """There is no connection to the bus, or there is none any more."""

    code = "bus-lost"


@dataclass(frozen=True, slots=True)
class Call:
    """A method call that came in: from whom (a unique bus name, which is never used twice), what, with what.

    ``interactive``: the caller lets polkit ask a person (ALLOW_INTERACTIVE_AUTHORIZATION of the D-Bus specification).
    """

    sender: str
    method: str
    arguments: tuple[object, ...]
    interactive: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """Where a call goes."""

    name: str
    path: str
    interface: str


@dataclass(frozen=True, slots=True)
class Typed:
    """A value inside a variant, with its D-Bus signature."""

    signature: str
    value: object


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. Whoever asked owns the descriptors."""

    values: tuple[object, ...]
    descriptors: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Match:
    """Which signals are wanted; None means any."""

    sender: str
    interface: str
    member: str
    path: str | None = None
    arg0: str | None = None


Handler = Callable[[Call], Awaitable[tuple[object, ...]]]
"""Carries a call out and returns what its method returns; raises `AovpndError`."""
Cancel = Callable[[], None]


class Bus(Protocol):
    """One connection to the bus, as the rest of this package sees it."""

    async def call(
        self,
        target: Target,
        method: str,
        signature: str = "()",
        *arguments: object,
        timeout_s: float = CALL_TIMEOUT_S,
        start: bool = False,
    ) -> Reply:
        """Call a method. `BusError` when it fails. ``start``: the bus may start the service first."""

    async def subscribe(self, match: Match, heard: Callable[[tuple[object, ...]], None]) -> Cancel:
        """Hear signals, until the returned function is called."""


NOBODY: Final = (1 << 32) - 1
"""(uid_t) -1, which is no user's."""
DRIVER: Final = Target("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
"""The bus itself."""
PROPERTIES: Final = "org.freedesktop.DBus.Properties"


def owner_changes(name: str) -> Match:
    """The signals that say who has ``name`` now: name, old owner, new owner."""
    return Match(DRIVER.name, DRIVER.interface, "NameOwnerChanged", DRIVER.path, name)


async def read_property(bus: Bus, target: Target, name: str) -> object:
    """One property of an object. `BusError` when it cannot be read."""
    place = Target(target.name, target.path, PROPERTIES)
    return only(await bus.call(place, "Get", "(ss)", target.interface, name))


def only(reply: Reply) -> object:
    """The one value of an answer that has one. `BusError` when it has not."""
    if len(reply.values) != 1:
        raise BusError("the answer cannot be understood")
    return reply.values[0]


async def uid_of(bus: Bus, sender: str) -> int:
    """The uid of whoever has a unique name, as the bus got it from the kernel. `BusError` when he is gone."""
    uid = only(await bus.call(DRIVER, "GetConnectionUnixUser", "(s)", sender))
    if type(uid) is not int or not 0 <= uid < NOBODY:
        raise BusError(f"the bus does not say who {sender} is")
    return uid
