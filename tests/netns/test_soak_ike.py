# SPDX-License-Identifier: GPL-3.0-or-later
"""A slice of ``make soak`` with an IKE tunnel: its charon is killed, its SAs are flushed, under a flood of packets.

Where the kernel does ESP (``make test-vm-kernel``) its SAs and policies are flushed as well. ``AOVPND_SOAK_IKE`` says
how often; 100 is a soak.
"""

import os
from pathlib import Path
from typing import Final

import pytest

from tests.lab.process import SLOW
from tests.soak.plan import Part, Sizes
from tests.soak.run import Record, Share, soak, table

pytestmark = [pytest.mark.root, pytest.mark.slow]

EACH: Final = int(os.environ.get("AOVPND_SOAK_IKE", "2"))
SIZES: Final = Sizes(transitions=0, kills=0, flushes=0, both=0, charon=EACH, sas=EACH, ike=2 * EACH)


@pytest.mark.parametrize("part", [Part.CHARON, Part.SAS, Part.IKE])
def test_slice_of_the_soak_with_ike(tmp_path: Path, part: Part) -> None:
    """Nothing leaks, all of it comes back each time, and the flood was one."""
    record = Record.open(tmp_path / "trials.jsonl")
    thin = round(SLOW**2)  # what is slow on its own has nothing left for tunnel and daemon beside a flood of its size
    soak(SIZES, 7, record, print, (part,), Share(thin=thin))
    print(table(record))

    assert len(record.trials) == SIZES.of(part)
    assert [trial for trial in record.trials if trial.leaked or trial.lost] == []
    packets, seconds = record.flood(part)  # charon at both ends carries each packet, which takes a good part of it
    assert packets >= 20_000 / thin * seconds
