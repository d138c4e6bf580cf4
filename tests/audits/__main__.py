# SPDX-License-Identifier: GPL-3.0-or-later
"""``make audit``: every attack of the catalogue, in all its phases, many times; a table at the end.

A run that was broken off goes on where it was, on the same commit. What was found stays found until ``--fresh``.
"""

import argparse
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

from tests.audits.attack import Attack, Harmless, Outcome, Phase
from tests.audits.catalogue import ATTACKS
from tests.audits.record import Record, findings, table, told
from tests.audits.scene import Stage
from tests.lab.process import LabError
from tests.lab.rootdir import CACHE
from tests.soak.run import commit


def main() -> int:
    """Audit; exit status 0 when everything that was chosen passed, 2 when nothing was chosen."""
    options = _options()
    chosen = [attack for attack in ATTACKS if options.only is None or options.only.search(attack.id)]
    phases = tuple(options.phase or Phase)
    if not any(phase in attack.phases for attack in chosen for phase in phases):
        print("error: no attack of the catalogue is meant (--only is a regular expression for CLASS-name)")
        return 2
    head = options.commit or commit()
    path = options.record or CACHE / "audits" / f"{head}.jsonl"
    if options.fresh:
        path.unlink(missing_ok=True)
    record = Record.open(path)
    print(f"commit {head}; kept in {path}", flush=True)
    try:
        _audit(chosen, phases, options.tries, record)
    finally:
        print(report(record, head), flush=True)
    if options.write and record.is_whole(ATTACKS):
        options.write.write_text(_HEAD + report(record, head), encoding="utf-8")
    elif options.write:
        print(f"not all attacks were tried in all phases: {options.write} stays as it was")
    bad = [outcome for attack in chosen for outcome in record.of(attack) if outcome.complaint(attack)]
    return 1 if any(outcome.phase in phases for outcome in bad) else 0


def _audit(chosen: list[Attack], phases: tuple[Phase, ...], tries: int | None, record: Record) -> None:
    """Try what is still to try, and say of each how it went."""
    todo = [(attack, phase) for attack in chosen for phase in attack.phases if phase in phases]
    began = time.monotonic()
    with Stage() as stage:
        for number, (attack, phase) in enumerate(todo, 1):
            wanted = tries or attack.many
            if record.knows(attack, phase, wanted):
                continue
            outcome = _perform(stage, attack, phase, wanted)
            record.add(outcome)
            at = f"{time.monotonic() - began:7.1f} s  {number}/{len(todo)}"
            print(f"{at} {attack.id} {phase}: {_line(attack, outcome)}", flush=True)


def _perform(stage: Stage, attack: Attack, phase: Phase, tries: int) -> Outcome:
    """One attack in one phase; whatever goes wrong with it is its outcome, and the next one has its turn."""
    try:
        return stage.perform(attack, phase, tries)
    except Harmless as error:
        return Outcome(attack.id, phase, tries, 0, 0, wrong=str(error), void=True)
    except AssertionError as error:
        return Outcome(attack.id, phase, tries, 0, 0, wrong=str(error) or "an assertion of the attack failed")
    except (LabError, OSError, LookupError, ValueError, subprocess.SubprocessError) as error:
        return Outcome(attack.id, phase, tries, 0, 0, wrong=f"could not be tried: {type(error).__name__}: {error}")


def _line(attack: Attack, outcome: Outcome) -> str:
    complaint = outcome.complaint(attack)
    if complaint:
        return f"NOT PASSED: {complaint}"
    words = f"{outcome.tries} tries, {outcome.attempts:,} payloads tried, none in clear"
    if outcome.service is not None:
        words += f", {100 * outcome.service:.1f} % of a call carried"
    return f"{words} ({outcome.seconds:.1f} s)"


_HEAD = """<!-- SPDX-License-Identifier: GPL-3.0-or-later -->
# The audit

`make audit` writes this page: published attacks and leak classes, each tried on a laptop in the lab, in every phase in
which it can be made, while every kind of program on the laptop tries to send. Every frame that the laptop sends is
judged on the far side of its link, by an nft counter and by tshark, against the allow-list of
[security.md](security.md), which also has the table of the classes. In *temporary access* the window is closed during
the attack, and what leaves afterwards counts. *Service kept* is the least share of a call through the tunnel (fifty
packets a second, each echoed) that came back while the attack went on, where the tunnel itself is not what is attacked.
*Control*: the same was done to the laptop without protection, and harmed it.

"""


def report(record: Record, head: str) -> str:
    """What came of it, in Markdown."""
    outcomes = [outcome for attack in ATTACKS for outcome in record.of(attack)]
    tries, payloads = sum(each.tries for each in outcomes), sum(each.attempts for each in outcomes)
    clear = sum(each.clear for each in outcomes)
    text = f"""Commit `{head}`, Linux {platform.release()}, {os.cpu_count()} processors.

{len(outcomes)} runs, {tries:,} tries, {payloads:,} payloads tried, {clear:,} frames in clear.

{table(ATTACKS, record)}"""
    if found := findings(ATTACKS, record):
        text += "\nNot passed:\n\n" + "".join(f"* {finding}\n" for finding in found)
    return f"""{text}
What the frames told that may leave (what a DHCP client says, and of what the kernel makes addresses, are settings of
others: [known issues](known-issues.md#what-the-network-can-see)):

{told(ATTACKS, record)}"""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make audit", description=__doc__)
    parser.add_argument("--only", type=re.compile, metavar="REGEX", help="only attacks whose CLASS-name matches")
    parser.add_argument("--phase", type=Phase, action="append", choices=list(Phase), help="only this phase")
    parser.add_argument("--tries", type=int, metavar="N", help="so many of each, instead of what each has for an audit")
    parser.add_argument("--record", type=Path, metavar="FILE", help="where the outcomes are kept")
    parser.add_argument("--fresh", action="store_true", help="begin anew")
    parser.add_argument("--commit", help="what to call the program that is audited")
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="write the page there, too, once nothing is left out"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
