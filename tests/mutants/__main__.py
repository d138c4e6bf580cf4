# SPDX-License-Identifier: GPL-3.0-or-later
"""``make mutants``: weaken the product on purpose, one way at a time, and show which test notices.

Each mutant is a copy of the tree with one text replaced. The golden files are not asked: they notice every change of a
letter, and whoever makes one would renew them. A result is kept until product or tests change, so a run that was
interrupted goes on where it was.
"""

import argparse
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tests.lab.enter import in_private_world
from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import LAB, Mutant

ROOT: Final = Path(__file__).resolve().parents[2]
PARTS: Final = ("aovpnd", "tests", "systemd", "etc", "pyproject.toml")
"""What a copy needs."""
UNASKED: Final = "not golden and not early_boot_is"
ROUNDS: Final = ("not slow", "")
"""First in a few situations of the small world; whoever survives that is asked about all."""
_ALL: Final = {"AOVPND_EXHAUSTIVE": "1"}
DEADLINE_S: Final = 3600
FAILED, COLLECTION_FAILED = 1, 2
"""Exit codes of pytest."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a mutant; ``caught_by`` is empty when it survived. ``key``: of just this change."""

    name: str
    key: str
    caught_by: str
    seconds: float


def main(arguments: list[str]) -> int:
    """Run the mutants and print the table; 1 when one survives or is stale, 2 when the tests fail without any."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)
    wanted = [mutant for mutant in MUTANTS if mutant.name in (options.names or {each.name for each in MUTANTS})]
    stale = [
        mutant.name for mutant in wanted if (ROOT / mutant.file).read_text(encoding="utf-8").count(mutant.old) != 1
    ]
    if stale:
        print(f"error: these no longer match their files: {', '.join(stale)}", file=sys.stderr)
        return 1
    if not in_private_world() and any(LAB & set(mutant.asked) for mutant in wanted):
        print("error: some of these need the lab (make mutants enters it)", file=sys.stderr)
        return 1
    store = Store.open(Path(os.environ.get("AOVPND_LAB_CACHE", ROOT / "out")))
    todo = [mutant for mutant in wanted if not store.knows(mutant)]
    print(f"{len(wanted)} mutants, {len(wanted) - len(todo)} known from an earlier run of the same tree", flush=True)
    if todo and (complaint := _baseline(todo)):
        print(f"error: the tests fail without any mutant:\n{complaint}", file=sys.stderr)
        return 2
    with ThreadPoolExecutor(options.jobs) as pool:
        for result in pool.map(_try, todo):
            store.keep(result)
            print(_line(result), flush=True)
    return _report([store.results[mutant.name] for mutant in wanted])


def _report(results: list[Result]) -> int:
    survivors = [result.name for result in results if not result.caught_by]
    dangers = {mutant.name: mutant.danger for mutant in MUTANTS}
    print()
    for result in results:
        print(f"{_line(result)}\n    {dangers[result.name]}")
    print(f"\n{len(results) - len(survivors)} of {len(results)} caught")
    if survivors:
        print(f"survived: {', '.join(survivors)}", file=sys.stderr)
    return 1 if survivors else 0


def _line(result: Result) -> str:
    return f"{result.name:36} {result.seconds:6.1f} s  {result.caught_by or 'SURVIVED'}"


# -- one mutant --------------------------------------------------------------------------------------------------------
def _try(mutant: Mutant) -> Result:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-") as place:
        tree = Path(place)
        _copy(tree)
        file = tree / mutant.file
        file.write_text(file.read_text(encoding="utf-8").replace(mutant.old, mutant.new), encoding="utf-8")
        caught_by = ""
        for chosen, tests in itertools.product(ROUNDS, mutant.asked):
            ran = _pytest(tree, (tests,), chosen)
            if ran.returncode in {FAILED, COLLECTION_FAILED}:
                caught_by = _first_failure(ran.stdout)
                if ran.returncode == COLLECTION_FAILED:
                    caught_by += ": it cannot even be built"
                break
    return Result(mutant.name, _key(mutant), caught_by, round(time.monotonic() - started, 1))


def _baseline(mutants: Iterable[Mutant]) -> str:
    """What the tests complain of in an unchanged copy."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as place:
        _copy(Path(place))
        ran = _pytest(Path(place), sorted({tests for mutant in mutants for tests in mutant.asked}), ROUNDS[0])
        return ran.stdout[-2000:] + ran.stderr[-500:] if ran.returncode else ""


def _copy(tree: Path) -> None:
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, tree / part, ignore=shutil.ignore_patterns("__pycache__", "mutants"))
        else:
            shutil.copy(source, tree / part)


def _pytest(tree: Path, tests: Iterable[str], chosen: str) -> subprocess.CompletedProcess[str]:
    """Ask tests, in a process that imports from ``tree`` alone, until the first one fails."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-m", chosen, "-k", UNASKED, "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, "--tb=line", *tests],
        cwd=tree,
        # The door's own options are for the tree itself; a copy keeps nothing.
        env={**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "PYTEST_ADDOPTS": "", **_ALL},
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )


def _first_failure(output: str) -> str:
    for line in output.splitlines():
        if line.startswith(("FAILED ", "ERROR ")):
            return line.split(" ", 1)[1].split(" - ")[0].removeprefix("tests/")
    return ""


# -- what is known -----------------------------------------------------------------------------------------------------
@dataclass(slots=True)
class Store:
    """Results of this very tree, kept in a file from one run to the next."""

    file: Path
    tree: str
    results: dict[str, Result]

    @classmethod
    def open(cls, place: Path) -> "Store":
        """What is known of the tree as it is now; nothing when it has changed since."""
        place.mkdir(parents=True, exist_ok=True)
        tree = hashlib.blake2b(digest_size=16)
        for path in sorted(path for part in PARTS for path in _files(ROOT / part)):
            tree.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
        store = cls(place / "mutants.json", tree.hexdigest(), {})
        try:
            known = json.loads(store.file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return store
        if known.get("tree") == store.tree:
            store.results = {entry["name"]: Result(**entry) for entry in known["results"] if entry["caught_by"]}
        return store

    def knows(self, mutant: Mutant) -> bool:
        """Whether just this mutant was caught in just this tree."""
        return mutant.name in self.results and self.results[mutant.name].key == _key(mutant)

    def keep(self, result: Result) -> None:
        """Remember a result at once."""
        self.results[result.name] = result
        known = {"tree": self.tree, "results": [asdict(each) for each in self.results.values()]}
        beside = self.file.with_suffix(".new")
        beside.write_text(json.dumps(known, indent=1), encoding="utf-8")
        beside.replace(self.file)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return [each for each in path.rglob("*") if each.suffix in {".py", ".nft"} and "mutants" not in each.parts]


def _key(mutant: Mutant) -> str:
    return hashlib.blake2b(repr(mutant).encode(), digest_size=8).hexdigest()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
