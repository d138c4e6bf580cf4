# SPDX-License-Identifier: GPL-3.0-or-later
"""A long run: batches of every target, in processes of their own, remembered one by one, so that it can go on later."""

import ast
import json
import resource
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from tests.fuzz.catalogue import TARGETS
from tests.fuzz.run import BATCH, Failure, replay, try_batch

ADDRESS_SPACE: Final = 3 << 30
"""Bytes that a process may ask for: whatever asks for more meets a MemoryError, which is a finding."""
BATCHES_OF_A_PROCESS: Final = 8
"""Then it is replaced by a new one, so that nothing adds up."""


@dataclass(slots=True)
class Row:
    """What came of one target so far; a batch of it, or all."""

    target: str
    cases: int = 0
    seconds: float = 0.0
    outcomes: set[str] = field(default_factory=set)
    memory_kib: int = 0
    longest_s: float = 0.0
    failures: set[str] = field(default_factory=set)

    def add(self, other: "Row") -> None:
        """Both together."""
        self.cases += other.cases
        self.seconds += other.seconds
        self.outcomes |= other.outcomes
        self.memory_kib = max(self.memory_kib, other.memory_kib)
        self.longest_s = max(self.longest_s, other.longest_s)
        self.failures |= other.failures


@dataclass(slots=True)
class Record:
    """All batches that were tried on one commit with one seed, one to a line of a file."""

    path: Path
    done: dict[tuple[str, int], Row] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> "Record":
        """What an earlier run has left; a line that was cut off is tried again."""
        record = cls(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            try:
                batch, row = json.loads(line)
            except ValueError:
                continue
            row |= {"outcomes": set(row["outcomes"]), "failures": set(row["failures"])}
            record.done[row["target"], batch] = Row(**row)
        return record

    def add(self, batch: int, row: Row) -> None:
        """Remember one more."""
        self.done[row.target, batch] = row
        plain = asdict(row) | {"outcomes": sorted(row.outcomes), "failures": sorted(row.failures)}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([batch, plain]) + "\n")

    def rows(self) -> Iterator[Row]:
        """One for each target that was tried, in their order."""
        for name in TARGETS:
            total = Row(name)
            for (target, _), row in self.done.items():
                if target == name:
                    total.add(row)
            if total.cases:
                yield total


def run(names: list[str], count: int, seed: int, record: Record, kept: Path, say: Callable[[str], None]) -> None:
    """Try ``count`` cases of each target, but for the batches that were tried before. Failing inputs go to ``kept``."""
    wanted = [(name, batch) for batch in range(-(-count // BATCH)) for name in names]
    todo = [(name, batch) for name, batch in wanted if (name, batch) not in record.done]
    say(f"{len(todo)} batches of {BATCH} cases to try, {len(wanted) - len(todo)} tried before")
    context = get_context("forkserver")
    with ProcessPoolExecutor(2, context, _limit, max_tasks_per_child=BATCHES_OF_A_PROCESS) as pool:
        running: dict[Future[tuple[Row, list[Failure]]], int] = {}
        for name, batch in todo:
            running[pool.submit(_try, name, seed, batch)] = batch
            if len(running) >= 4:
                _collect(running, record, seed, kept, say)
        while running:
            _collect(running, record, seed, kept, say)


def _collect(
    running: dict[Future[tuple[Row, list[Failure]]], int],
    record: Record,
    seed: int,
    kept: Path,
    say: Callable[[str], None],
) -> None:
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        batch = running.pop(future)
        row, failures = future.result()
        record.add(batch, row)
        for failure in failures:
            path = keep(kept, row.target, seed, batch, failure)
            say(f"{row.target}: {failure.place}: see {path}")
        say(f"{row.target} {batch}: {row.cases} cases in {row.seconds:.1f} s, {len(row.outcomes)} outcomes")


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))


def _try(name: str, seed: int, batch: int) -> tuple[Row, list[Failure]]:
    result = try_batch(TARGETS[name], seed, batch, BATCH)
    row = Row(name, result.cases, result.seconds, result.outcomes, result.memory_kib, result.longest_s)
    row.failures = {failure.place for failure in result.failures}
    # A case may hold what cannot cross to another process.
    return row, [Failure(f.number, repr(f.case), f.place, f.text) for f in result.failures]


# -- failing inputs ---------------------------------------------------------------------------------------------------
def keep(kept: Path, target: str, seed: int, batch: int, failure: Failure) -> Path:
    """Write a failing input down, with all that is needed to try it again."""
    folder = kept / target
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{seed}-{batch}-{failure.number}.json"
    case = failure.case if isinstance(failure.case, str) else repr(failure.case)
    document = {
        "target": target,
        "seed": seed,
        "batch": batch,
        "number": failure.number,
        "commit": commit(),
        "place": failure.place,
        "case": case,
        "said": failure.text,
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return path


def again(path: Path) -> str:
    """Try a failing input again: what came of it now, or what it raises. As it was written down where that can be read,
    otherwise drawn again, which gives the same one on the same commit alone.
    """
    document = json.loads(path.read_text(encoding="utf-8"))
    target = TARGETS[document["target"]]
    try:
        case = ast.literal_eval(document["case"])
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        case = _drawn(document)
    return replay(target, case)


def _drawn(document: dict[str, Any]) -> Any:
    target = TARGETS[document["target"]]
    found: list[Any] = []

    def judged(case: Any) -> str:
        found.append(case)
        return target.judge(case)

    try_batch(replace(target, judge=judged), document["seed"], document["batch"], document["number"] + 1)
    return found[document["number"]]


def commit() -> str:
    """What is tried, in short; "+" where something was changed since."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "aovpnd", "tests") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


# -- the table --------------------------------------------------------------------------------------------------------
def table(record: Record) -> str:
    """What came of it, in Markdown."""
    head = ("target", "border", "cases", "seconds", "outcomes", "memory KiB", "longest ms", "exceptions")
    rows = [
        (
            row.target,
            TARGETS[row.target].border,
            f"{row.cases:,}",
            f"{row.seconds:.0f}",
            str(len(row.outcomes)),
            f"{row.memory_kib:,}",
            f"{row.longest_s * 1e3:.0f}",
            str(len(row.failures)),
        )
        for row in record.rows()
    ]
    total = list(record.rows())
    rows.append(
        (
            "all",
            f"{len(total)} borders",
            f"{sum(row.cases for row in total):,}",
            f"{sum(row.seconds for row in total):.0f}",
            str(sum(len(row.outcomes) for row in total)),
            f"{max((row.memory_kib for row in total), default=0):,}",
            f"{max((row.longest_s for row in total), default=0) * 1e3:.0f}",
            str(sum(len(row.failures) for row in total)),
        )
    )
    lines = ["| " + " | ".join(head) + " |", "|---|---" + "|---:" * (len(head) - 2) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def passed(record: Record) -> bool:
    """Whether nothing was found."""
    return not any(row.failures for row in record.rows())
