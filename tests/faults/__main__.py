# SPDX-License-Identifier: GPL-3.0-or-later
"""``make faults``: every cell in every phase, every storm, and a table of each at the end.

A run that was broken off goes on where it was, on the same commit.
"""

import argparse
import json
import os
import re
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.audits.attack import Phase
from tests.faults.catalogue import CELLS
from tests.faults.cell import Cell
from tests.faults.stage import Outcome, Stage
from tests.faults.storms import STORMS, Weathered, weather
from tests.faults.table import page
from tests.lab.process import LabError
from tests.soak.run import commit

_STORM_S = 10.0
_CELLS_PER_WORLD = 60
"""Then a new world: what a fault in the lab itself would cost is bounded."""


def main() -> int:
    """Try them; exit status 0 when every cell is closed, said and healed."""
    options = _options()
    head = commit()
    cache = Path(os.environ.get("AOVPND_LAB_CACHE", "/var/cache/aovpnd-lab"))
    path = options.record or cache / "faults" / f"{head}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    if options.fresh:
        path.unlink(missing_ok=True)
    done = _read(path)
    wanted = [
        (cell, phase)
        for phase in (options.phase or tuple(Phase))
        for cell in CELLS
        if phase in cell.phases and re.search(options.cell, cell.id)
    ]
    todo = [(cell, phase) for cell, phase in wanted if (cell.id, phase) not in done]
    print(f"commit {head}: {len(wanted)} cells, {len(wanted) - len(todo)} done before; kept in {path}", flush=True)
    for start in range(0, len(todo), _CELLS_PER_WORLD):
        _in_one_world(todo[start : start + _CELLS_PER_WORLD], done, path)
    storms = _storms(options.cell, path)
    outcomes = [done[cell.id, phase] for cell, phase in wanted if (cell.id, phase) in done]
    failed = [outcome for outcome in outcomes if not outcome.passed]
    print(f"{len(outcomes)} cells, {len(failed)} failed, {sum(bool(outcome.clear) for outcome in outcomes)} leaked")
    if options.write:
        options.write.write_text(page(done.values(), storms, head), encoding="utf-8")
    return 1 if failed or len(outcomes) < len(wanted) or not all(each.passed for each in storms) else 0


def _storms(only: str, path: Path) -> list[Weathered]:
    """Those that have blown before, and those that are still to blow; none when only some cells are wanted."""
    before = [Weathered(**entry["storm"]) for entry in _entries(path) if "storm" in entry]
    todo = [] if only else [storm for storm in STORMS if storm.name not in {each.storm for each in before}]
    if not todo:
        return before
    with Stage.build() as stage:
        for storm in todo:
            weathered = weather(stage, storm, storm.size, _STORM_S)
            before.append(weathered)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"storm": asdict(weathered)}) + "\n")
            print(weathered.line(), flush=True)
    return before


def _in_one_world(todo: list[tuple[Cell, Phase]], done: dict[tuple[str, Phase], Outcome], path: Path) -> None:
    """A laptop that a cell has left broken is given back; the next one begins with a new one."""
    stage: Stage | None = None
    try:
        for cell, phase in todo:
            if stage is None:
                stage = Stage.build()
            outcome = _one(stage, cell, phase)
            done[cell.id, phase] = outcome
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(outcome)) + "\n")
            print(_line(outcome), flush=True)
            if outcome.missing:
                stage.close()
                stage = None
    finally:
        if stage is not None:
            stage.close()


def _one(stage: Stage, cell: Cell, phase: Phase) -> Outcome:
    began = time.monotonic()
    try:
        return stage.perform(cell, phase)
    except LabError as error:
        return Outcome(cell.id, phase, "", "", f"the lab: {error}", 0.0, round(time.monotonic() - began, 1))


def _line(outcome: Outcome) -> str:
    words = f"{outcome.phase}: {outcome.cell}: {outcome.said}; healed after {outcome.healed_s} s of {outcome.seconds} s"
    words += f"; {outcome.hits} calls" if outcome.hits else ""
    words += f"; IN CLEAR: {outcome.clear}" if outcome.clear else ""
    return words + (f"; FAILED: {outcome.missing}" if outcome.missing else "")


def _read(path: Path) -> dict[tuple[str, Phase], Outcome]:
    found: dict[tuple[str, Phase], Outcome] = {}
    for entry in _entries(path):
        if "storm" not in entry:
            outcome = Outcome(**{**entry, "phase": Phase(entry["phase"])})
            found[outcome.cell, outcome.phase] = outcome
    return found


def _entries(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--cell", default="", metavar="REGEX", help="only cells whose name fits")
    parser.add_argument("--phase", type=Phase, action="append", choices=list(Phase), help="only this phase")
    parser.add_argument("--record", type=Path, metavar="FILE", help="where the outcomes are kept")
    parser.add_argument("--fresh", action="store_true", help="begin anew")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page there, too")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
