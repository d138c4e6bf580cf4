# SPDX-License-Identifier: GPL-3.0-or-later
"""``make fuzz``: a hundred thousand damaged cases of every border, and a table at the end.

A run that was broken off goes on where it was, on the same commit with the same seed.
"""

import argparse
import os
import platform
import sys
import time
from pathlib import Path

from tests.fuzz.catalogue import TARGETS
from tests.fuzz.runner import Record, again, commit, passed, run, table

CASES = 100_000


def main() -> int:
    """Fuzz; exit status 0 when nothing was found."""
    options = _options()
    cache = Path(os.environ.get("AOVPND_LAB_CACHE", "/var/cache/aovpnd-lab")) / "fuzz"
    if options.replay:
        print(again(options.replay))
        return 0
    if options.list:
        print("\n".join(f"{target.name:20} {target.border}" for target in TARGETS.values()))
        return 0
    head = options.commit or commit()
    path = cache / f"{head}-{options.seed}.jsonl"
    if options.fresh:
        path.unlink(missing_ok=True)
    record = Record.open(path)
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {line}", flush=True)

    say(f"commit {head}, seed {options.seed}; kept in {path}")
    try:
        run(options.target or list(TARGETS), options.cases, options.seed, record, cache, say)
    finally:
        print(table(record), flush=True)
    if options.write:
        options.write.write_text(_HEAD + _began(head, options.seed) + table(record), encoding="utf-8")
    return 0 if passed(record) else 1


_HEAD = """<!-- SPDX-License-Identifier: GPL-3.0-or-later -->
# Fuzzing

`make fuzz` writes this page: damaged input for every border of the program, that is for whatever reads what somebody
else wrote. [tests/fuzz/README.md](../tests/fuzz/README.md) says how, and what a case has to keep: only declared errors,
in messages of one printable line without a key; bounded time and memory; and nothing open that was not open before.

*Outcomes* are different things that came of cases, by kind of value, or of error and its message: as many ways the
input went. *Memory* is what the process needed at the worst moment of a batch of 5,000 cases beyond what it had before,
the cases themselves included; *longest* is the processor time of one case. An *exception* is whatever is not declared,
each place counted once. The figures for `make test` are a slice of the same targets.

"""


def _began(head: str, seed: int) -> str:
    python = platform.python_version()
    return f"Commit `{head}`, seed {seed}, Python {python}, {os.cpu_count()} processors.\n\n"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=CASES, metavar="N", help="of each target (default: 100,000)")
    parser.add_argument("--target", action="append", choices=list(TARGETS), metavar="NAME", help="only this one")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fresh", action="store_true", help="begin anew")
    parser.add_argument("--list", action="store_true", help="show the targets")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="try a failing input that was kept again")
    parser.add_argument("--commit", help="what to call the program that is tried")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page there, too")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
