# SPDX-License-Identifier: GPL-3.0-or-later
"""What an attacker on the laptop's network has: the laptop's addresses, frames in bulk, and a count of answers."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from tests.audits import pour as pouring
from tests.audits.scene import LINK, Scene
from tests.lab import plan
from tests.lab.host import Host

PORT: Final = "lan0"
"""The attacker's link."""
ROUTER4: Final = str(plan.HOME.router4)
ROUTER6: Final = str(plan.HOME.router_local)
_TABLE: Final = "answers"


@dataclass(frozen=True, slots=True)
class Victim:
    """Where the laptop is found on its network."""

    mac: str
    ip4: str
    ip6: str
    """Its global address."""
    local6: str
    """Its link-local one."""


def victim(scene: Scene) -> Victim:
    """Look the laptop up: an attacker on the link sees all this."""
    return Victim(
        plan.LAPTOP_MAC[LINK],
        scene.laptop.lab.address(LINK),
        scene.laptop.lab.address6(LINK, "global"),
        scene.laptop.lab.address6(LINK, "link"),
    )


def pour(host: Host, frames: list[bytes], *, rounds: int = 1) -> None:
    """Send frames from the attacker's machine into the laptop's network, as fast as it takes them."""
    path = host.dir / "frames"
    pouring.write(path, frames)
    host.run(sys.executable, "-m", "tests.audits.pour", PORT, str(path), str(rounds), timeout_s=120)


@contextmanager
def counting(host: Host, **matches: str) -> Iterator[Callable[[], dict[str, int]]]:
    """Count what arrives at the attacker's link, by nft matches; gives a function that reads the counts so far."""
    counters = "\n".join(f"  counter n_{name} {{ }}" for name in matches)
    rules = "\n".join(f"    {match} counter name n_{name}" for name, match in matches.items())
    host.nft(
        f"table netdev {_TABLE} {{\n{counters}\n  chain in {{\n"
        f'    type filter hook ingress device "{PORT}" priority 0; policy accept;\n{rules}\n  }}\n}}\n'
    )

    def counts() -> dict[str, int]:
        listing = json.loads(host.out("nft", "-j", "list", "counters", "table", "netdev", _TABLE))["nftables"]
        found = [item["counter"] for item in listing if "counter" in item]
        return {counter["name"].removeprefix("n_"): counter["packets"] for counter in found}

    try:
        yield counts
    finally:
        host.run("nft", "delete", "table", "netdev", _TABLE)
