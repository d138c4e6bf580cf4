# SPDX-License-Identifier: GPL-3.0-or-later
"""A slice of `make test-vm`: one life of each part; most take minutes, and are for that command."""

import os
from collections.abc import Iterator
from typing import Final

import pytest

from tests.vm.lives.parts import live
from tests.vm.lives.record import Part
from tests.vm.lives.stage import Stage

pytestmark = [pytest.mark.vm, pytest.mark.root, pytest.mark.slow]

FULL: Final = os.environ.get("AOVPND_VM") == "all"
_LONG: Final = pytest.mark.skipif(not FULL, reason="takes minutes: make test-vm")


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """A world without a laptop."""
    with Stage.build() as built:
        yield built


@pytest.mark.parametrize(
    ("part", "number"),
    [
        (Part.END, 0),
        *(pytest.param(part, number, marks=_LONG) for part, number in ((Part.COLD, 1), (Part.BROKEN, 17))),
        *(pytest.param(part, 5, marks=_LONG) for part in (Part.UPGRADE, Part.SUSPEND, Part.POWER_CUT)),
    ],
    ids=lambda value: str(value).replace(" ", "-") if isinstance(value, Part) else "",
)
def test_life(stage: Stage, part: Part, number: int) -> None:
    """Nothing leaves in clear, all becomes as it should, and without the block every sender is seen."""
    (life,) = live(stage, part, [number], seed=1)

    assert (life.leaked, life.lost) == ("", "")
    assert life.control == life.senders > 0
