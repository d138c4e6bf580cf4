# SPDX-License-Identifier: GPL-3.0-or-later
"""Very many calls to the real aovpnd-bus on a private bus, and what they cost: ``python3 -m tests.bus.storm``.

As root it plays root, whose commands need no polkit and are not paced; what is measured is aovpnd-bus.
"""

import argparse
import sys
from dataclasses import dataclass
from typing import Final

from tests.bus.stage import AS_ROOT, USER, Stage, stage
from tests.lab.process import wait_for

BATCH: Final = 500
LOST_BYTES: Final = 200
"""What PyGObject loses with a call, on average: 110 bytes with every callback that it hands to GLib, of which a command
has two or three, and reading the status none. GLib's own loss, ten times that, is met in `aovpnd.bus.dbus`.
"""
UNNOTICED_US: Final = 50_000
DRIVER: Final = {"name": "org.freedesktop.DBus", "path": "/org/freedesktop/DBus", "interface": "org.freedesktop.DBus"}


@dataclass(frozen=True, slots=True)
class Cost:
    """What a storm of calls cost."""

    calls: int
    status_us: tuple[int, int]
    """Median and 99th percentile of a call that reads the status."""
    connect_us: tuple[int, int]
    """Of a command that reaches the daemon (which does nothing)."""
    ping_us: tuple[int, int]
    """Of a call that dbus-daemon answers itself, made in between."""
    grown_kib: int
    """Memory of aovpnd-bus, since the first tenth of the calls."""
    descriptors: int
    """How many more it has open."""
    match_rules: int
    """How many more kinds of signals it has asked the bus for."""


def storm(scene: Stage, calls: int) -> Cost:
    """Make so many calls: half of them read, a quarter are commands, a quarter are refused, some of these long."""
    caller = scene.caller(0 if AS_ROOT else USER)
    took: dict[str, list[int]] = {"Status": [], "Connect": [], "Ping": []}
    made, before = 0, (0, 0, 0)
    while made < calls:
        took["Status"] += caller.call("Status", count=BATCH, clock=True)["values"]
        took["Connect"] += caller.call("Connect", "(s)", "home", count=BATCH // 2, clock=True)["values"]
        for number in range(BATCH // 2):
            caller.code("Connect", "(s)", "-", times=10_000 if number % 10 == 0 else 40)
        took["Ping"] += caller.call("GetId", count=BATCH // 5, clock=True, **DRIVER)["values"]
        made += 2 * BATCH
        scene.daemon.asked.clear()
        if not before[0] and made * 10 >= calls:
            before = _held(scene)
    wait_for("everything to be given back", lambda: _held(scene)[1:] <= before[1:])
    after = _held(scene)
    return Cost(
        made,
        _percentiles(took["Status"]),
        _percentiles(took["Connect"]),
        _percentiles(took["Ping"]),
        *(now - then for now, then in zip(after, before, strict=True)),
    )


def _held(scene: Stage) -> tuple[int, int, int]:
    return scene.resident_kib(), scene.descriptors(), scene.match_rules()


def _percentiles(took: list[int]) -> tuple[int, int]:
    ordered = sorted(took)
    return ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]


def main() -> int:
    """Exit status 1 when something has grown."""
    parser = argparse.ArgumentParser(prog="storm", description="very many calls to org.aovpnd1, and what they cost")
    parser.add_argument("--calls", type=int, default=100_000)
    options = parser.parse_args()
    with stage() as scene:
        cost = storm(scene, options.calls)
    print(f"{cost.calls} calls; median and 99th percentile in µs:")
    for what, (median, late) in {"status": cost.status_us, "command": cost.connect_us, "ping": cost.ping_us}.items():
        print(f"  {what:8} {median:7} {late:7}")
    print(f"grown by {cost.grown_kib} KiB, {cost.descriptors} descriptors, {cost.match_rules} match rules")
    return int(not is_bounded(cost))


def is_bounded(cost: Cost) -> bool:
    """Whether nothing has grown, and the latest of a hundred calls is as late as the bus itself explains, or so early
    that nobody notices it: five processes have a part in a command, and wait for the processor where it is busy.
    """
    quick = all(late < max(20 * cost.ping_us[1], UNNOTICED_US) for _, late in (cost.status_us, cost.connect_us))
    small = cost.grown_kib < 3 * 1024 + cost.calls * LOST_BYTES // 1024
    return quick and small and cost.descriptors <= 0 and cost.match_rules <= 0


if __name__ == "__main__":
    sys.exit(main())
