# SPDX-License-Identifier: GPL-3.0-or-later
"""``make week``: a replayed week of a booted laptop, and a table at the end.

A run that was broken off goes on with the day that it was in, on the same commit with the same seed and sizes.
"""

import argparse
import os
import platform
import shutil
import sys
import time
from dataclasses import astuple, fields
from pathlib import Path

from tests.soak.run import commit
from tests.vm.images import SUITES
from tests.week.page import page, passed
from tests.week.plan import Sizes, week
from tests.week.run import Record, live

_NAMES = {"bookworm": "Debian 12", "trixie": "Debian 13"}


def main() -> int:
    """Live through it; exit status 0 when nothing leaked, no repair was needed, and it was not offline for long."""
    parser = argparse.ArgumentParser(prog="make week", description=__doc__)
    for size in fields(Sizes):
        parser.add_argument(f"--{size.name}", type=int, default=size.default, metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--suite", choices=SUITES, default="trixie")
    parser.add_argument("--fresh", action="store_true", help="begin anew")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page there, too")
    options = parser.parse_args()
    sizes = Sizes(**{size.name: getattr(options, size.name) for size in fields(Sizes)})
    try:
        days = week(options.seed, sizes)
    except ValueError as error:
        parser.error(str(error))
    head = commit()
    name = "-".join(map(str, (head, options.suite, options.seed, *astuple(sizes))))
    place = Path(os.environ.get("AOVPND_LAB_CACHE", "/var/cache/aovpnd-lab")) / "week" / name
    if options.fresh and place.exists():
        shutil.rmtree(place)
    record = Record.open(place)
    done = max(len(record.days) - 1, 0)
    print(f"commit {head}, seed {options.seed}, {done} of {len(days)} days done before; kept in {place}", flush=True)
    began = time.monotonic()
    live(days, options.suite, record, lambda line: print(f"{time.monotonic() - began:7.1f} s  {line}", flush=True))
    where = f"on a booted {_NAMES[options.suite]} under QEMU (Linux {platform.release()}, {os.cpu_count()} processors)"
    text = page(record, len(days), f"Commit `{head}`, seed {options.seed}, {where}.")
    print(text)
    if options.write:
        options.write.write_text(text, encoding="utf-8")
    return 0 if passed(record, len(days)) else 1


if __name__ == "__main__":
    sys.exit(main())
