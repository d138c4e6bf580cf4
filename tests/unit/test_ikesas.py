# SPDX-License-Identifier: GPL-3.0-or-later
"""Which SAs carry: charon has them, and so has the kernel (backends/ikesas.py)."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, cast
from unittest.mock import patch

import pytest

from aovpnd import xfrm
from aovpnd.backends.ikesas import carrying
from aovpnd.backends.vici import Child, Sa
from aovpnd.errors import NetlinkError

if TYPE_CHECKING:
    from aovpnd.backends.vici import Charon

LINK: Final = 42
OLD: Final = Child(1, installed=True, age_s=100, rx_bytes=0, tx_bytes=0, spi=0xAA)
NEW: Final = replace(OLD, number=2, age_s=0, spi=0xBB)
HOME: Final = Sa("home", 1, established=True, local=None, remote=None, addresses=(), children=(OLD,))
OTHER: Final = replace(HOME, name="other")


@dataclass(frozen=True, slots=True)
class FakeCharon:
    """What charon has when it is asked once more."""

    now: tuple[Sa, ...]

    def sas(self) -> tuple[Sa, ...]:
        """As `Charon.sas`."""
        return self.now


def child_of(now: tuple[Sa, ...], held: set[int], interface: int | None = LINK) -> Child | None:
    """The one that carries, where the kernel has ``held``."""

    def holds(link: int, spi: int) -> bool:
        assert link == LINK
        return spi in held

    with patch.object(xfrm, "holds", holds):
        return carrying(cast("Charon", FakeCharon(now)), "home", (HOME,), interface)[1]


@pytest.mark.parametrize(
    ("now", "held", "child"),
    [
        ((), {0xAA}, OLD),
        ((HOME,), set(), None),
        ((replace(HOME, children=(OLD, NEW)),), {0xBB}, NEW),
        ((replace(HOME, children=(NEW,)), OTHER), {0xBB}, NEW),
        ((OTHER,), {0xAA + 1}, None),
    ],
    ids=["held", "flushed", "just renewed", "renewed and gone", "gone"],
)
def test_what_the_kernel_has_lost(now: tuple[Sa, ...], held: set[int], child: Child | None) -> None:
    """It carries nothing, though charon holds it for alive; one that was renewed meanwhile does."""
    assert child_of(now, held) == child


def test_where_charon_does_esp_itself() -> None:
    """The kernel knows nothing of it, and is not asked."""
    assert child_of((), set(), None) == OLD


def test_a_kernel_that_does_not_say() -> None:
    """Nobody says that it was lost."""
    with patch.object(xfrm, "holds", side_effect=NetlinkError("xfrm: not permitted")):
        assert carrying(cast("Charon", FakeCharon(())), "home", (HOME,), LINK)[1] == OLD
