# SPDX-License-Identifier: GPL-3.0-or-later
"""A slice of ``make soak``: the same trials under the same flood, a few of each part."""

from pathlib import Path

import pytest

from tests.soak.plan import Part, Sizes
from tests.soak.run import Record, soak

pytestmark = [pytest.mark.root, pytest.mark.slow]

SIZES = Sizes(transitions=15, kills=6, flushes=3, both=2, charon=0, sas=0, ike=6)


@pytest.mark.parametrize(
    "parts",
    [(Part.TRANSITIONS,), (Part.KILLS, Part.FLUSHES), (Part.BOTH,), (Part.IKE,)],
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
    packets, seconds = record.flood(Part.IKE)  # charon at both ends carries each packet, which takes a good part of it
    assert packets >= 20_000 * seconds
