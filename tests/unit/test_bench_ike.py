# SPDX-License-Identifier: GPL-3.0-or-later
"""The arithmetic of the benchmark of IKE tunnels (tools/bench_ike_figure.py)."""

from pathlib import Path

import pytest

from tools.bench_ike_figure import NEVER, OURS, PLAIN, TURNS, Samples, What, speeds, times, verdict


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


def _streams(path: Path, pairs: dict[What, list[list[tuple[float, float]]]]) -> Samples:
    """Of each pair of laptops its turns: ours, and the plain one's."""
    samples = Samples.open(path / "samples.jsonl")
    for what, found in pairs.items():
        for pair, turns in enumerate(found):
            for turn, values in enumerate(turns):
                for whose, value in zip((OURS, PLAIN), values, strict=True):
                    samples.add(what, whose, pair * TURNS + turn, value)
    return samples


def test_throughput_is_compared_turn_by_turn(tmp_path: Path) -> None:
    """The median of the turns' ratios of a pair, then that of the pairs: neither a machine that grows slow from turn
    to turn nor a pair that has more turns than another changes it.
    """
    kinds = {
        What.SPEED: [
            [(99.0, 100.0), (49.5, 50.0), (20.0, 40.0)],
            [(24.0, 25.0)],
            [(30.0, 30.0)],
        ],
        What.COST: [[(2.0, 1.0)], [(3.0, 2.0)], [(4.0, 4.0)]],
    }
    samples = _streams(tmp_path, kinds)

    assert speeds(samples)[2:] == [
        "| Mbit/s | 3 | 30.0 | 40.0 | 0.990 | 0.960 to 1.000 | at least 0.98 | not decided |",
        "| CPU seconds a gigabyte | 3 | 3.0 | 2.0 | 1.500 | 1.000 to 2.000 |  |  |",
        "",
        "The pairs' ratios of Mbit/s: 0.960, 0.990, 1.000.",
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
    """Met or missed where the median's interval is on one side; of many pairs few strays decide nothing."""
    assert verdict(_streams(tmp_path, {What.SPEED: [[(value, 100.0)] for value in ours]})) == said


def test_turns_of_one_pair_decide_nothing(tmp_path: Path) -> None:
    """However many they are: another pair may differ."""
    assert verdict(_streams(tmp_path, {What.SPEED: [[(99.0, 100.0)] * TURNS]})) == "not decided"
