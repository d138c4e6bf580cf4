# SPDX-License-Identifier: GPL-3.0-or-later
"""Play the story on both stages in step, and measure."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from typing import Final, assert_never

from tests.lab.demo.stage import Stage
from tests.lab.demo.story import STORY, Act, Back, Row, Until
from tests.lab.frames import Frame
from tests.lab.process import LabError, wait_for
from tests.lab.record import Recording
from tests.lab.sender_kinds import BY_NAME

RECOVERY_DEADLINE_S: Final = 30.0
TOLERANCE_S: Final = 0.1
"""How long after its deadline a window may still let frames through."""
NO_DNS_IN_WINDOW: Final = frozenset({6, 7, 8, 18, 19})
"""Senders that ask resolvers which the lease did not give: no window opens for them."""


class Verdict(Enum):
    """What a frame in clear means."""

    LEAK = "nothing permits it"
    WINDOW = "the open window permits it"
    KNOWN = "docs/known-issues.md says that it gets out"


@dataclass(frozen=True, slots=True)
class Played:
    """A row as it went: Unix times, and how long the protected stage took to recover (seconds; None: nothing to)."""

    row: Row
    start: float
    end: float
    recovery_s: float | None


@dataclass(frozen=True, slots=True)
class Tally:
    """What one stage's senders tried and what was seen outside, in one row."""

    tried: int
    clear: int
    """Frames in clear that nothing permitted."""
    in_window: int
    """Frames in clear that the open window permitted."""
    known: int
    """Frames in clear that docs/known-issues.md says get out here."""
    what: str
    """What the frames in clear were, for people."""


@dataclass(frozen=True, slots=True)
class Reel:
    """One stage, recorded."""

    stage: Stage
    recording: Recording

    protected: bool

    def judge(self, played: Played) -> tuple[tuple[Frame, Verdict], ...]:
        """Say of each frame of a row that was in clear what that means."""
        opened, closed = self.stage.window or (0.0, 0.0)
        known = {BY_NAME[name].number for name in played.row.known} if self.protected else set[int]()
        judged = []
        for frame in self.recording.clear(played.start, played.end):
            verdict = Verdict.LEAK
            if opened <= frame.time < closed + TOLERANCE_S and frame.sender not in NO_DNS_IN_WINDOW:
                verdict = Verdict.WINDOW
            elif frame.sender in known:
                verdict = Verdict.KNOWN
            judged.append((frame, verdict))
        return tuple(judged)

    def lateness_s(self, rows: tuple[Played, ...]) -> float | None:
        """How long after the deadline the last frame came through the window (negative: before it); None: no window."""
        times = [frame.time for row in rows for frame, verdict in self.judge(row) if verdict is Verdict.WINDOW]
        return max(times) - self.stage.window[1] if times and self.stage.window else None

    def tally(self, played: Played) -> Tally:
        """Count one row."""
        judged = self.judge(played)
        counts = Counter(verdict for _, verdict in judged)
        return Tally(
            tried=self.stage.senders.tried(played.start, played.end),
            clear=counts[Verdict.LEAK],
            in_window=counts[Verdict.WINDOW],
            known=counts[Verdict.KNOWN],
            what=self.recording.describe(tuple(frame for frame, verdict in judged if verdict is Verdict.LEAK)),
        )


Tell = Callable[[str], None]


def play(protected: Stage, control: Stage, tell: Tell) -> Iterator[tuple[Played, int, int]]:
    """Play every row; yields it when it is over, with the frames in clear on either stage by the nft counters.

    ``tell`` gets what is going on, again and again. A row begins where the one before it ends, so that each frame
    belongs to one; what counts is the recording.
    """
    with ThreadPoolExecutor(2) as pool:
        start, before = time.time(), (0, 0)
        for row in STORY:
            protected.notes.clear()
            control.notes.clear()
            tell(row.event)
            other = pool.submit(_act, control, row.control)
            _act(protected, row.protected)
            recovery = _recover(protected, row, time.time() if row.back is Back.NOTHING else start)
            other.result()
            _wait(protected, row, tell)
            after = protected.clear_so_far(), control.clear_so_far()
            end = time.time()
            yield Played(row, start, end, recovery), after[0] - before[0], after[1] - before[1]
            start, before = end, after


def _act(stage: Stage, acts: tuple[Act, ...]) -> None:
    for act in acts:
        act(stage)


def _recover(stage: Stage, row: Row, event: float) -> float | None:
    """Wait for what the row wants back; returns how long after ``event`` it was there."""
    match row.back:
        case Back.NOTHING:
            return None
        case Back.TUNNEL:
            done = event
        case Back.TABLES:
            done = _when(stage.tables_are_back, row)
        case Back.GUARDED:
            done = _when(stage.guarded, row)
        case _:
            assert_never(row.back)
    answered = wait_for(
        f"the tunnel after “{row.event}”", lambda: stage.probe.answered_after(event), deadline_s=RECOVERY_DEADLINE_S
    )
    if answered is None:
        raise LabError("unreachable: wait_for returns what is true")
    return max(done, answered) - event


def _when(condition: Callable[[], bool], row: Row) -> float:
    wait_for(f"{row.back.value} after “{row.event}”", condition, deadline_s=RECOVERY_DEADLINE_S)
    return time.time()


def _wait(stage: Stage, row: Row, tell: Tell) -> None:
    """Let the senders run: for the row's dwell, or until the window has closed."""
    match row.until:
        case Until.DWELL:
            end = time.time() + row.dwell_s
        case Until.DEADLINE:
            if stage.window is None:
                raise LabError("no window is open")
            end = stage.window[1]
        case _:
            assert_never(row.until)
    while (left := end - time.time()) > 0:
        if row.until is Until.DEADLINE:
            tell(f"{row.event} · {stage.countdown()}")
            left = end - time.time()
        time.sleep(max(0.0, min(0.5, left)))
