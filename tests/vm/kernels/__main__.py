# SPDX-License-Identifier: GPL-3.0-or-later
"""``make test-vm-kernel``: the leak suite's core in booted Debians, where WireGuard and ESP are the kernel's.

One machine for each suite, in it one lab for each file. What a file came to is kept, so that a run
which was broken off goes on where it was; what was good with the same program and the same file is not run again.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.lab.enter import WORLD_DIR, require_private_world
from tests.lab.rootdir import CACHE
from tests.vm.images import SUITES
from tests.vm.kernels.core import CORE, SOAK, path_of
from tests.vm.kernels.results import Key, Outcome, Results, commit
from tests.vm.kernels.run import Booted
from tests.vm.machine import MachineError


def main() -> int:
    """Run what is asked for and not done; exit status 0 when all that was asked for is good."""
    options = _options()
    require_private_world()
    results = Results.open(CACHE / "kernels.json", options.write)
    asked = [
        Key(suite, kind, file)
        for suite in options.suite or SUITES
        for kind in options.kind or CORE
        for file in CORE[kind]
        if not options.file or file in options.file
    ]
    words = ("-k", options.k) if options.k else ()
    # Each trial is told as it is done: there are hours of them.
    variables, said = ({SOAK: str(options.soak)}, ("-s",)) if options.soak else ({}, ())
    again = options.fresh or bool(words)
    todo = [key for key in asked if again or not _done(results, key, options)]
    print(f"commit {commit()}: {len(todo)} of {len(asked)} files to run; kept in {results.path}", flush=True)
    began = time.monotonic()
    good = True
    for suite in dict.fromkeys(key.suite for key in todo):
        # One at a time: another run beside this one may have done it meanwhile.
        mine = (
            key for key in todo if key.suite == suite and (again or not _done(Results.open(results.path), key, options))
        )
        for key, outcome in _run(mine, (*words, *said), options.minutes * 60, variables):
            good = good and outcome.good
            print(f"{time.monotonic() - began:7.0f} s  {key}: {outcome}", flush=True)
            if not words:
                results.keep(key, outcome)
    if options.write and not words:
        options.write.write_text(results.page(), encoding="utf-8")
    return 0 if good else 1


def _done(results: Results, key: Key, options: argparse.Namespace) -> bool:
    return results.good(key) if options.other_versions else results.holds(key)


def _run(
    keys: Iterator[Key], words: tuple[str, ...], seconds: float, variables: Mapping[str, str]
) -> Iterator[tuple[Key, Outcome]]:
    """Run files of one suite in a machine. One that breaks costs its file; the next has another machine."""
    for number, first in enumerate(keys, 1):
        with Booted(first.suite, WORLD_DIR / f"{first.suite}{number}") as booted:
            print(f"{first.suite} is up: Linux {booted.release}", flush=True)
            for key in itertools.chain((first,), keys):
                print(f"\n{key}", flush=True)
                try:
                    outcome = booted.run(path_of(key.file), key.kind, words, seconds, variables)
                except MachineError as error:
                    yield key, Outcome(commit(), booted.release, failed=1, failures=(f"the machine broke: {error}",))
                    break
                yield key, outcome


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make test-vm-kernel ARGS=...", description=__doc__)
    files = sorted({file for kind in CORE.values() for file in kind})
    parser.add_argument("file", nargs="*", choices=[*files, []], help="only these, as life for test_life.py")
    parser.add_argument("--suite", action="append", choices=SUITES, help="only this Debian")
    parser.add_argument("--kind", action="append", choices=tuple(CORE), help="only this kind of tunnel")
    parser.add_argument("-k", help="only these tests (pytest's -k); nothing is kept of it")
    parser.add_argument("--soak", type=int, metavar="N", help="so many kills of charon, and flushes, in soak_ike")
    parser.add_argument(
        "--other-versions", action="store_true", help="not what was good with another version of the program"
    )
    parser.add_argument("--fresh", action="store_true", help="also what was good before")
    parser.add_argument("--minutes", type=float, default=60, help="how long one file may take (%(default)s)")
    parser.add_argument("--write", type=Path, help="the page to write")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
