# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens in each course, drawn from the seed."""

from collections.abc import Iterator, Sequence

from tests.vm.lives.damaged import damaged
from tests.vm.lives.days import days
from tests.vm.lives.hibernating import hibernations
from tests.vm.lives.moving import suspends, upgrades
from tests.vm.lives.record import Course, Life
from tests.vm.lives.stage import Stage


def live(stage: Stage, course: Course, numbers: Sequence[int], seed: int) -> Iterator[Life]:
    """Do the trials of a course; one that goes wrong is told, and the next one begins."""
    match course:
        case Course.DAY:
            yield from days(stage, numbers, seed)
        case Course.BROKEN:
            yield from damaged(stage, numbers)
        case Course.UPGRADE:
            yield from upgrades(stage, numbers)
        case Course.SUSPEND:
            yield from suspends(stage, numbers, seed)
        case Course.HIBERNATION:
            yield from hibernations(stage, numbers, seed)
