# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of an audit: what counts as passed, what a broken-off run goes on with, and the table."""

from pathlib import Path
from typing import Final

import pytest

from tests.audits.attack import Attack, Outcome, Phase
from tests.audits.record import Record, findings, table, told
from tests.audits.scene import Scene


def _nothing(scene: Scene, tries: int) -> None:
    """Attack nobody."""


def _controlled(scene: Scene) -> None:
    """Harm nobody."""


LURE: Final = Attack("A1", "lure", "a lease | with routes", _nothing, _controlled, service=0.99)
PROBE: Final = Attack("B1", "probe", "probes", _nothing, phases=(Phase.BLOCKED, Phase.CONNECTED))
GOOD: Final = Outcome("A1-lure", Phase.CONNECTED, 20, 500, 0, service=1.0)


@pytest.mark.parametrize(
    ("outcome", "complaint"),
    [
        (GOOD, ""),
        (Outcome("A1-lure", Phase.BLOCKED, 20, 500, 0), ""),
        (Outcome("A1-lure", Phase.CONNECTED, 20, 500, 2, "2 × udp"), "2 frames in clear: 2 × udp"),
        (Outcome("A1-lure", Phase.CONNECTED, 20, 0, 0, service=1.0), "nobody tried to send"),
        (Outcome("A1-lure", Phase.CONNECTED, 20, 9, 0, service=0.5), "the tunnel carried 50.0 % of a call, not 99 %"),
        (Outcome("A1-lure", Phase.CONNECTED, 20, 9, 0, wrong="an answer"), "an answer"),
        (
            Outcome("A1-lure", Phase.CONNECTED, 20, 0, 0, wrong="no route", void=True),
            "does nothing to an unprotected laptop: no route",
        ),
    ],
)
def test_what_passes(outcome: Outcome, complaint: str) -> None:
    """Nothing in clear, somebody tried, the tunnel served on, and the attack is one."""
    assert outcome.complaint(LURE) == complaint


def test_run_goes_on_where_it_was_broken_off(tmp_path: Path) -> None:
    """What was tried often enough is not tried again, a line that was not finished is none, the last one counts."""
    path = tmp_path / "audits" / "record.jsonl"
    Record.open(path).add(Outcome("A1-lure", Phase.CONNECTED, 3, 7, 1, "1 × udp"))
    Record.open(path).add(GOOD)
    with path.open("a", encoding="utf-8") as file:
        file.write('{"attack": "B1-pro')

    record = Record.open(path)

    assert record.of(LURE) == (GOOD,)
    assert record.knows(LURE, Phase.CONNECTED, 20)
    assert not record.knows(LURE, Phase.CONNECTED, 21)
    assert not record.knows(LURE, Phase.BLOCKED, 1)
    record.add(Outcome("B1-probe", Phase.BLOCKED, 20, 9, 0))
    assert not record.is_whole([PROBE])
    record.add(Outcome("B1-probe", Phase.CONNECTED, 20, 9, 0))
    assert Record.open(path).is_whole([PROBE])
    assert not Record.open(path).is_whole([PROBE, LURE])


def test_table_and_findings(tmp_path: Path) -> None:
    """A line for each attack that was tried, its phases together; what did not pass is said below."""
    record = Record.open(tmp_path / "record.jsonl")
    for phase in Phase:
        record.add(Outcome("A1-lure", phase, 20, 600, 0, service=0.997 if phase is Phase.CONNECTED else None))
    record.add(Outcome("B1-probe", Phase.CONNECTED, 20, 1000, 3, "3 × arp", 0.2, told={"DHCP unique identifier": 2}))

    assert table([LURE, PROBE], record).splitlines()[2:] == [
        "| A1 | a lease \\| with routes | all | 80 | 2,400 | 0 | 99.7 % | yes |",
        "| B1 | probes | connected | 20 | 1,000 | 3 | – | – |",
    ]
    assert told([LURE, PROBE], record).splitlines()[2:4] == [
        "| host name | 0 |",
        "| DHCP unique identifier | 2 |",
    ]
    assert findings([LURE, PROBE], record) == ("`B1-probe`, connected: 3 frames in clear: 3 × arp",)
