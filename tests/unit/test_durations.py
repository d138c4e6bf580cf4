# SPDX-License-Identifier: GPL-3.0-or-later
"""Spans of time: what systemd.time(7) shows is read, and everything else is refused with its reason."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aovpnd import durations

GOOD = {
    "90": 90,
    "3min": 180,
    "1h 30s": 3630,
    "2 h": 7200,
    "2hours": 7200,
    "48hr": 172800,
    "1y 12month": 63115200,
    "500ms 500ms": 1,
    "1.5h": 5400,
    "0.5min": 30,
    "  3min\t": 180,
    "1000000us": 1,
    "1000000µs": 1,
    "1000000\u03bcs": 1,
    "1M": 2629800,
    "1m": 60,
    "0h 5s": 5,
}
NO_SPAN = "{} is no span of time; write it like 90, 3min or 1h 30s"
BAD = {
    "": NO_SPAN.format("''"),
    "  ": NO_SPAN.format("'  '"),
    "infinity": NO_SPAN.format("'infinity'"),
    "-3": NO_SPAN.format("'-3'"),
    "+3": NO_SPAN.format("'+3'"),
    "1e3": NO_SPAN.format("'1e3'"),
    "5 3": NO_SPAN.format("'5 3'"),
    "5s 3": NO_SPAN.format("'5s 3'"),
    ".5h": NO_SPAN.format("'.5h'"),
    "5.h": NO_SPAN.format("'5.h'"),
    "3 parsec": NO_SPAN.format("'3 parsec'"),
    "3Min": NO_SPAN.format("'3Min'"),
    "٣": NO_SPAN.format("'٣'"),
    "3min\n": NO_SPAN.format("'3min?'"),
    "3\x1b[31mmin": NO_SPAN.format("'3?[31mmin'"),
    "0.0000001s": NO_SPAN.format("'0.0000001s'"),
    "9" * 65: NO_SPAN.format(f"'{'9' * 64}…'"),
    "500ms": "'500ms' is not a whole number of seconds",
    "55s500ms": "'55s500ms' is not a whole number of seconds",
    "0": "'0' is no time at all",
    "0h 0s": "'0h 0s' is no time at all",
    "1h 1s": "'1h 1s' is too long: at most 1h",
    "3601": "'3601' is too long: at most 1h",
    "1y": "'1y' is too long: at most 1h",
}


@pytest.mark.parametrize(("text", "seconds"), GOOD.items())
def test_span_is_read(text: str, seconds: int) -> None:
    """Units add up, with and without blanks; a plain number is seconds."""
    assert durations.parse(text) == seconds


@pytest.mark.parametrize(("text", "reason"), BAD.items())
def test_other_text_is_refused(text: str, reason: str) -> None:
    """The reason names the text, in one printable line, and what to write instead; too much is never clamped."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole text is compared below
        durations.parse(text, at_most_s=3600)

    assert str(caught.value) == reason


def test_the_most_is_allowed() -> None:
    """The bound itself is within bounds."""
    assert durations.parse("60min", at_most_s=3600) == 3600


@given(st.integers(1, 10**9))
def test_what_is_written_is_read_back(seconds: int) -> None:
    """`render` and `parse` agree on every span."""
    assert durations.parse(durations.render(seconds)) == seconds


def test_nothing_is_written_as_such() -> None:
    """Zero has a spelling, for messages."""
    assert durations.render(0) == "0s"


@given(st.text(max_size=80) | st.text("0123456789.smhind M", max_size=80))
def test_any_text_has_an_outcome(text: str) -> None:
    """Every text is a positive span within bounds or a `ValueError` of one printable line."""
    try:
        seconds = durations.parse(text, at_most_s=3600)
        told = ""
    except ValueError as error:
        seconds, told = 1, str(error)

    assert 1 <= seconds <= 3600
    assert told.isprintable()


def test_import_costs_nothing() -> None:
    """No other module comes along: `aovpnctl` imports this on its way to the socket."""
    program = "import sys; before = set(sys.modules); import aovpnd.durations; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "['aovpnd', 'aovpnd.durations']"
