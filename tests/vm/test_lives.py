# SPDX-License-Identifier: GPL-3.0-or-later
"""A slice of `make test-vm`, one trial of each course. They take minutes, and are for that command."""

from collections.abc import Iterator

import pytest

from tests.vm import FULL
from tests.vm.lives.courses import live
from tests.vm.lives.record import PARTS, Course
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
    ("course", "number"),
    [(Course.DAY, 5), (Course.BROKEN, 17), (Course.UPGRADE, 5), (Course.SUSPEND, 5), (Course.HIBERNATION, 5)],
    ids=["day", "broken-boot", "upgrade", "suspend", "hibernation"],
)
def test_trial(stage: Stage, course: Course, number: int) -> None:
    """Nothing leaves in clear, all becomes as it should, and without the block every sender is seen."""
    lives = list(live(stage, course, [number], seed=1))

    assert tuple(life.part for life in lives) == PARTS[course]
    for life in lives:
        assert (life.leaked, life.lost) == ("", "")
        assert life.control == life.senders > 0
