# SPDX-License-Identifier: GPL-3.0-or-later
"""``make bench-vm``: a call and a download roam on a booted laptop: aovpnd, wg-quick, NetworkManager's WireGuard.

All of them use the kernel's WireGuard, which the lab's namespaces need not have, and NetworkManager for the networks
below: only the tunnel differs. ``--rounds N`` of three roams for each, ``--write FILE`` for the page.
"""

import argparse
import itertools
import os
import secrets
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from aovpnd import __version__
from tests.lab import plan
from tests.lab.process import LabError
from tests.lab.world import World
from tests.vm.images import Image
from tools.bench import commit, machine
from tools.bench_vm_figure import SILENCE_S, Roam, Span, row, silence, what_it_cost
from tools.bench_vm_laptop import CONTENDERS, MOVES, Contender, Laptop, prepare, the_image

ROUNDS: Final = 10
TURNS: Final = 2
"""Each contender has so many turns, a fresh boot each: what the machine does besides hits all alike."""
LEASE_S: Final = 7200
_HOW: Final = """
Written by `make bench-vm`. A call of 50 packets a second and a paced download go through the tunnel while the
laptop changes networks; what is counted is the longest silence of each, from before a roam until the call has
gone on for two seconds at the new network. All tunnels are the kernel's WireGuard to the same gateway, and
NetworkManager joins the networks below all of them, so that only the tunnel differs. QEMU translates where
there is no hardware for it, and is slow then: compare the rows with each other. Of so few roams the 99th
percentile is the worst.
"""
_WHY: Final = """
When a cable is pulled, NetworkManager waits some seconds for its carrier to come back (`carrier-wait-timeout`
of NetworkManager.conf(5)), and until then the kernel goes on using the dead cable's route. aovpnd sets
`ignore_routes_with_linkdown` ([decision 13](decisions/0013-the-path-is-the-way-that-packets-take.md)), wg-quick
and NetworkManager leave it as it is. *wg-quick, with the setting* is a laptop whose owner has made it, and tells
what it does alone.
"""
_OUTSIDE: Final = """
*Outside*: seen on the far side of the cards, not in the tunnel, from the moment at which it carried; {control} frames
of the call were seen there when there was no tunnel yet. *Other frames* are those that aovpnd lets nobody send;
neither wg-quick nor NetworkManager promises anything about them.
"""
_TO_THE_CALL: Final = tuple(f" to {address} " for address in (plan.ECHO4, plan.WEB4))


@dataclass(slots=True)
class Tally:
    """What one contender did in all its turns."""

    roams: dict[str, list[Roam]] = field(default_factory=lambda: {move.name: [] for move in MOVES})
    still: list[float] = field(default_factory=list)
    """The longest silence of the call while nothing happened: the machine's own hiccups, one figure a turn."""
    connections: list[int] = field(default_factory=list)
    """How many the stream needed, turn by turn."""
    leaked: int = 0
    """Frames of the call and the stream outside of the tunnel while there should be one."""
    other: Counter[str] = field(default_factory=Counter)
    """Other frames outside of it that a protected laptop would not send."""
    control: int = 0
    """Frames of the call and the stream that were seen when there was no tunnel yet."""


def measure(disk: Image, rounds: int) -> dict[str, Tally]:
    """All contenders, by turns."""
    tallies = {contender.name: Tally() for contender in CONTENDERS}
    with World.build(links=(), lease_s=LEASE_S, tether=True) as world:
        prepare(world)
        for number in range(TURNS):
            for contender in CONTENDERS:
                part = rounds * (number + 1) // TURNS - rounds * number // TURNS
                print(f"… {contender.name}: {part} rounds", file=sys.stderr, flush=True)
                _turn(disk, world, contender, part, tallies[contender.name])
    return tallies


