# SPDX-License-Identifier: GPL-3.0-or-later
"""Roaming, for the benchmark: how long a call is silent and a new request waits, with us and with plain wg-quick."""

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from tests.lab import plan
from tests.lab.call import arrivals, gap
from tests.lab.process import stop, wait_for
from tests.lab.world import World

ROUNDS: Final = 25
WARM: Final = 10
"""Echoes that show that a call is up."""


def roams(world: World) -> list[tuple[str, list[float], list[float]]]:
    """What was measured, in seconds: ours, and wg-quick's in a world of its own."""
    ours = _there_and_back(world)
    with World.build() as plain:
        plain.roam("home")
        plain.laptop.wg_quick("up")
        beside = _there_and_back(plain)
    return [
        ("roam: longest silence of a call (50 packets/s)", [s for s, _ in ours], [s for s, _ in beside]),
        ("roam: lease to first byte of a new request", [f for _, f in ours], [f for _, f in beside]),
    ]


def _there_and_back(world: World) -> list[tuple[float, float]]:
    """The longest silence and the time to the first byte, of roams to the dock and back by turns."""
    host = world.laptop.host
    report = host.dir / "call"
    report.touch()
    report.chmod(0o666)
    call = host.spawn(sys.executable, "-m", "tests.lab.call", str(plan.ECHO4), str(report), uid=plan.USER, log="call")
    steps: tuple[Callable[[], None], ...] = (partial(world.plug, "home"), partial(world.unplug, "eth0"))
    try:
        wait_for("the call", lambda: len(arrivals(report)) > WARM)
        return [_roam(world, step, report) for _ in range(ROUNDS) for step in steps]
    finally:
        stop(call)


def _roam(world: World, step: Callable[[], None], report: Path) -> tuple[float, float]:
    began = time.time()
    step()
    online = time.time()
    url = f"http://{plan.WEB4}/ip"
    wait_for("a byte", lambda: world.laptop.curl(url, timeout_s=1).stdout, deadline_s=20)
    first = time.time() - online
    wait_for("the call to go on", lambda: arrivals(report)[-1] > online + first, deadline_s=20)
    return gap(report, began, arrivals(report)[-1]), first
