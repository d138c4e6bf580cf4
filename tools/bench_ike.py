# SPDX-License-Identifier: GPL-3.0-or-later
"""``make bench-ike``: an IKE tunnel by aovpnd beside one by charon and swanctl alone; ``--write FILE`` for the page.

Both are measured in the same run, by turns, and each measurement is kept as it is made: a run that was broken off goes
on where it was, on the same commit.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from aovpnd import __version__, names
from tests.lab.process import LabError, wait_for
from tests.lab.rootdir import CACHE
from tools.bench import commit, machine
from tools.bench_handshake import first_default_route, monitored_routes
from tools.bench_ike_contenders import ESP_PROPOSAL, PROPOSAL, WAY, Call, Contender, calling, contenders
from tools.bench_ike_figure import NEVER, OURS, Samples, What, speeds, times, verdict
from tools.bench_stream import stream

STREAM_S: Final = 2.0
STREAMS: Final = 3
"""So many for each other measurement: what a machine does besides weighs most on them."""
_LINK: Final = {True: f"{names.LINK_PREFIX}0", False: "ipsec0"}
_SITES: Final = ("home", "cafe")
_HOW: Final = """
Written by `make bench-ike`, in the lab's namespaces, where both have the same charon-systemd with kernel-libipsec, the
same gateway, way to authenticate ({way}), proposals (`{ike}`, `{esp}`), dead peer detection
and retransmissions, each on a laptop of its own, and are measured by turns. A call of 200 packets a second goes to the
gateway's address inside the tunnel, which no other way leads to: a time ends when the first packet is answered.
*Started* is the daemon, whose guard and charon are gone, beside charon and `swanctl --load-all`; *told* is
`aovpnctl connect`, for which a charon is started, beside `swanctl --initiate` with one that runs. A roam is from one
Wi-Fi to another, out of reach of both for a moment, and the lease of the new one is part of the silence.

Streams of a machine that is busy besides are spread widely; the processor's seconds for a gigabyte, of both ends and
all that sends, are steadier.

The MTU of our link is {ours}, for a gateway that is reached over IPv6 too; that of charon's own is {plain}.
"""


@dataclass(slots=True)
class Bench:
    """One run."""

    samples: Samples
    rounds: int
    say: Callable[[str], None]
    at: dict[str, int] = field(default_factory=dict)
    """At which of `_SITES` each laptop is."""
    mtus: dict[bool, int] = field(default_factory=dict)

    def run(self, pair: tuple[Contender, Contender]) -> None:
        """All that is not measured yet."""
        for part, what in ((self.start, What.START), (self.connect, What.CONNECT), (self.roam, What.ROAM)):
            self._by_turns(pair, what, part, self.rounds)
        for contender in pair:
            ours = contender.name == OURS
            self.mtus[ours] = _mtu(contender, _LINK[ours])
        self._by_turns(pair, What.SPEED, self.throughput, STREAMS * self.rounds)

    def _by_turns(
        self,
        pair: tuple[Contender, Contender],
        what: What,
        part: Callable[[Contender, Call], dict[What, float]],
        rounds: int,
    ) -> None:
        """First one, then the other, then the other way round: a drift of the machine's speed hits both alike."""
        for number in range(rounds):
            for contender in pair if number % 2 else reversed(pair):
                if not self.samples.holds(what, contender.name, number):
                    for kind, value in self._measured(contender, part).items():
                        self.samples.add(kind, contender.name, number, value)
                        self.say(f"{kind} {number + 1}/{rounds} {contender.name}: {value:.3f}")

    def _measured(
        self, contender: Contender, part: Callable[[Contender, Call], dict[What, float]]
    ) -> dict[What, float]:
        with calling(contender.world) as call:
            call.answered(time.time())
            found = part(contender, call)
            if NEVER in found.values():
                kept = CACHE / "kept" / f"bench-ike-{time.time():.0f}.log"
                kept.parent.mkdir(exist_ok=True)
                contender.world.laptop.keep_log(kept)
                self.say(f"never answered; what the daemon said, if it was ours: {kept}")
                contender.cold()
                contender.start()
            call.answered(time.time())
        return found

    # -- the measurements ---------------------------------------------------------------------------------------------

    def start(self, contender: Contender, call: Call) -> dict[What, float]:
        """From nothing but the network to the first answer."""
        contender.cold()
        began = time.time()
        contender.start()
        return {What.START: _answered(call, began) - began}

    def connect(self, contender: Contender, call: Call) -> dict[What, float]:
        """From the command to the first answer."""
        contender.disconnect()
        began = time.time()
        contender.connect()
        return {What.CONNECT: _answered(call, began) - began}

    def roam(self, contender: Contender, call: Call) -> dict[What, float]:
        """Out of one network's reach, and into another's, with another address."""
        world = contender.world
        site = self.at[contender.name] = 1 - self.at.get(contender.name, 0)
        with monitored_routes(world.laptop.host) as log:
            wait_for("the monitor", lambda: world.laptop.host.pids_of("ip"))
            world.unplug("wlan0")
            gone = time.time()
            world.roam(_SITES[site], wait=False)
            answered = _answered(call, gone)
            world.laptop.wait_online("wlan0")
            routed = first_default_route(log.read_text(encoding="utf-8"))
        return {What.ROAM: answered - routed, What.SILENT: answered - gone}

    def throughput(self, contender: Contender, call: Call) -> dict[What, float]:
        """One stream; of the plain one also with an MTU like ours."""
        del call
        host, address = contender.world.laptop.host, str(contender.world.ike.pool.inside4)
        found = stream(contender.world, address, "charon-systemd", seconds=STREAM_S)
        values = {What.SPEED: found.mbit_s, What.COST: found.cpu_s_per_gb}
        if contender.name != OURS:
            host.ip(f"link set {_LINK[False]} mtu {self.mtus[True]}")
            values[What.ALIKE] = stream(contender.world, address, "charon-systemd", seconds=STREAM_S).mbit_s
            host.ip(f"link set {_LINK[False]} mtu {self.mtus[False]}")
        return values


