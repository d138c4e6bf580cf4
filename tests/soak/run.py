# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the parts of a soak, keep each trial in a file as it is done, go on where a run was broken off."""

import json
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final, Self

from tests.lab.ike import Way
from tests.lab.process import LabError
from tests.netns.protected import JUDGED, ORDINARY
from tests.soak.meter import MLD
from tests.soak.plan import Part, Sizes, perform
from tests.soak.stage import CHARON, EVERYBODY, Leak, Stage
from tests.soak.stage import ORDINARY as ORDINARY_FLOOD

TRIALS_PER_WORLD: Final = 1000
"""Then a new world: what a leak in the lab itself would cost is bounded, and a daemon still lives long."""
MOST_LOST: Final = 5
"""After so many trials from which not all came back, there is nothing more to learn."""
_LONG: Final = 50
"""Transitions that a daemon has to live through before its growth counts."""
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
    world: str = ""
    """Tells apart daemons of one pid: every world counts pids anew."""


@dataclass(frozen=True, slots=True)
class Share:
    """Which trials are done here: every ``of``-th, the first being ``mine``. The flood is shared as well, and is only a
    ``thin``-th of what it could be: a machine that is not busy does more trials in the same time.
    """

    mine: int = 0
    of: int = 1
    thin: int = 1


WHOLE: Final = Share()


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
                part = entry.get("part") or record.trials[-1].part
                record.floods.append((part, entry["packets"], entry["seconds"]))
            else:
                record.trials.append(Trial(**entry))
        return record

    def add(self, trial: Trial) -> None:
        """Keep a trial."""
        self.trials.append(trial)
        self._write(asdict(trial))

    def add_flood(self, part: Part, packets: float, seconds: float) -> None:
        """Keep what the senders tried meanwhile."""
        self.floods.append((part, packets, seconds))
        self._write({"part": part, "packets": packets, "seconds": seconds})

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


def soak(
    sizes: Sizes,
    seed: int,
    record: Record,
    say: Callable[[str], None],
    parts: Iterable[Part] = Part,
    share: Share = WHOLE,
) -> None:
    """Do what is still to do of a share. A trial from which not all came back costs its world, and is not repeated."""
    lost = 0
    for part in parts:
        while True:
            done = {trial.number for trial in record.of(part)}
            todo = [number for number in range(share.mine, sizes.of(part), share.of) if number not in done]
            if not todo:
                break
            lost += not _in_one_world(part, todo[:TRIALS_PER_WORLD], sizes, seed, record, say, share)
            if lost == MOST_LOST:
                raise LabError(f"{lost} trials from which not all came back")


def _in_one_world(
    part: Part, numbers: list[int], sizes: Sizes, seed: int, record: Record, say: Callable[[str], None], share: Share
) -> bool:
    """False when the world had to be given up."""
    stage = Stage.build(Way.PSK) if part.is_ike else Stage.build()
    world = f"{time.time():.3f}-{share.mine}"
    rates, polite = EVERYBODY, tuple(JUDGED)
    if part.is_ike:
        rates = CHARON
    if part is Part.BOTH:
        rates, polite = ORDINARY_FLOOD, tuple(kind for kind in ORDINARY if kind.name not in _MDNS)
    rates = {kind: rate // share.of // share.thin for kind, rate in rates.items()}
    stands = True
    try:
        with stage.flood(rates, polite):
            stage.wait_back()
            for number in numbers:
                trial = replace(_one(stage, part, number, seed, sizes.transitions // 3), world=world)
                record.add(trial)
                if trial.leaked or trial.lost or number % 10 == 0:
                    say(_line(trial, sizes.of(part)))
                if trial.lost:
                    stage.lab_log(say)
                    stands = False
                    break
        record.add_flood(part, stage.packets(), stage.seconds() / share.of)
    finally:
        stage.close()
    return stands


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
    """How daemons that lived long have grown: of the one that lived longest KiB and descriptors at its tenth transition
    and at its last; of all, how many there were, through how many transitions, and by which factor their memory grew,
    the median and the most.
    """

    transitions: int
    resident: tuple[int, int]
    descriptors: tuple[int, int]
    lives: int
    together: int
    factors: tuple[float, float]

    @property
    def stays(self) -> bool:
        """Whether memory and descriptors do not grow: not with the longest life, and not with most of them."""
        long, most = self.resident[1] / self.resident[0], self.factors[1]
        return long < 1.1 and self.factors[0] < 1.05 and most < 1.25 and self.descriptors[1] <= self.descriptors[0] + 1


def growth(record: Record) -> Growth | None:
    """What became of the daemons of all worlds; None when none lived through more than ten transitions."""
    lives: dict[tuple[str, int], list[Trial]] = {}
    for trial in record.of(Part.TRANSITIONS):
        if trial.pid:
            lives.setdefault((trial.world, trial.pid), []).append(trial)
    longest = max(lives.values(), key=len, default=[])
    if len(longest) <= _SETTLED:
        return None
    long = [life for life in lives.values() if len(life) >= _LONG] or [longest]
    factors = sorted(life[-1].resident / life[_SETTLED - 1].resident for life in long)
    first, last = longest[_SETTLED - 1], longest[-1]
    return Growth(
        len(longest),
        (first.resident, last.resident),
        (first.descriptors, last.descriptors),
        len(long),
        sum(map(len, long)),
        (factors[len(factors) // 2], factors[-1]),
    )


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
