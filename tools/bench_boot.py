# SPDX-License-Identifier: GPL-3.0-or-later
"""``make bench-boot``: from power-on to the first packet through the tunnel, and what left outside of it before.

The contenders are those of `bench_vm`, as their owners enable them for good: aovpnd, ``wg-quick@wg0.service``, and
NetworkManager's connection with autoconnect. All have the kernel's WireGuard, and NetworkManager below. Programs that
will not wait send from before systemd starts. ``--boots N`` of each, by turns, ``--write FILE`` for the page.
"""

import argparse
import secrets
import statistics
import sys
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from aovpnd import __version__
from tests.lab import plan
from tests.lab.counters import Counters
from tests.lab.process import wait_for
from tests.lab.tree import Entry, Symlink, copied, text
from tests.lab.world import World
from tests.vm.guest.chatty import SENDERS
from tests.vm.images import Image
from tests.vm.laptop import names_of
from tests.vm.machine import Machine
from tools.bench import commit, machine
from tools.bench_vm_laptop import CONTENDERS, MEMORY_MIB, WIFI, Contender, furniture, the_image

BOOTS: Final = 5
PATIENCE_S: Final = 900.0
_CHATTY: Final = Path(__file__).parents[1] / "tests" / "vm" / "guest" / "chatty.py"
_WAIT_ONLINE: Final = "/etc/systemd/system/NetworkManager-wait-online.service"
_WG_QUICK: Final = "/etc/systemd/system/multi-user.target.wants/wg-quick@wg0.service"
_TABLE: Final = "boot"
_COUNTER: Final = f"""
table netdev {_TABLE} {{
  counter first {{ }}
  chain heard {{
    type filter hook egress device "wan0" priority 0; policy accept;
    ip saddr {plan.GATEWAY4} ip daddr {plan.WEB4} counter name first
  }}
}}
"""
"""What the gateway forwards of the chatty programs: nothing else asks for that address by the tunnel."""
_HOW: Final = """
Written by `make bench-boot`. *Carries* is when the gateway forwarded the first packet that came through the tunnel, in
seconds of the machine's clock since its kernel started. *Outside* are frames of the chatty programs
(`tests/vm/guest/chatty.py`, which send from before systemd starts) that were seen on the cable outside of the tunnel:
before it carried, and in the {after:g} s after. Each boot is a fresh one, the contenders by turns. QEMU translates
where there is no hardware for it, and is slow then: compare the rows with each other.
"""
AFTER_S: Final = 5.0
"""How long a boot is watched once the tunnel carries."""


@dataclass(frozen=True, slots=True)
class Boot:
    """One boot of one contender."""

    carries_s: float
    before: int
    """Frames of the chatty programs that were seen outside of the tunnel until then."""
    after: int
    kinds: frozenset[int]
    """By whom they were sent."""


def contenders() -> tuple[Contender, ...]:
    """As they start by themselves."""
    aovpnd, wg_quick, network_manager, *_ = CONTENDERS
    unit = {_WG_QUICK: Symlink("/usr/lib/systemd/system/wg-quick@.service")}
    enabled = replace(wg_quick, name="wg-quick@", files=lambda conf: {**wg_quick.files(conf), **unit}, up=())
    return aovpnd, enabled, replace(network_manager, name="NetworkManager, autoconnect")


def measure(disk: Image, boots: int) -> dict[str, list[Boot]]:
    """All contenders, by turns."""
    found: dict[str, list[Boot]] = {contender.name: [] for contender in contenders()}
    with World.build(links=()) as world:
        world.gateway.host.nft(_COUNTER)
        for number in range(boots):
            for contender in contenders():
                boot = _boot(disk, world, contender)
                print(f"… {contender.name}, boot {number + 1} of {boots}: {boot}", file=sys.stderr, flush=True)
                found[contender.name].append(boot)
    return found


def _boot(disk: Image, world: World, contender: Contender) -> Boot:
    directory = world.air.dir / f"b{sum(1 for _ in world.air.dir.glob('b*')) + 1}"
    directory.mkdir()
    token = secrets.token_bytes(16)
    files: dict[str, Entry] = {
        **{path: entry for path, entry in furniture().items() if path != _WAIT_ONLINE},
        "/early/chatty": copied(_CHATTY, 0o755),
        "/etc/chatty-token": text(token.hex()),
        **contender.files(world.laptop.tunnel_conf),
    }
    with (
        Machine(
            disk, directory, enter=world.air.prefix(), cards=(WIFI.card,), overlay=files, memory=MEMORY_MIB
        ) as booting,
        world.record(WIFI.card.tap) as recorder,
    ):
        world.attach(WIFI.card.tap, WIFI.site.name)
        counters = Counters.open(world.gateway.host, _TABLE)
        before = counters.packets()["first"]
        booting.start()
        wait_for("the tunnel", lambda: counters.packets()["first"] > before, deadline_s=PATIENCE_S, poll_s=0.02)
        carries, wall = time.monotonic(), time.time()
        counters.close()
        asked = time.monotonic()
        uptime = float(booting.check("cat", "/proc/uptime").split()[0])
        answered = time.monotonic()
        wait_for("the end", lambda: time.time() > wall + AFTER_S, deadline_s=AFTER_S + 5, poll_s=0.1)
        booting.pause()
        recording = recorder.recording(token)
    outside = [frame for frame in recording.clear() if frame.sender is not None]
    early = [frame for frame in outside if frame.time < wall]
    return Boot(
        uptime - ((asked + answered) / 2 - carries),
        len(early),
        len(outside) - len(early),
        frozenset(frame.sender for frame in outside if frame.sender is not None),
    )


def page(found: dict[str, list[Boot]], where: str) -> str:
    """The page, as text."""
    lines = [
        "<!-- SPDX-License-Identifier: GPL-3.0-or-later -->",
        "",
        "# From power-on to the tunnel",
        "",
        f"aovpnd {__version__} at commit {commit()}, {datetime.now(UTC):%Y-%m-%d}, on a booted Debian 12 under QEMU.",
        f"{where}.",
        "",
        *_HOW.format(after=AFTER_S).strip().splitlines(),
        "",
        "| tunnel | boots | carries: median | best | worst | outside before: median | most | outside after: most |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        *(_row(name, boots) for name, boots in found.items()),
        "",
        *(_sent(name, boots) for name, boots in found.items()),
        "",
    ]
    return "\n".join(lines)


def _row(name: str, boots: list[Boot]) -> str:
    times = [boot.carries_s for boot in boots]
    before = [boot.before for boot in boots]
    cells = (
        name,
        str(len(boots)),
        *(f"{value:.1f} s" for value in (statistics.median(times), min(times), max(times))),
        *(f"{value:g}" for value in (statistics.median(before), max(before), max(boot.after for boot in boots))),
    )
    return f"| {' | '.join(cells)} |"


def _sent(name: str, boots: list[Boot]) -> str:
    """Which programs were heard outside."""
    kinds = frozenset[int]().union(*(boot.kinds for boot in boots))
    return f"* *{name}*: heard outside {len(kinds)} of {len(SENDERS)} programs: {names_of(set(kinds))}."


def main(arguments: list[str]) -> int:
    """Measure, print, and write the page if one is asked for."""
    parser = argparse.ArgumentParser(prog="bench-boot", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--boots", type=int, default=BOOTS, help="of each")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page there")
    chosen = parser.parse_args(arguments)
    where = machine()
    written = page(measure(the_image(), chosen.boots), where)
    print(written)
    if chosen.write:
        chosen.write.write_text(written, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
