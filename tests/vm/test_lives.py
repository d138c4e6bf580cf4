# SPDX-License-Identifier: GPL-3.0-or-later
"""A slice of `make test-vm`, one life of each part. They take minutes, and are for that command."""

from collections.abc import Iterator

import pytest

from tests.vm import FULL
from tests.vm.lives.parts import live
from tests.vm.lives.record import Part
from tests.vm.lives.stage import Stage

pytestmark = [
    pytest.mark.vm,
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(not FULL, reason="takes minutes: make test-vm"),
]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """A world without a laptop."""
    with Stage.build() as built:
        yield built


@pytest.mark.parametrize(
    ("part", "number"),
    [
        (Part.COLD, 1),
        (Part.BROKEN, 17),
        (Part.END, 0),
        *((part, 5) for part in (Part.UPGRADE, Part.SUSPEND, Part.POWER_CUT)),
    ],
    ids=lambda value: str(value).replace(" ", "-") if isinstance(value, Part) else "",
)
def test_life(stage: Stage, part: Part, number: int) -> None:
    """Nothing leaves in clear, all becomes as it should, and without the block every sender is seen."""
    (life,) = live(stage, part, [number], seed=1)

    assert (life.leaked, life.lost) == ("", "")
    assert life.control == life.senders > 0
