# SPDX-License-Identifier: GPL-3.0-or-later
"""What came of each life, kept in a file as it is done, so that a run that was broken off goes on; and the table."""

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final, Self


class Part(StrEnum):
    """What happens to a laptop."""

    COLD = "cold boot"
    BROKEN = "broken boot"
    END = "shutdown"
    UPGRADE = "upgrade"
    SUSPEND = "suspend"
    HIBERNATION = "hibernation"
    POWER_CUT = "power cut"


class Course(StrEnum):
    """What a laptop goes through, again and again; each time is a trial of each of its `PARTS`."""

    DAY = "day"
    BROKEN = "broken boot"
    UPGRADE = "upgrade"
    SUSPEND = "suspend"
    HIBERNATION = "hibernation"


PARTS: Final = {
    Course.DAY: (Part.POWER_CUT, Part.COLD, Part.END),
    Course.BROKEN: (Part.BROKEN,),
    Course.UPGRADE: (Part.UPGRADE,),
    Course.SUSPEND: (Part.SUSPEND,),
    Course.HIBERNATION: (Part.HIBERNATION,),
}
COUNTS: Final = {
    Course.DAY: 50,
    Course.BROKEN: 28,
    Course.UPGRADE: 20,
    Course.SUSPEND: 20,
    Course.HIBERNATION: 10,
}


@dataclass(frozen=True, slots=True)
class Life:
    """One thing that happened to a laptop, and what came of it."""

    part: str
    number: int
    suite: str
    what: str
    back_s: float | None = None
    """Seconds of the machine's own time until the tunnel worked, from power-on, waking, or the beginning of an upgrade;
    None where none was expected."""
    frames: int = 0
    """All that it sent."""
    leaked: str = ""
    lost: str = ""
    """What did not become as it should."""
    control: int = 0
    """How many of the senders were seen of the same laptop without the block."""
    senders: int = 0
    """How many there are."""


@dataclass(slots=True)
class Record:
    """The lives so far, and the file that keeps them: one JSON object per line."""

    path: Path
    lives: list[Life] = field(default_factory=list)

    @classmethod
    def open(cls, path: Path) -> Self:
        """What an earlier run has left."""
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return cls(path, [Life(**json.loads(line)) for line in lines])

    def add(self, life: Life) -> None:
        """Keep a life."""
        self.lives.append(life)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(life)) + "\n")

    def of(self, part: Part) -> list[Life]:
        """The lives of a part."""
        return [life for life in self.lives if life.part == part]

    def done(self, course: Course) -> set[int]:
        """The numbers of which there is a life of every part."""
        return set.intersection(*({life.number for life in self.of(part)} for part in PARTS[course]))


def passed(record: Record) -> bool:
    """Whether nothing leaked, everything became as it should, and every control was seen."""
    return not any(life.leaked or life.lost or life.control < life.senders for life in record.lives)


def line(life: Life) -> str:
    """One life, for whoever watches."""
    of = next(COUNTS[course] for course, parts in PARTS.items() if life.part in parts)
    words = f"{life.part} {life.number + 1}/{of}, {life.suite}: {life.what}"
    if life.back_s is not None:
        words += f"; the tunnel works after {life.back_s:.1f} s"
    words += f"; {life.frames} frames, without the block {life.control} of {life.senders} senders"
    return words + (f"; LEAKED {life.leaked}" if life.leaked else "") + (f"; LOST: {life.lost}" if life.lost else "")


def table(record: Record) -> str:
    """The table of docs/lives.md: by part, then each kind of the parts that have kinds."""
    rows = [
        "| what | trials | leaked | not as it should | control seen | tunnel works after: median | slowest |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for part in Part:
        lives = record.of(part)
        if not lives:
            continue
        rows.append(_row(f"**{part}**", lives))
        kinds = sorted({life.what for life in lives})
        if len(kinds) > 1:
            rows += [_row(kind, [life for life in lives if life.what == kind]) for kind in kinds]
    rows.append(_row("**all**", record.lives))
    return "\n".join(rows) + "\n"


def _row(name: str, lives: list[Life]) -> str:
    times = sorted(life.back_s for life in lives if life.back_s is not None)
    leaked, lost = sum(bool(life.leaked) for life in lives), sum(bool(life.lost) for life in lives)
    seen = sum(life.control >= life.senders for life in lives)
    middle, slowest = (f"{times[len(times) // 2]:.1f} s", f"{times[-1]:.1f} s") if times else ("", "")
    return f"| {name} | {len(lives)} | {leaked} | {lost} | {seen} | {middle} | {slowest} |"
