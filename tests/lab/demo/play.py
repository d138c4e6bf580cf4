# SPDX-License-Identifier: GPL-3.0-or-later
"""Play the story on both stages in step, and measure."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Final, assert_never

from tests.lab.demo.stage import Names, Stage
from tests.lab.demo.story import STORY, Act, Back, Row, Until
from tests.lab.frames import Frame
from tests.lab.process import LabError, wait_for
from tests.lab.record import Recording
from tests.lab.sender_kinds import BY_NAME

RECOVERY_DEADLINE_S: Final = 90.0
NAMES_DEADLINE_S: Final = 5.0
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
    """A row as it went: Unix times, how long the protected stage took to recover (seconds; None: nothing to), and who
    then answered its programs when they asked for a name.
    """

    row: Row
    start: float
    end: float
    recovery_s: float | None
    names: Names


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
        known = {BY_NAME[name].number for name in played.row.known} if self.protected else set[int]()
        judged = []
        for frame in self.recording.clear(played.start, played.end):
            verdict = Verdict.LEAK
            if self._in_window(frame):
                verdict = Verdict.WINDOW
            elif frame.sender in known:
                verdict = Verdict.KNOWN
            judged.append((frame, verdict))
        return tuple(judged)

    def _in_window(self, frame: Frame) -> bool:
        inside = any(window.start <= frame.time < window.end + TOLERANCE_S for window in self.stage.windows)
        return inside and frame.sender not in NO_DNS_IN_WINDOW

    def lateness_s(self, rows: tuple[Played, ...]) -> tuple[float, ...]:
        """How long after the end of each window the last frame came through it (negative: before it)."""
        times = [frame.time for row in rows for frame, verdict in self.judge(row) if verdict is Verdict.WINDOW]
        inside = [
            [time - window.end for time in times if window.start <= time < window.end + TOLERANCE_S]
            for window in self.stage.windows
        ]
        return tuple(max(late) for late in inside if late)

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
            for stage in (protected, control):
                stage.notes.clear()
                stage.event = None
            tell(row.event)
            other = pool.submit(_act, control, row.control)
            _act(protected, row.protected)
            recovery = _recover(protected, row, protected.event or start)
            names = _names(protected, row)
            other.result()
            _wait(protected, row, tell)
            after = protected.clear_so_far(), control.clear_so_far()
            end = time.time()
            yield Played(row, start, end, recovery, names), after[0] - before[0], after[1] - before[1]
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


def _names(stage: Stage, row: Row) -> Names:
    """Who answers when a program asks for a name, once it is who it should be, or at the deadline."""
    with suppress(LabError):
        wait_for("the right resolver", lambda: stage.resolver() is row.names, deadline_s=NAMES_DEADLINE_S)
    return stage.resolver()


def _when(condition: Callable[[], bool], row: Row) -> float:
    wait_for(f"{row.back.value} after “{row.event}”", condition, deadline_s=RECOVERY_DEADLINE_S)
    return time.time()


def _wait(stage: Stage, row: Row, tell: Tell) -> None:
    """Let the senders run: for the row's dwell, or until the window has closed."""
    match row.until:
        case Until.DWELL:
            end = time.time() + row.dwell_s
        case Until.DEADLINE:
            if not stage.windows:
                raise LabError("no window is open")
            end = stage.windows[-1].end
        case _:
            assert_never(row.until)
    while (left := end - time.time()) > 0:
        if row.until is Until.DEADLINE:
            tell(f"{row.event} · {stage.countdown()}")
            left = end - time.time()
        time.sleep(max(0.0, min(0.5, left)))
