# SPDX-License-Identifier: GPL-3.0-or-later
"""Which clocks are raised at boot, and to what; what is no note of ours raises none."""

import time
from pathlib import Path

import pytest

from aovpnd.adapters.state import State
from aovpnd.clockfile import EVERY_S, FILE, main, noted, raised

DAY_S = 86400
NOTED = 1_750_000_000


@pytest.mark.parametrize(
    ("now", "newest", "wanted"),
    [
        pytest.param(NOTED + EVERY_S, 0, None, id="right"),
        pytest.param(NOTED + DAY_S, 0, None, id="later"),
        pytest.param(NOTED, 0, NOTED + EVERY_S, id="not after the last answer, which may be later than the note"),
        pytest.param(NOTED - 14 * 3600, 0, NOTED + EVERY_S, id="in local time"),
        pytest.param(1_000_000_000, NOTED - 90 * DAY_S, NOTED + EVERY_S, id="no battery: before the system was made"),
        pytest.param(NOTED - 90 * DAY_S, NOTED - 91 * DAY_S, None, id="plausible, and the note may be wrong"),
    ],
)
def test_which_clock_is_raised(now: float, newest: float, wanted: int | None) -> None:
    """Only one that is behind, and only where the note is likelier to be right than the clock."""
    assert raised(now, NOTED, newest) == wanted


@pytest.mark.parametrize("text", ["", "yesterday", "-1", "0", "9" * 11, "1e9", "\u0661\u0662", "1750000000 "])
def test_notes(tmp_path: Path, text: str) -> None:
    """A number of seconds and nothing else, white space around it apart."""
    (tmp_path / FILE).write_text(text, encoding="utf-8")

    assert noted(tmp_path) == (NOTED if text.strip() == str(NOTED) else None)


def test_no_note(tmp_path: Path) -> None:
    """Nor is a directory in its place one."""
    assert noted(tmp_path) is None
    (tmp_path / FILE).mkdir()
    assert noted(tmp_path) is None
    assert main([f"--state-dir={tmp_path}"], put=lambda *_: pytest.fail("set")) == 0


def test_main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """It sets the clock once, and says from when to when, or why it cannot; a clock that is right is left alone."""
    put: list[tuple[int, float]] = []
    (tmp_path / FILE).write_text(f"{NOTED}\n", encoding="ascii")
    monkeypatch.setattr("aovpnd.clockfile.time.time", lambda: NOTED - 3600.0)
    caplog.set_level("INFO")

    assert main([f"--state-dir={tmp_path}"], put=lambda *what: put.append(what)) == 0
    assert put == [(time.CLOCK_REALTIME, NOTED + EVERY_S)]
    assert "said 2025-06-15 14:06:40 UTC" in caplog.text

    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    assert main([f"--state-dir={tmp_path}"], put=refused) == 1
    assert "cannot be set: Operation not permitted" in caplog.text
    monkeypatch.setattr("aovpnd.clockfile.time.time", lambda: NOTED + 3600.0)
    assert main([f"--state-dir={tmp_path}"], put=refused) == 0


def test_what_the_daemon_notes(tmp_path: Path) -> None:
    """Now and then, and the latest answer: also one at an earlier time, when the clock was wrong before."""
    state = State(tmp_path, tmp_path)
    seen = []
    for at in (None, NOTED, NOTED + EVERY_S - 1, NOTED + EVERY_S, NOTED - DAY_S):
        state.keep_clock(at)
        seen.append(noted(tmp_path))

    assert seen == [None, NOTED, NOTED, NOTED + EVERY_S, NOTED - DAY_S]
