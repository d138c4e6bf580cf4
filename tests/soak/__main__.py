# SPDX-License-Identifier: GPL-3.0-or-later
"""``make soak``: a thousand transitions and hundreds of kills under a flood of packets, and a table at the end.

A run that was broken off goes on where it was, on the same commit with the same seed.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

from tests.lab.process import LabError
from tests.soak.plan import Part, Sizes
from tests.soak.run import Record, Share, commit, growth, soak, table

SIZES = tuple(field.name for field in fields(Sizes))
"""The options that say how many trials each part has."""
_ENOUGH = 100_000
"""Packets a second, of a flood that is not thinned."""
_FLOODED = (Part.TRANSITIONS, Part.KILLS, Part.FLUSHES)
"""Where the whole flood runs, packet sockets included."""


def main() -> int:
    """Soak; exit status 0 when nothing leaked, everything came back, and nothing grew."""
    options = _options()
    head = options.commit or commit()
    cache = Path(os.environ.get("AOVPND_LAB_CACHE", "/var/cache/aovpnd-lab"))
    path = options.record or cache / "soak" / f"{head}-{options.seed}.jsonl"
    if options.fresh:
        path.unlink(missing_ok=True)
    record = Record.open(path)
    print(f"commit {head}, seed {options.seed}, {len(record.trials)} trials done before; kept in {path}", flush=True)
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {line}", flush=True)

    sizes = Sizes(**{name: getattr(options, name) for name in SIZES})
    parts = options.part or tuple(Part)
    if options.share:
        mine, _, of = options.share.partition("/")
        soak(sizes, options.seed, record, say, parts, Share(int(mine), int(of), options.thin))
        return 0
    try:
        if options.workers > 1:
            _together(path, parts, head, options)
            record = Record.open(path)
        else:
            soak(sizes, options.seed, record, say, parts, Share(thin=options.thin))
    finally:
        print(report(record, head, options.seed), flush=True)
    if options.write:
        options.write.write_text(_HEAD + report(record, head, options.seed), encoding="utf-8")
    return 0 if _passed(record, options.thin) else 1


def _together(path: Path, parts: tuple[Part, ...], head: str, options: argparse.Namespace) -> None:
    """Part after part, each in several worlds at once: most of a transition is waiting."""
    sizes = [f"--{name}={getattr(options, name)}" for name in SIZES]
    more = [f"--seed={options.seed}", f"--record={path}", f"--commit={head}", f"--thin={options.thin}"]
    for part in parts:
        command = [sys.executable, "-m", "tests.soak", *sizes, *more, f"--part={part}"]
        shares = [f"--share={mine}/{options.workers}" for mine in range(options.workers)]
        workers = [subprocess.Popen([*command, share]) for share in shares]
        statuses = [worker.wait() for worker in workers]
        if any(statuses):
            raise LabError(f"{part}: a worker has given up")


_HEAD = """<!-- SPDX-License-Identifier: GPL-3.0-or-later -->
# The soak

`make soak` writes this page: a laptop in the lab, connected through the tunnel, under a flood of packets that may not
leave, while networks change, windows of temporary access open and close, processes are killed and rulesets flushed.
Every frame that the laptop sends is counted by the kernel on the far side of its link, against the allow-list of
[security.md](security.md). A trial has *leaked* when a single frame was not on it (what leaves until status says that a
window is closed is counted apart; to the moment it is measured in `tests/netns/test_access.py`), and is *not back* when
daemon, guard and tunnel do not all work again, for both families, within a minute. Every trial is drawn from the seed.

Of the parts of IKE the tunnel is one of IKEv2 by a preshared key, with strongSwan's charon at both ends; whatever
happens to it, somebody may have roamed or lost the carrier a moment before.

Where both processes are killed and the ruleset is flushed before anybody restarts them, routing alone is left: the
senders are then ordinary programs, and multicast is left out, the kernel's listener reports included
([known issues](known-issues.md)).

"""


def report(record: Record, head: str, seed: int) -> str:
    """What came of it, in Markdown."""
    packets, seconds = record.flood(*_FLOODED)
    ordinary, ordinary_s = record.flood(Part.BOTH)
    by_charon, by_charon_s = record.flood(*(part for part in Part if part.is_ike))
    text = f"""Commit `{head}`, seed {seed}, Linux {platform.release()}, {os.cpu_count()} processors.

{packets / 1e6:.1f} million packets were tried in {seconds / 60:.1f} minutes, {_rate(packets, seconds):,} a second, by
sockets over IPv4 and IPv6 and packet sockets, beside 29 other kinds of senders; and {ordinary / 1e6:.1f} million in
{ordinary_s / 60:.1f} minutes by ordinary programs, where both processes were killed before a flush. Beside an IKE
tunnel, which charon itself carries at both ends here, it were {by_charon / 1e6:.1f} million in {by_charon_s / 60:.1f}
minutes.

{table(record)}
"""
    grown = growth(record)
    if grown is not None:
        (before, after), descriptors = grown.resident, grown.descriptors
        text += f"""The daemon that lived longest, through {grown.transitions} transitions, had at the tenth of them
{before:,} KiB and {descriptors[0]} descriptors, at the last {after:,} KiB and {descriptors[1]}. The {grown.lives} that
lived long, through {grown.together:,} transitions together, grew by a factor of {grown.factors[0]:.3f} (median), at
most {grown.factors[1]:.3f}.

"""
    clean = sum(not trial.leaked for trial in record.trials)
    if clean and clean == len(record.trials):
        text += (
            f"No leak in {clean} trials bounds the rate of leaks by 3/{clean}, {300 / clean:.2g} % (95 % confidence).\n"
        )
    return text


def _rate(packets: float, seconds: float) -> int:
    return int(packets / seconds) if seconds else 0


def _passed(record: Record, thin: int) -> bool:
    grown = growth(record)
    packets, seconds = record.flood(*_FLOODED)
    fast = seconds == 0 or _rate(packets, seconds) >= _ENOUGH // thin
    return fast and not any(trial.leaked or trial.lost for trial in record.trials) and (grown is None or grown.stays)


def _options() -> argparse.Namespace:
    sizes = Sizes()
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    for part in SIZES:
        parser.add_argument(f"--{part}", type=int, default=getattr(sizes, part), metavar="N")
    parser.add_argument("--part", type=Part, action="append", choices=list(Part), help="only this part")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--record", type=Path, metavar="FILE", help="where the trials are kept")
    parser.add_argument("--fresh", action="store_true", help="begin anew")
    parser.add_argument("--commit", help="what to call the program that is soaked")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="so many worlds at once share the trials")
    parser.add_argument("--thin", type=int, default=1, metavar="N", help="flood with an Nth of the packets")
    parser.add_argument("--share", metavar="MINE/OF", help="what one of them does")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page there, too")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
