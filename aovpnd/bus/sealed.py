# SPDX-License-Identifier: GPL-3.0-or-later
"""What must not be said on the bus, where it can be watched and where messages lie about: it comes in a file of memory.

Only one that is sealed (memfd_create(2), F_ADD_SEALS of fcntl(2)): it has an end, it does not change while it is
looked at, and to read it never waits for anybody.
"""

import fcntl
import os
from dataclasses import dataclass, field
from typing import Final, Protocol

from aovpnd.errors import CommandRefused

LIMIT: Final = 32768
"""Bytes; as many as the daemon takes in a line."""
SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


@dataclass(frozen=True, slots=True)
class Sealed:
    """What was in it: no log and no message shows it."""

    text: str = field(repr=False)


class Variant(Protocol):
    """GLib's, as far as it is used here."""

    def unpack(self) -> tuple[object, ...]:
        """Its values as Python's."""

    def get_child_value(self, place: int) -> "Variant":
        """One of its values."""

    def get_type_string(self) -> str:
        """Its signature."""


class Descriptors(Protocol):
    """GLib's list of the descriptors of a message, as far as it is used here."""

    def peek_fds(self) -> list[int]:
        """All of them, which stay the message's."""


def arguments(parameters: Variant, descriptors: Descriptors | None) -> tuple[object, ...]:
    """The arguments of a call; instead of a descriptor, what is in its file. `CommandRefused` when that is unfit."""
    return tuple(
        _opened(value, descriptors) if parameters.get_child_value(place).get_type_string() == "h" else value
        for place, value in enumerate(parameters.unpack())
    )


def _opened(place: object, descriptors: Descriptors | None) -> Sealed:
    there = [] if descriptors is None else descriptors.peek_fds()
    if not isinstance(place, int) or not 0 <= place < len(there):
        raise CommandRefused("the call names a descriptor that it does not have", code="bad-request")
    return read(there[place])


def read(descriptor: int) -> Sealed:
    """The text in a sealed file, wherever it has been read up to. `CommandRefused` for anything else."""
    try:
        sealed = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & SEALS == SEALS
        data = os.pread(descriptor, LIMIT + 1, 0) if sealed else b""
        if len(data) > LIMIT:
            raise CommandRefused("what was handed over is too long", hint=f"at most {LIMIT} bytes", code="bad-request")
        if not data:
            raise _unfit()
        return Sealed(data.decode("utf-8"))
    except (OSError, UnicodeDecodeError):  # EINVAL: it is none that can be sealed
        raise _unfit() from None


def _unfit() -> CommandRefused:
    hint = "memfd_create(2) with F_SEAL_SHRINK, F_SEAL_GROW and F_SEAL_WRITE, and UTF-8 in it"
    return CommandRefused("what was handed over is no sealed text", hint=hint, code="bad-request")
