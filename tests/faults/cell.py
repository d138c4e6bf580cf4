# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cell of the matrix is: one call to the outside, one way in which it fails, and how people hear of it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING
from zlib import crc32

from tests.audits.attack import Phase

if TYPE_CHECKING:
    from tests.faults.stage import Stage


class Way(StrEnum):
    """How a call fails."""

    MISSING = "missing"
    EPERM = "EPERM"
    EACCES = "EACCES"
    EBUSY = "EBUSY"
    ENOSPC = "ENOSPC"
    EIO = "EIO"
    EROFS = "EROFS"
    EMFILE = "EMFILE"
    TIMEOUT = "time-out"
    PARTIAL = "partial output"
    STATUS = "wrong exit status"
    GARBAGE = "garbage"


Provoke = Callable[["Stage"], str]
"""Make the daemon call; returns what a command said that was refused, or nothing."""
Fault = Callable[["Stage"], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell. ``said`` is a regular expression that a problem of status, a refused command or (`Where.JOURNAL`) the
    journal must fit while the call fails; "" where nobody has to be told, because nothing is lost.
    """

    call: str
    way: Way
    fault: Fault
    provoke: Provoke
    said: str
    phases: tuple[Phase, ...] = tuple(Phase)
    journal: bool = False
    """Whether the journal says it, and not status: what fails is the telling, or another process."""

    @property
    def id(self) -> str:
        """Its name in tests and records."""
        return f"{self.call}-{self.way}".replace(" ", "-").replace("/", "-")

    @property
    def sliced(self) -> Phase:
        """The one phase of ``make test``: not a window of temporary access, for whose end one has to wait."""
        quick = [phase for phase in self.phases if phase is not Phase.ACCESS]
        return quick[crc32(self.id.encode()) % len(quick)]
