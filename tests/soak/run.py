# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the parts of a soak, keep each trial in a file as it is done, go on where a run was broken off."""

import json
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Self

from tests.lab.process import LabError
from tests.netns.protected import JUDGED, ORDINARY
from tests.soak.meter import MLD
from tests.soak.plan import Part, Sizes, perform
from tests.soak.stage import EVERYBODY, Leak, Stage
from tests.soak.stage import ORDINARY as ORDINARY_FLOOD

TRIALS_PER_WORLD: Final = 250
"""Then a new world: what a leak in the lab itself would cost is bounded."""
_SETTLED: Final = 10
"""A daemon's memory is compared from its tenth transition on, when every library is loaded."""
_MDNS: Final = {"mdns4", "mdns6"}
"""Multicast to a named link passes routing (docs/known-issues.md); where routing alone is left, they stay silent."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One thing that happened, and what came of it. Times in seconds, memory in KiB."""

    part: str
    number: int
    what: str
    back_s: float
    leaked: str = ""
    lost: str = ""
    pid: int = 0
    resident: int = 0
    descriptors: int = 0


@dataclass(slots=True)
class Record:
    """The trials so far, and the file that keeps them: one JSON object per line."""

    path: Path
    trials: list[Trial] = field(default_factory=list)
    floods: list[tuple[str, float, float]] = field(default_factory=list)
    """Part, packets that were tried, and seconds."""

    @classmethod
    def open(cls, path: Path) -> Self:
        """What an earlier run has left."""
        record = cls(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            entry = json.loads(line)
            if "packets" in entry:
                record.floods.append((record.trials[-1].part, entry["packets"], entry["seconds"]))
            else:
                record.trials.append(Trial(**entry))
        return record

    def add(self, trial: Trial) -> None:
        """Keep a trial."""
        self.trials.append(trial)
        self._write(asdict(trial))

    def add_flood(self, packets: float, seconds: float) -> None:
        """Keep what the senders tried meanwhile."""
        self.floods.append((self.trials[-1].part, packets, seconds))
        self._write({"packets": packets, "seconds": seconds})

    def flood(self, *parts: Part) -> tuple[float, float]:
        """Packets that were tried during these parts, and seconds."""
        chosen = [flood for flood in self.floods if flood[0] in parts]
        return sum(packets for _, packets, _ in chosen), sum(seconds for _, _, seconds in chosen)

    def of(self, part: Part) -> list[Trial]:
        """The trials of a part."""
        return [trial for trial in self.trials if trial.part == part]

    def _write(self, entry: dict[str, object]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def soak(sizes: Sizes, seed: int, record: Record, say: Callable[[str], None], parts: Iterable[Part] = Part) -> None:
    """Do what is still to do."""
    for part in parts:
        done = len(record.of(part))
        while done < sizes.of(part):
            upto = min(sizes.of(part), done + TRIALS_PER_WORLD)
            _in_one_world(part, range(done, upto), sizes, seed, record, say)
            done = upto


def _in_one_world(
    part: Part, numbers: range, sizes: Sizes, seed: int, record: Record, say: Callable[[str], None]
) -> None:
    stage = Stage.build()
    rates, polite = EVERYBODY, tuple(JUDGED)
    if part is Part.BOTH:
        rates, polite = ORDINARY_FLOOD, tuple(kind for kind in ORDINARY if kind.name not in _MDNS)
    try:
        with stage.flood(rates, polite):
            stage.wait_back()
            for number in numbers:
                trial = _one(stage, part, number, seed, sizes.transitions // 3)
                record.add(trial)
                if trial.leaked or trial.lost or (number + 1) % 10 == 0:
                    say(_line(trial, sizes.of(part)))
                if trial.lost:
                    stage.lab_log(say)
                    raise LabError(f"{part} {number} ({trial.what}): {trial.lost}")
        record.add_flood(stage.packets(), stage.seconds())
    finally:
        stage.close()


def _one(stage: Stage, part: Part, number: int, seed: int, quiet: int) -> Trial:
    what, leaked, lost = "", "", ""
    since = time.monotonic()
    try:
        what = perform(stage, part, number, seed, quiet)
        since = time.monotonic()
        stage.wait_back()
    except LabError as error:
        lost = str(error)
    back_s = time.monotonic() - since
    try:
        # With no filter at all the kernel says which groups it has joined (docs/known-issues.md); nobody else speaks.
        stage.judge(but=MLD if part is Part.BOTH else None)
    except Leak as leak:
        leaked = str(leak)
    pid, resident, descriptors = stage.memory() if not lost else (0, 0, 0)
    return Trial(part, number, what, round(back_s, 3), leaked, lost, pid, resident, descriptors)


def _line(trial: Trial, of: int) -> str:
    words = f"{trial.part} {trial.number + 1}/{of}: {trial.what}; back after {trial.back_s:.2f} s"
    if trial.resident:
        words += f"; daemon {trial.resident // 1024} MB, {trial.descriptors} descriptors"
    if trial.leaked:
        words += f"; LEAKED {trial.leaked}"
    return words + (f"; LOST: {trial.lost}" if trial.lost else "")


# -- what came of it ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Growth:
    """How a daemon that lived long has grown: KiB and descriptors at its tenth transition and at its last."""

    transitions: int
    resident: tuple[int, int]
    descriptors: tuple[int, int]

    @property
    def stays(self) -> bool:
        """Whether memory and descriptors do not grow."""
        return self.resident[1] < self.resident[0] * 1.1 and self.descriptors[1] <= self.descriptors[0] + 1


def growth(record: Record) -> Growth | None:
    """The daemon that lived through most transitions; None when none lived through more than ten."""
    lives: dict[int, list[Trial]] = {}
    for trial in record.of(Part.TRANSITIONS):
        lives.setdefault(trial.pid, []).append(trial)
    longest = max(lives.values(), key=len, default=[])
    if len(longest) <= _SETTLED:
        return None
    first, last = longest[_SETTLED - 1], longest[-1]
    return Growth(len(longest), (first.resident, last.resident), (first.descriptors, last.descriptors))


def table(record: Record) -> str:
    """The table for docs/soak.md."""
    rows = ["| what | trials | leaked | not back | back, median | slowest |", "|---|---:|---:|---:|---:|---:|"]
    groups: dict[str, list[Trial]] = {}
    for trial in record.trials:
        name = trial.what if trial.part == Part.TRANSITIONS else trial.part
        groups.setdefault(name, []).append(trial)
    for name, trials in sorted(groups.items(), key=lambda item: (item[1][0].part != Part.TRANSITIONS, item[0])):
        rows.append(_row(name, trials))
    rows.append(_row("**all**", record.trials))
    return "\n".join(rows) + "\n"


def _row(name: str, trials: list[Trial]) -> str:
    times = sorted(trial.back_s for trial in trials if not trial.lost) or [0.0]
    leaked, lost = sum(bool(trial.leaked) for trial in trials), sum(bool(trial.lost) for trial in trials)
    return f"| {name} | {len(trials)} | {leaked} | {lost} | {times[len(times) // 2]:.2f} s | {times[-1]:.2f} s |"


def commit() -> str:
    """The commit that is being soaked, with a + when files of the program differ from it."""
    root = Path(__file__).resolve().parents[2]

    def git(*words: str) -> str:
        # The tree may belong to another user than root, who runs this.
        command = ["git", "-c", f"safe.directory={root}", "-C", str(root), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    return (git("rev-parse", "--short=12", "HEAD") or "unknown") + ("+" if git("status", "--short", "aovpnd") else "")
