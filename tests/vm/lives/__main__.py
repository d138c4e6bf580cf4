# SPDX-License-Identifier: GPL-3.0-or-later
"""``make test-vm``: booted laptops of both Debians live through boots, damage, ends, upgrades, sleep and power cuts.

A run that was broken off goes on where it was, on the same commit with the same seed.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.soak.run import commit
from tests.vm.lives.courses import live
from tests.vm.lives.record import COUNTS, Course, Life, Record, line, passed, table
from tests.vm.lives.stage import TOGETHER, Stage

_HEAD: Final = """<!-- SPDX-License-Identifier: GPL-3.0-or-later -->
# Lives of booted laptops

`make test-vm` writes this page: Debian 12 and 13 with their own kernels and the kernel's WireGuard, under QEMU.
Programs that send by every link in every way they know run from before systemd to the last instruction, spared by every
end of the system. All that a laptop's card sends is recorded from power-on to power-off, by QEMU itself and on the far
side, and the two must agree frame by frame. A trial has *leaked* when a single frame was not on the allow-list of
[security.md](security.md). Five trials share a laptop, and with it a control: the same laptop with the block taken off,
of which every sender has to be *seen* outside (of an end of the system: after its beginning, those that need no route).
Laptops have both Debians by turns, and what happens to them is drawn from the seed.

* *A day*, fifty times, on a disk that outlives it: at a random instant of the boot, or of what is named, the power
  fails; the disk keeps what was flushed. What left until then is judged; a window may let out what it likes. Then a
  *cold boot*, from power-on until the tunnel works, is what comes back; in the end the laptop is switched off, a
  *shutdown*, on the next day in the same way.
* *Broken boots*: what is damaged is named; the tunnel comes up where it can, and where the block cannot be loaded no
  network manager starts, and the console says so. Each is a laptop of its own, and what it shares is the control.
* *Sleep* is the kernel's (ACPI S3); what is sent before it has begun, with a window open, is permitted. Seconds are
  counted from waking.
* *Hibernation* keeps the memory on a swap partition and switches off; all that leaves is judged again from the next
  power-on, and the laptop goes on where it was, in the same network or another. Its control hibernates as well, and
  what is seen of it is what it sends after waking.
* *Upgrades* install the package over itself, forth and back; seconds are those of dpkg and of the tunnel together.

QEMU translates where there is no hardware for it: seconds are the machine's own, and slow.

"""


def main() -> int:
    """Do what is still to do; exit status 0 when nothing leaked and everything became as it should."""
    options = _options()
    head = options.commit or commit()
    cache = Path(os.environ.get("AOVPND_LAB_CACHE", "/var/cache/aovpnd-lab"))
    path = options.record or cache / "lives" / f"{head}-{options.seed}.jsonl"
    if options.fresh:
        path.unlink(missing_ok=True)
    courses = options.course or tuple(Course)
    if options.share:
        mine, _, of = options.share.partition("/")
        _work(path, courses, options, int(mine), int(of))
        return 0
    print(
        f"commit {head}, seed {options.seed}, {len(Record.open(path).lives)} trials done before; kept in {path}",
        flush=True,
    )
    try:
        _together(path, courses, options)
    finally:
        record = Record.open(path)
        print(report(record, head, options.seed), flush=True)
    if options.write:
        options.write.write_text(_HEAD + report(record, head, options.seed), encoding="utf-8")
    return 0 if passed(record) else 1


def report(record: Record, head: str, seed: int) -> str:
    """What came of it, in Markdown."""
    frames = sum(life.frames for life in record.lives)
    words = f"Commit `{head}`, seed {seed}, on Linux {platform.release()}, {os.cpu_count()} processors. "
    words += f"{frames:,} frames were judged.\n\n{table(record)}"
    wrong = [life for life in record.lives if life.leaked or life.lost or life.control < life.senders]
    if wrong:
        words += "\n" + "".join(f"* {line(_in_short(life))}\n" for life in wrong)
    return words


def _in_short(life: Life) -> Life:
    """Without the journal and the console, which stand in the record."""
    return replace(life, lost=life.lost.partition("\n")[0].removesuffix("; the console's end:"))


def _together(path: Path, courses: tuple[Course, ...], options: argparse.Namespace) -> None:
    """Each worker has a world of its own, and every so-manieth trial."""
    command = [sys.executable, "-m", "tests.vm.lives", f"--record={path}", f"--seed={options.seed}"]
    command += [f"--course={course}" for course in courses]
    command += [f"--count={options.count}"] if options.count else []
    workers = [subprocess.Popen([*command, f"--share={mine}/{options.workers}"]) for mine in range(options.workers)]
    for worker in workers:
        worker.wait()


def _work(path: Path, courses: tuple[Course, ...], options: argparse.Namespace, mine: int, of: int) -> None:
    """The trials of one worker: chunks of those that one laptop lives through."""
    began = time.monotonic()
    with Stage.build() as stage:
        for course in courses:
            done = Record.open(path).done(course)
            numbers = [
                number
                for number in range(options.count or COUNTS[course])
                if number not in done and number // TOGETHER % of == mine
            ]
            for life in live(stage, course, numbers, options.seed):
                Record.open(path).add(life)
                print(f"{time.monotonic() - began:7.1f} s  {line(life)}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make test-vm", description=__doc__)
    parser.add_argument("--course", type=Course, action="append", choices=list(Course), help="only this course")
    parser.add_argument("--count", type=int, help="so many trials of each course")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="so many laptops at once")
    parser.add_argument("--record", type=Path, metavar="FILE", help="where the trials are kept")
    parser.add_argument("--fresh", action="store_true", help="begin anew")
    parser.add_argument("--commit", help="what to call the program that is tried")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page there")
    parser.add_argument("--share", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