def _turn(disk: Image, world: World, contender: Contender, rounds: int, tally: Tally) -> None:
    with Laptop.power_on(disk, world, contender) as laptop:
        if contender.up:
            laptop.call_without_tunnel()
        laptop.bring_up()
        since = time.time()
        laptop.call()
        marks = [laptop.uptime()]
        laptop.wait_steady()
        heard = []
        for move in MOVES * rounds:
            laptop.before(move)
            marks.append(laptop.uptime())
            heard.append(laptop.move(move) and laptop.wait_steady())
        marks.append(laptop.uptime())
        report = laptop.report()
        laptop.machine.pause()
        recording = laptop.recorder.recording(secrets.token_bytes(16))
    still, *spans = (Span(*pair) for pair in itertools.pairwise(marks))
    tally.still.append(silence(report.echoes, still))
    tally.connections.append(report.connections)
    costs = [what_it_cost(report, span, arrived=arrived) for span, arrived in zip(spans, heard, strict=True)]
    for move, cost in zip(MOVES * rounds, costs, strict=True):
        tally.roams[move.name].append(cost)
        print(f"  {move.name}: {cost}", file=sys.stderr, flush=True)
    for frame in recording.clear():
        of_the_call = any(where in frame.what for where in _TO_THE_CALL)
        if frame.time < since:
            tally.control += of_the_call
        elif of_the_call:
            tally.leaked += 1
        else:
            tally.other[frame.what] += 1
    if contender.up and not tally.control:
        raise LabError("the call was not seen outside when there was no tunnel: what is counted means nothing")


# ── the report ───────────────────────────────────────────────────────────────────────────────────────────────────────


def page(tallies: dict[str, Tally], where: str) -> str:
    """The page, as text."""
    lines = [
        "<!-- SPDX-License-Identifier: GPL-3.0-or-later -->",
        "",
        "# Roaming beside NetworkManager",
        "",
        f"aovpnd {__version__} at commit {commit()}, {datetime.now(UTC):%Y-%m-%d}, on a booted Debian 12 under QEMU.",
        f"{where}.",
        "",
        *_HOW.strip().splitlines(),
        "",
        f"| roam | tunnel | n | call: median | 99 % | worst | within {SILENCE_S:g} s | stream: median | 99 % | worst |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(row(move.name, name, tally.roams[move.name]) for move in MOVES for name, tally in tallies.items()),
        "",
        *(f"* *{move.name}*: {move.how.value}." for move in MOVES),
        "",
        *_WHY.strip().splitlines(),
        "",
        "| tunnel | call, without a roam | connections of the stream, by turns | their frames outside | other frames |",
        "|---|---|---|---|---|",
        *(_about(name, tally) for name, tally in tallies.items()),
        "",
        *_OUTSIDE.format(control=sum(tally.control for tally in tallies.values())).strip().splitlines(),
        "",
    ]
    return "\n".join(lines)


def _about(name: str, tally: Tally) -> str:
    """What is to be said of a contender beside its roams."""
    others = ", ".join(f"{count} × {what}" for what, count in tally.other.most_common(3))
    cells = (
        name,
        f"{max(tally.still):.2f} s",
        ", ".join(map(str, tally.connections)),
        str(tally.leaked),
        f"{tally.other.total()}{f' ({others})' if others else ''}",
    )
    return f"| {' | '.join(cells)} |"


def main(arguments: list[str]) -> int:
    """Measure, print, and write the page if one is asked for."""
    parser = argparse.ArgumentParser(prog="bench-vm", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of three roams, for each tunnel")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page there")
    chosen = parser.parse_args(arguments)
    # On a busy machine it is best run ahead of all else, since an emulated one is slow enough: chrt -r 1 make bench-vm
    ahead = "" if os.sched_getscheduler(0) == os.SCHED_OTHER else ", run ahead of other programs (real-time)"
    where = machine() + ahead
    text = page(measure(the_image(), chosen.rounds), where)
    print(text)
    if chosen.write:
        chosen.write.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
