# SPDX-License-Identifier: GPL-3.0-or-later
"""How soon the first handshake leaves when a network is joined: to a gateway by address, and to one by name."""

import os
import re
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.lab.frames import Kind
from tests.lab.host import Host
from tests.lab.process import LabError
from tests.lab.world import World, by_name
from tools.bench_figure import Figure, spread

HANDSHAKE_MS: Final = 50.0
"""What we aim at, where no name has to be looked up."""
_ADDRESSES: Final = "/var/lib/aovpnd/addresses.json"
"""What earlier look-ups have found."""


def handshakes(world: World, *, rounds: int = 10) -> Iterator[Figure]:
    """From the moment the kernel has a default route to the first handshake on the far side of the link."""
    delays = [_one_handshake(world) for _ in range(rounds)]
    yield Figure(
        "default route to handshake sent",
        spread(delays),
        "seen on the far side of the link",
        f"within {HANDSHAKE_MS:g} ms",
        statistics.median(delays) * 1e3 <= HANDSHAKE_MS,
    )
    named = list(_by_name(world, rounds))
    beside = "without: the row above; a look-up of two types, and the turn of each"
    yield Figure("the same with a look-up of the gateway's name", spread(named), beside)


def _by_name(world: World, rounds: int) -> Iterator[float]:
    """Each time by a daemon that has never heard of an address of that name."""
    laptop = world.laptop
    laptop.install_tunnel(text=by_name(laptop.tunnel_conf))
    for _ in range(rounds):
        world.unplug("wlan0")
        laptop.stop_daemon()
        laptop.host.path(_ADDRESSES).unlink(missing_ok=True)
        laptop.start_daemon()
        yield _one_handshake(world)
    laptop.install_tunnel()
    laptop.ctl("connect")
    laptop.wait_phase("connected")


def _one_handshake(world: World) -> float:
    world.unplug("wlan0")
    world.laptop.wait_phase("offline")
    with world.record("wlan0") as recorder:
        with monitored_routes(world.laptop.host) as log:
            world.roam("home")
            world.laptop.wait_phase("connected")
        frames = recorder.recording(os.urandom(16)).frames
    sent = min(frame.time for frame in frames if frame.kind is Kind.HANDSHAKE)
    return sent - first_default_route(log.read_text(encoding="utf-8"))


@contextmanager
def monitored_routes(host: Host) -> Iterator[Path]:
    """What becomes of a machine's IPv4 routes meanwhile is written to this file, for `first_default_route`."""
    log = host.dir / "routes.log"
    log.unlink(missing_ok=True)
    monitor = host.spawn("ip", "-4", "-tshort", "monitor", "route", log="routes", env={"TZ": "UTC"})
    try:
        yield log
    finally:
        monitor.kill()
        monitor.wait()


def first_default_route(log: str) -> float:
    """The Unix time at which ``ip -tshort monitor route`` saw a default route by wlan0 come."""
    found = re.search(r"^\[(?P<time>[^]]+)\](?! Deleted) ?default .*dev wlan0", log, re.MULTILINE)
    if found is None:
        raise LabError(f"no default route was seen: {log!r}")
    return datetime.fromisoformat(found["time"]).replace(tzinfo=UTC).timestamp()
