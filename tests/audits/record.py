# SPDX-License-Identifier: GPL-3.0-or-later
"""What an audit has found so far, kept line by line, and the table of it."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Self

from tests.audits.attack import Attack, Outcome, Phase
from tests.lab.identity import Trace

_COLUMNS: Final = (
    "class",
    "attack",
    "phases",
    "tries",
    "payloads tried",
    "frames in clear",
    "service kept",
    "control: harmed an unprotected laptop",
)


@dataclass(slots=True)
class Record:
    """The outcomes so far, and the file that keeps them: one JSON object per line, the last of an attack in a phase
    counts.
    """

    path: Path
    _outcomes: dict[tuple[str, Phase], Outcome] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> Self:
        """What an earlier run has left; a last line that was broken off is no outcome."""
        record = cls(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        whole = [line for line in lines if line.endswith("\n")]
        if whole != lines:
            path.write_text("".join(whole), encoding="utf-8")
        for line in whole:
            entry = json.loads(line)
            record._know(Outcome(**{**entry, "phase": Phase(entry["phase"])}))
        return record

    def add(self, outcome: Outcome) -> None:
        """Keep an outcome."""
        self._know(outcome)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(outcome)) + "\n")

    def _know(self, outcome: Outcome) -> None:
        self._outcomes[outcome.attack, outcome.phase] = outcome

    def of(self, attack: Attack) -> tuple[Outcome, ...]:
        """What is known of an attack, in the order of its phases."""
        known = (self._outcomes.get((attack.id, phase)) for phase in attack.phases)
        return tuple(outcome for outcome in known if outcome is not None)

    def knows(self, attack: Attack, phase: Phase, tries: int) -> bool:
        """Whether this was tried so often already, whatever came of it."""
        outcome = self._outcomes.get((attack.id, phase))
        return outcome is not None and outcome.tries >= tries

    def is_whole(self, attacks: Iterable[Attack]) -> bool:
        """Whether every attack was tried in all its phases."""
        return all(len(self.of(attack)) == len(attack.phases) for attack in attacks)


def table(attacks: Iterable[Attack], record: Record) -> str:
    """One line for each attack that was tried."""
    rows = [f"| {' | '.join(_COLUMNS)} |", "|---|---|---|---:|---:|---:|---:|---|"]
    rows += [_row(attack, outcomes) for attack in attacks if (outcomes := record.of(attack))]
    return "\n".join(rows) + "\n"


def _row(attack: Attack, outcomes: tuple[Outcome, ...]) -> str:
    phases = tuple(outcome.phase for outcome in outcomes)
    shares = [outcome.service for outcome in outcomes if outcome.service is not None]
    cells = (
        attack.ident,
        attack.title.replace("|", "\\|"),
        "all" if phases == tuple(Phase) else ", ".join(phases),
        f"{sum(outcome.tries for outcome in outcomes):,}",
        f"{sum(outcome.attempts for outcome in outcomes):,}",
        f"{sum(outcome.clear for outcome in outcomes):,}",
        f"{100 * min(shares):.1f} %" if shares and attack.service is not None else "–",
        "–" if attack.control is None else "**no**" if any(outcome.void for outcome in outcomes) else "yes",
    )
    return f"| {' | '.join(cells)} |"


def findings(attacks: Iterable[Attack], record: Record) -> tuple[str, ...]:
    """What did not pass, one sentence each."""
    return tuple(
        f"`{attack.id}`, {outcome.phase}: {complaint}"
        for attack in attacks
        for outcome in record.of(attack)
        if (complaint := outcome.complaint(attack))
    )


def told(attacks: Iterable[Attack], record: Record) -> str:
    """What permitted frames told about the machine, in all that was tried."""
    counted: Counter[str] = Counter()
    for attack in attacks:
        for outcome in record.of(attack):
            counted.update(outcome.told)
    rows = [f"| {trace} | {counted[trace]:,} |" for trace in Trace]
    return "\n".join(["| told by permitted frames | frames |", "|---|---:|", *rows]) + "\n"
