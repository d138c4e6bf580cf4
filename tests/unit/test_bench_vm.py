# SPDX-License-Identifier: GPL-3.0-or-later
"""The arithmetic of the roaming benchmark on a booted laptop (tools/bench_vm.py)."""

import pytest

from tools.bench_vm_figure import Roam, Span, read_report, row, silence, what_it_cost

CALL = "e 10.00\nc 10.01\ne 10.02\nd 10.03\ne 10.04\ne 12.54\nd 13.03\ne 12.56\nd 1"
"""Two and a half seconds of silence in a call, three in a stream, and a line that is being written."""


def test_a_report_is_read_to_its_last_whole_line() -> None:
    """What comes is sorted by what it is; half a line is nobody's."""
    report = read_report(CALL)

    assert report.echoes == (10.00, 10.02, 10.04, 12.54, 12.56)
    assert report.pieces == (10.03, 13.03)
    assert report.connections == 1


@pytest.mark.parametrize(
    ("start", "end", "longest"),
    [
        (10.0, 13.0, 2.50),  # in the middle
        (9.0, 10.1, 1.00),  # before the first
        (12.5, 14.0, 1.44),  # after the last
        (11.0, 12.0, 1.00),  # nothing at all: as long as one has listened
    ],
)
def test_silence_counts_from_edge_to_edge(start: float, end: float, longest: float) -> None:
    """A silence that the span cuts counts as far as it lies within."""
    assert silence(read_report(CALL).echoes, Span(start, end)) == pytest.approx(longest)


def test_a_roam_costs_call_and_stream() -> None:
    """Both are judged in the same span."""
    cost = what_it_cost(read_report(CALL), Span(10.0, 13.5), arrived=True)

    assert cost.call == pytest.approx(2.5)
    assert cost.stream == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("roams", "expected"),
    [
        (
            [Roam(0.1, 0.2, arrived=True), Roam(0.3, 0.4, arrived=True)],
            "| plugged | a | 2 | 0.10 s | 0.30 s | 0.30 s | met | 0.20 s | 0.40 s | 0.40 s |",
        ),
        (
            [Roam(0.1, 0.2, arrived=True)] * 9 + [Roam(1.01, 2.0, arrived=True)],
            "| plugged | a | 10 | 0.10 s | 1.01 s | 1.01 s | missed | 0.20 s | 2.00 s | 2.00 s |",
        ),
        (
            [Roam(0.5, 61.0, arrived=False)],
            "| plugged | a | 1, 1 of them never | 0.50 s | 0.50 s | 0.50 s | missed | 61.00 s | 61.00 s | 61.00 s |",
        ),
    ],
)
def test_a_row_judges_the_call(roams: list[Roam], expected: str) -> None:
    """Median, 99th percentile, worst; the aim is missed by the slowest of a few, and by who was never heard."""
    assert row("plugged", "a", roams) == expected