def _answered(call: Call, since: float) -> float:
    try:
        return call.answered(since)
    except LabError:
        return NEVER


def _mtu(contender: Contender, link: str) -> int:
    return int(contender.world.laptop.host.path(f"/sys/class/net/{link}/mtu").read_text(encoding="ascii"))


# ── the report ───────────────────────────────────────────────────────────────────────────────────────────────────────


def page(samples: Samples, where: str, measured: str, mtus: dict[bool, int]) -> str:
    """docs/bench-ike.md."""
    how = _HOW.format(way=WAY, ike=PROPOSAL, esp=ESP_PROPOSAL, ours=mtus[True], plain=mtus[False])
    head = [
        "<!-- SPDX-License-Identifier: GPL-3.0-or-later -->",
        "",
        "# An IKE tunnel beside plain strongSwan",
        "",
        f"aovpnd {__version__} at commit {measured}, {datetime.now(UTC):%Y-%m-%d}.",
        f"{where}.",
    ]
    return "\n".join([*head, how, *times(samples), "", *speeds(samples), ""])


def main() -> int:
    """Measure, print, write; returns 1 when an aim was missed."""
    parser = argparse.ArgumentParser(prog="make bench-ike ARGS=...", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="of each measurement (%(default)s)")
    parser.add_argument("--fresh", action="store_true", help="begin anew")
    parser.add_argument("--write", type=Path, help="the page to write")
    options = parser.parse_args()
    where, measured, began = machine(), commit(), time.monotonic()
    path = CACHE / "bench-ike" / f"{measured.replace(' ', '-')}.jsonl"
    if options.fresh:
        path.unlink(missing_ok=True)
    samples = Samples.open(path)
    print(f"{len(samples.found)} measurements were made before; kept in {path}", flush=True)
    bench = Bench(samples, options.rounds, lambda line: print(f"{time.monotonic() - began:6.1f} s  {line}", flush=True))
    with contenders() as pair:
        bench.run(pair)
    text = page(samples, where, measured, bench.mtus)
    print(text)
    if options.write:
        options.write.write_text(text, encoding="utf-8")
    return 1 if verdict(samples) == "missed" else 0


if __name__ == "__main__":
    sys.exit(main())
