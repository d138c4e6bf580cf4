# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of lives: what counts as passed, and what the table says."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.vm.images import SUITES
from tests.vm.lives.broken import DAMAGES
from tests.vm.lives.record import COUNTS, Course, Life, Part, Record, line, passed, table

WELL = Life(Part.COLD, 0, "trixie", "cold boot", back_s=3.0, frames=10, control=15, senders=15)


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """A record in a directory that is not there yet."""
    return Record.open(tmp_path / "lives" / "x.jsonl")


def test_what_was_done_is_kept(record: Record) -> None:
    """A run that goes on finds what an earlier one did."""
    for life in (WELL, replace(WELL, number=1, part=Part.END, back_s=None)):
        record.add(life)

    again = Record.open(record.path)

    assert again.lives == record.lives
    assert [life.number for life in again.of(Part.END)] == [1]


def test_a_day_is_done_with_its_last_life(record: Record) -> None:
    """One that was broken off is lived again."""
    for number, parts in ((0, (Part.POWER_CUT, Part.COLD, Part.END)), (1, (Part.POWER_CUT,))):
        for part in parts:
            record.add(replace(WELL, number=number, part=part))

    assert (record.done(Course.DAY), record.done(Course.UPGRADE)) == ({0}, set())


@pytest.mark.parametrize("wrong", [{"leaked": "1 frame"}, {"lost": "not connected"}, {"control": 14}])
def test_one_that_is_wrong_is_enough(record: Record, wrong: dict[str, str]) -> None:
    """A leak, a machine that is not as it should be, or a control that nobody has seen: the run has not passed."""
    record.add(WELL)
    assert passed(record)

    record.add(replace(WELL, **wrong))  # type: ignore[arg-type]

    assert not passed(record)


def test_table(record: Record) -> None:
    """A row for each part, one for each kind of a part that has several, and the sum."""
    for life in (
        WELL,
        replace(WELL, number=1, back_s=5.0, leaked="x"),
        replace(WELL, part=Part.END, what="poweroff", back_s=None),
        replace(WELL, part=Part.END, what="reboot", back_s=None, control=3),
    ):
        record.add(life)

    assert table(record).splitlines()[2:] == [
        "| **cold boot** | 2 | 1 | 0 | 2 | 5.0 s | 5.0 s |",
        "| **shutdown** | 2 | 0 | 0 | 1 |  |  |",
        "| poweroff | 1 | 0 | 0 | 1 |  |  |",
        "| reboot | 1 | 0 | 0 | 0 |  |  |",
        "| **all** | 4 | 1 | 0 | 3 | 5.0 s | 5.0 s |",
    ]
    assert "LEAKED x" in line(record.lives[1])


def test_every_damage_is_tried_on_both_debians() -> None:
    """The trials of broken boots go through all of them."""
    tried = {(number % len(SUITES), number // len(SUITES) % len(DAMAGES)) for number in range(COUNTS[Course.BROKEN])}

    assert len(tried) == len(SUITES) * len(DAMAGES)
