# SPDX-License-Identifier: GPL-3.0-or-later
"""The arithmetic of the benchmark of IKE tunnels (tools/bench_ike_figure.py)."""

from pathlib import Path

import pytest

from tools.bench_ike_figure import NEVER, OURS, PLAIN, Samples, What, speeds, times, verdict


def _samples(path: Path, values: dict[tuple[What, str], list[float]]) -> Samples:
    samples = Samples.open(path / "samples.jsonl")
    for (what, whose), found in values.items():
        for number, value in enumerate(found):
            samples.add(what, whose, number, value)
    return samples


def test_a_run_that_was_broken_off_goes_on(tmp_path: Path) -> None:
    """What was measured is read again, what never came too; a line that was cut short is measured once more."""
    samples = _samples(tmp_path, {(What.ROAM, OURS): [0.5, NEVER, 0.25]})
    with samples.path.open("a", encoding="utf-8") as file:
        file.write('["roam", "aovpnd", 3')

    again = Samples.open(samples.path)

    assert again.of(What.ROAM, OURS) == [0.5, NEVER, 0.25]
    assert again.holds(What.ROAM, OURS, 2)
    assert not again.holds(What.ROAM, OURS, 3)


def test_times_have_median_and_worst(tmp_path: Path) -> None:
    """One row for each tunnel that was measured; what never came is the worst there is, and counted."""
    samples = _samples(tmp_path, {(What.ROAM, OURS): [0.1, 0.2, 0.4], (What.ROAM, PLAIN): [NEVER, 1.0, 2.0]})

    assert times(samples)[2:] == [
        "| roam: new default route to first answer | aovpnd | 3 | 0.200 s | 0.400 s | 0 |",
        "| roam: new default route to first answer | plain charon | 3 | 2.000 s | never | 1 |",
    ]


def test_throughput_is_compared_turn_by_turn(tmp_path: Path) -> None:
    """The median of the turns' ratios: a machine that grows slow from turn to turn does not change it."""
    kinds = {
        (What.SPEED, OURS): [99.0, 49.5, 24.75, 20.0],
        (What.SPEED, PLAIN): [100.0, 50.0, 25.0, 40.0],
        (What.COST, OURS): [2.0, 3.0, 4.0],
        (What.COST, PLAIN): [1.0, 2.0, 4.0],
    }
    samples = _samples(tmp_path, kinds)

    assert speeds(samples)[2:] == [
        "| Mbit/s | 4 | 37.1 | 45.0 | 0.990 | 0.500 to 0.990 | at least 0.98 | not decided |",
        "| CPU seconds a gigabyte | 3 | 3.0 | 2.0 | 1.500 | 1.000 to 2.000 |  |  |",
    ]


@pytest.mark.parametrize(
    ("ours", "said"),
    [
        ([99.0, 98.0, 100.0, 101.0, 98.5], "met"),
        ([90.0, 97.0, 93.0, 96.0, 97.5], "missed"),
        ([70.0, 97.0, 120.0, 99.0, 130.0], "not decided"),
        ([130.0, 130.0], "not decided"),
        ([60.0, 99.0, 140.0] * 100, "met"),
    ],
)
def test_the_aim(tmp_path: Path, ours: list[float], said: str) -> None:
    """Met or missed where the median's interval is on one side; of many turns few strays decide nothing."""
    samples = _samples(tmp_path, {(What.SPEED, OURS): ours, (What.SPEED, PLAIN): [100.0] * len(ours)})

    assert verdict(samples) == said
