# SPDX-License-Identifier: GPL-3.0-or-later
"""How long fail-over takes, measured under traffic on the lab's laptop."""

import time
from collections.abc import Iterator
from typing import Final

from tests.lab import plan
from tests.lab.process import wait_for
from tests.lab.sites import Gateway
from tests.lab.world import World
from tools.bench_figure import Figure, spread

FAIL_OVER_S: Final = 30.0
"""What we aim at."""


def fail_over(world: World, *, rounds: int = 3) -> Iterator[Figure]:
    """From a gateway that is switched off under traffic to the first byte through the next one of the order."""
    second, conf = world.another_gateway()
    world.laptop.install_tunnel("second", conf)
    world.laptop.write_config(f'[tunnel]\nprefer = ["tunnel", "second"]\n[health]\nprobe = "{plan.WEB4}:80"\n')

    def seen_as(gateway: Gateway) -> bool:
        return world.laptop.curl(f"http://{plan.WEB4}/ip", timeout_s=1).stdout.strip() == str(gateway.place.wan4)

    delays = []
    for _ in range(rounds):
        world.laptop.ctl("connect")
        wait_for("the first gateway to carry", lambda: seen_as(world.gateway), deadline_s=60)
        start = time.monotonic()
        world.gateway.off()
        wait_for("the second gateway to carry", lambda: seen_as(second), deadline_s=60)
        delays.append(time.monotonic() - start)
        world.gateway.on()
    yield Figure(
        "gateway off to first byte through the next",
        spread(delays, unit="s", scale=1),
        "wg-quick: never, it knows no second gateway",
        f"within {FAIL_OVER_S:g} s",
        max(delays) <= FAIL_OVER_S,
    )
