# SPDX-License-Identifier: GPL-3.0-or-later
"""``make bench-ike``: an IKE tunnel by aovpnd beside one by charon and swanctl alone; ``--write FILE`` for the page.

Both are measured in the same run, by turns, and each measurement is kept as it is made: a run that was broken off goes
on where it was, on the same commit.
"""

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
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
from tools.bench_ike_figure import NEVER, OURS, PLAIN, TURNS, Samples, What, ratios, speeds, times, verdict
from tools.bench_stream import Pump, pump

TURN_S: Final = 0.25
"""Short: what a machine does besides weighs most on streams, and hits both alike where they follow each other closely.
"""
WARM_S: Final = 2.0
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

Each has one TCP connection into its tunnel, and they send by turns, a quarter of a second each, {turns} turns of two
laptops. Of those two what counts is the median of their turns' ratios. Another two differ by several hundredths, so
there are several pairs, of laptops made anew, by turns ours the first; what counts in the end is their median, and
where that of endlessly many would lie with 95 % (by their order, whatever their distribution). The processor's seconds
for a gigabyte are those of both ends and of all that sends.

The MTU of our link is {ours}, for a gateway that is reached over IPv6 too; that of charon's own is {plain}. A packet
carries {more:.1%} more of a TCP stream with ours.
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

    def streams(self, pair: tuple[Contender, Contender], number: int) -> None:
        """One connection of each of the pair with this number, which send by turns."""
        for each in pair:
            with calling(each.world) as call:
                call.answered(time.time())
        with ExitStack() as opened:
            pumps = {each.name: opened.enter_context(_pump(each)) for each in pair}
            for stream in pumps.values():
                stream.turn(WARM_S)
            for turn in range(number * TURNS, (number + 1) * TURNS):
                for name in pumps if turn % 2 else reversed(pumps):
                    found = pumps[name].turn(TURN_S)
                    self.samples.add(What.SPEED, name, turn, found.mbit_s)
                    self.samples.add(What.COST, name, turn, found.cpu_s_per_gb)
        self.say(f"streams of pair {number + 1}: {ratios(self.samples, What.SPEED)[-1]:.3f}")

    def has_streams(self, number: int) -> bool:
        """Whether those of a pair are measured already."""
        last = (number + 1) * TURNS - 1
        return all(self.samples.holds(What.COST, name, last) for name in (OURS, PLAIN))


def _pump(contender: Contender) -> AbstractContextManager[Pump]:
    return pump(contender.world, str(contender.world.ike.pool.inside4), "charon-systemd")


def _answered(call: Call, since: float) -> float:
    try:
        return call.answered(since)
    except LabError:
        return NEVER


def _mtu(contender: Contender, link: str) -> int:
    return int(contender.world.laptop.host.path(f"/sys/class/net/{link}/mtu").read_text(encoding="ascii"))


# ── the report ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _payload(mtu: int) -> int:
    """Bytes of a TCP stream in a packet of IPv4: behind its header, and TCP's with time stamps."""
    return mtu - 20 - 32


def page(samples: Samples, where: str, measured: str, mtus: dict[bool, int]) -> str:
    """docs/bench-ike.md."""
    how = _HOW.format(
        way=WAY,
        ike=PROPOSAL,
        esp=ESP_PROPOSAL,
        ours=mtus[True],
        plain=mtus[False],
        more=_payload(mtus[True]) / _payload(mtus[False]) - 1,
        turns=TURNS,
    )
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
    parser.add_argument("--pairs", type=int, default=12, help="of laptops with streams (%(default)s)")
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
    for number in range(options.pairs):
        if not bench.has_streams(number):
            with contenders(ours_first=number % 2 == 0) as pair:
                bench.streams(pair, number)
    text = page(samples, where, measured, bench.mtus)
    print(text)
    if options.write:
        options.write.write_text(text, encoding="utf-8")
    return 1 if verdict(samples) == "missed" else 0


if __name__ == "__main__":
    sys.exit(main())
