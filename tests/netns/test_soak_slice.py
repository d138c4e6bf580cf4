# SPDX-License-Identifier: GPL-3.0-or-later
"""A slice of ``make soak``: the same trials under the same flood, a few of each part; those of IKE are beside it."""

from pathlib import Path

import pytest

from tests.soak.plan import Part, Sizes
from tests.soak.run import Record, soak

pytestmark = [pytest.mark.root, pytest.mark.slow]

SIZES = Sizes(transitions=15, kills=6, flushes=3, both=2, charon=0, sas=0, ike=0)


@pytest.mark.parametrize(
    "parts",
    [(Part.TRANSITIONS,), (Part.KILLS, Part.FLUSHES), (Part.BOTH,)],
    ids=lambda p: p[0],
)
def test_slice_of_the_soak(tmp_path: Path, parts: tuple[Part, ...]) -> None:
    """Nothing leaks, all of it comes back each time, and the flood was one."""
    record = Record.open(tmp_path / "trials.jsonl")
    soak(SIZES, 7, record, print, parts)

    assert len(record.trials) == sum(SIZES.of(part) for part in parts)
    assert [trial for trial in record.trials if trial.leaked or trial.lost] == []
    packets, seconds = record.flood(Part.TRANSITIONS, Part.KILLS, Part.FLUSHES)
    assert packets >= 100_000 * seconds
