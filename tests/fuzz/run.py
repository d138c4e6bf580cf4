# SPDX-License-Identifier: GPL-3.0-or-later
"""Trying cases: a batch is drawn from its target, seed and number alone, so that any case can be made again.

Within a batch, a case that led to an outcome which was not seen before joins those that further cases are made of.
"""

import gc
import logging
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

from aovpnd.logs import one_line
from tests.fuzz import judge
from tests.fuzz.target import Target

CASE_S: Final = 1.0
"""Processor time that one case may take; the slowest honest one takes a tenth of it."""
HANG_S: Final = 20.0
"""Of processor time: then it is broken off."""
GROWTH_KIB: Final = 128 * 1024
"""Resident memory that a batch may need beyond what the process had before."""
BATCH: Final = 5000
_MOST_KEPT: Final = 400
_PRODUCT: Final = "/aovpnd/"


class HangsError(BaseException):
    """A case does not end; no `except Exception` of the product holds it up."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A case that the product did not survive as it should. ``place`` tells one defect from another."""

    number: int
    case: Any
    place: str
    text: str


@dataclass(slots=True)
class Result:
    """What came of a batch."""

    cases: int = 0
    seconds: float = 0.0
    outcomes: set[str] = field(default_factory=set)
    memory_kib: int = 0
    longest_s: float = 0.0
    failures: list[Failure] = field(default_factory=list)


def cases(target: Target, seed: int, batch: int, tell: list[bool]) -> Iterator[Any]:
    """The cases of one batch, without an end: the good ones first. ``tell[0]`` says, before the next one is drawn,
    whether the last one led somewhere new.
    """
    rng = Random(f"{target.name} {seed} {batch}")
    pool = list(target.seeds)
    yield from target.seeds
    while True:
        case = target.mutate(rng, rng.choice(pool), pool)
        tell[0] = False
        yield case
        if tell[0]:
            if len(pool) < _MOST_KEPT:
                pool.append(case)
            else:
                pool[rng.randrange(len(target.seeds), _MOST_KEPT)] = case


def try_batch(target: Target, seed: int, batch: int, count: int) -> Result:
    """Try ``count`` cases."""
    result = Result()
    tell = [False]
    drawn = cases(target, seed, batch, tell)
    gc.collect()
    resident = Resident()
    began = time.monotonic()
    with target.prepare(), _alarm(), _listening():
        for number in range(count):
            case = next(drawn)
            failure, word, spent = _try(target, number, case)
            result.longest_s = max(result.longest_s, spent)
            result.cases += 1
            if failure is not None:
                word = f"FAILED {failure.place}"
                if word not in result.outcomes:
                    result.failures.append(failure)
            if word not in result.outcomes:
                result.outcomes.add(word)
                tell[0] = True
    result.seconds = time.monotonic() - began
    result.memory_kib = resident.growth_kib()
    if result.memory_kib > GROWTH_KIB:
        text = f"the process grew by {result.memory_kib} KiB within {count} cases"
        result.failures.append(Failure(count, None, "memory", text))
    return result


def replay(target: Target, case: Any) -> str:
    """Try one case, and let whatever it raises through."""
    with target.prepare(), _alarm():
        signal.setitimer(signal.ITIMER_PROF, HANG_S)
        return target.judge(case)


def _try(target: Target, number: int, case: Any) -> tuple[Failure | None, str, float]:
    began = time.thread_time()
    signal.setitimer(signal.ITIMER_PROF, HANG_S)
    word, failure = "", None
    try:
        word = target.judge(case)
    except (Exception, HangsError, SystemExit) as error:  # noqa: BLE001 - all of them are what is looked for
        failure = Failure(number, case, _place(error), "".join(traceback.format_exception(error)))
    spent = time.thread_time() - began
    if failure is None and spent > CASE_S:
        failure = Failure(number, case, "slow", f"took {spent:.1f} s of processor time")
    return failure, word, spent


def _place(error: BaseException) -> str:
    """Where it came from: the kind of error, and the last line of the product that it passed."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.name != _breaks_off.__name__]
    ours = [frame for frame in frames if _PRODUCT in frame.filename] or list(frames)
    last = ours[-1]
    return f"{type(error).__name__} {Path(last.filename).name}:{last.lineno} {last.name}"


class _Ear(logging.Handler):
    """Hears what the product logs, and judges it as any other message; where it goes from there is not asked."""

    def emit(self, record: logging.LogRecord) -> None:
        """Raises in the middle of the case, like any other finding."""
        judge.told(log_text(record), longest=4000)


def log_text(record: logging.LogRecord) -> str:
    """A record as it leaves the process: aovpnd's own filters have been at it."""
    one_line(record)
    return record.getMessage()


@contextmanager
def _listening() -> Iterator[None]:
    """Nobody else hears what is logged meanwhile."""
    root, ours = logging.getLogger(), logging.getLogger("aovpnd")
    before = root.handlers, ours.propagate
    root.handlers, ours.propagate = [_Ear()], True
    try:
        yield
    finally:
        root.handlers, ours.propagate = before


@contextmanager
def _alarm() -> Iterator[None]:
    before = signal.signal(signal.SIGPROF, _breaks_off)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _breaks_off(*_: object) -> None:
    raise HangsError


class Resident:
    """How much more memory this process has needed than at a moment: proc(5), VmHWM and clear_refs."""

    def __init__(self) -> None:
        with suppress(OSError):  # a container may forbid it; then the mark is that of the whole process
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # begin the high-water mark anew
        self._before = _status("VmRSS")

    def growth_kib(self) -> int:
        """KiB, at the worst moment since."""
        return max(0, _status("VmHWM") - self._before)


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    return 0


Say = Callable[[str], None]
