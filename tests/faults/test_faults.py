# SPDX-License-Identifier: GPL-3.0-or-later
"""A slice of the matrix of faults, the first way of each call, in one phase, and little storms. The whole is ``make
faults``.
"""

from collections.abc import Iterator
from typing import Final

import pytest

from tests.audits.attack import Phase
from tests.faults.catalogue import CELLS
from tests.faults.cell import Cell
from tests.faults.stage import Stage
from tests.faults.storms import STORMS, Storm, weather

_LEFT_OUT: Final = {"guard's nft", "guard's links", "resolv.conf", "wireguard-go hangs", "tunnels directory"}
"""Too slow for here, or much like another."""


def _slice() -> list[tuple[Cell, Phase]]:
    """The first way of every call, those of one phase together; and a window that ends while nothing can be loaded."""
    first: dict[str, Cell] = {}
    for cell in CELLS:
        first.setdefault(cell.call, cell)
    chosen = [(cell, cell.sliced) for call, cell in first.items() if call not in _LEFT_OUT]
    return [*sorted(chosen, key=lambda pair: (pair[1], pair[0].id)), (first["nft load"], Phase.ACCESS)]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """One laptop for all."""
    with Stage.build() as stage:
        yield stage


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "phase"), [pytest.param(cell, phase, id=f"{cell.id}-{phase}") for cell, phase in _slice()]
)
def test_fault(stage: Stage, cell: Cell, phase: Phase) -> None:
    """Nothing leaves while the call fails, people hear why, and it heals when the cause goes."""
    outcome = stage.perform(cell, phase)

    assert not outcome.clear
    assert not outcome.missing, outcome.missing


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.parametrize("storm", STORMS, ids=lambda storm: storm.name)
def test_storm(stage: Stage, storm: Storm) -> None:
    """While it blows nothing leaves and the watchdog is fed; then all is as it was, at once, and no memory is lost."""
    weathered = weather(stage, storm, storm.little, 1.0)
    print(weathered.line())

    assert weathered.passed, weathered.line()


def test_matrix_is_whole() -> None:
    """How many cells there are: each with a name of its own, each in the phases that it can be tried in."""
    assert len(CELLS) == 101
    assert len({cell.id for cell in CELLS}) == len(CELLS)
    assert sum(len(cell.phases) for cell in CELLS) == 360
