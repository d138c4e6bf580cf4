# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is measured in ``make bench-ike``: aovpnd, and charon with swanctl by hand, each in a world of its own.

Both have the same program charon-systemd with kernel-libipsec, the same gateway, way to authenticate, proposals, dead
peer detection and retransmissions. The plain one is set up by somebody who knows how: it connects when it starts, never
gives up, and makes anew what was lost.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from tests.lab import plan
from tests.lab.call import first_heard
from tests.lab.charon import Charon
from tests.lab.ike import Way
from tests.lab.ike_client import PlainIke, account, install
from tests.lab.process import LabError, stop, wait_for
from tests.lab.world import World
from tools.bench_stream import INSIDE

WAY: Final = Way.PSK
PROPOSAL: Final = "aes256gcm16-prfsha384-x25519"
ESP_PROPOSAL: Final = "aes256gcm16"
INTERVAL_S: Final = 0.005
"""Of the call by which times are measured: as fine as they can be."""
LEASE_S: Final = 7200
PATIENCE_S: Final = 60.0
_CONNECTION: Final = (
    f"proposals = {PROPOSAL}",
    "dpd_delay = 10s",
    "encap = yes",
    "keyingtries = 0",
)
_CHILD: Final = (
    f"esp_proposals = {ESP_PROPOSAL}",
    "start_action = start",
    "dpd_action = restart",
    "close_action = start",
)
_SETTINGS: Final = """retransmit_base = 1.5
  retransmit_tries = 5
  retry_initiate_interval = 5s
  make_before_break = yes"""
"""Of charon beside the lab's: our own charon's retransmissions."""


class Contender(Protocol):
    """A laptop at home with a tunnel that can be brought up. Nothing here waits for the tunnel."""

    name: str
    world: World

    def cold(self) -> None:
        """End everything that makes the tunnel; the network stays."""

    def start(self) -> None:
        """Start it, as at boot."""

    def disconnect(self) -> None:
        """Take the tunnel down; whoever makes it goes on."""

    def connect(self) -> None:
        """Bring it up again."""


@dataclass(slots=True)
class Ours:
    """aovpnd, supervised as by its unit."""

    world: World
    name: str = "aovpnd"

    @classmethod
    def make(cls, world: World) -> "Ours":
        """Write its tunnel's file."""
        settings = {"proposals": [PROPOSAL], "esp_proposals": [ESP_PROPOSAL]}
        install(world.laptop, account(world.ike, WAY, settings=settings))
        return cls(world)

    def cold(self) -> None:
        """Daemon, guard and charon end; the block stays as it was loaded, as at boot."""
        laptop = self.world.laptop
        laptop.stop_daemon()
        laptop.kill("aovpnd-guard", "charon-systemd")
        wait_for("all of them to end", lambda: not laptop.host.pids_of("aovpnd-guard", "charon-systemd"))

    def start(self) -> None:
        """The daemon begins."""
        self.world.laptop.start_daemon(wait=False)

    def disconnect(self) -> None:
        """With charon, which is there while there is a tunnel."""
        self.world.laptop.ctl("disconnect")
        self.world.laptop.wait_phase("blocked")

    def connect(self) -> None:
        """As the user does."""
        self.world.laptop.ctl("connect")


@dataclass(slots=True)
class Plain:
    """charon-systemd and swanctl."""

    world: World
    plain: PlainIke = field(init=False)
    name: str = "plain charon"

    def __post_init__(self) -> None:
        charon = Charon(self.world.laptop.host, "plain-ike", _SETTINGS, chroot=False)
        self.plain = PlainIke(charon, self.world.ike, (WAY,), _CONNECTION, _CHILD)
        self.plain.write(str(plan.GATEWAY4))

    def cold(self) -> None:
        """It ends without a word to the gateway, as ours does."""
        self.plain.charon.kill()

    def start(self) -> None:
        """charon, then ``swanctl --load-all``, as strongswan.service does; its connection starts by itself."""
        self.plain.charon.start()

    def disconnect(self) -> None:
        """The program runs on, and the connection is loaded."""
        self.plain.down(WAY)

    def connect(self) -> None:
        """As an administrator does."""
        self.plain.up(WAY)


@dataclass(frozen=True, slots=True)
class Call:
    """Packets to the gateway's address inside the tunnel, which no other way leads to, and when each was answered."""

    report: Path

    def answered(self, since: float) -> float:
        """When the first packet was answered that was sent after a moment (Unix times)."""
        heard = wait_for("an answer", lambda: first_heard(self.report, since), deadline_s=PATIENCE_S, poll_s=0.02)
        if heard is None:
            raise LabError("unreachable: wait_for returns what is true")
        return heard


@contextmanager
def calling(world: World) -> Iterator[Call]:
    """An ordinary user's call meanwhile."""
    host, address = world.laptop.host, str(world.ike.pool.inside4)
    report = host.dir / "call"
    report.unlink(missing_ok=True)
    report.touch()
    report.chmod(0o666)
    words = (INSIDE[0], "-m", "tests.lab.call", address, str(report), str(INTERVAL_S))
    call = host.spawn(*words, uid=plan.USER, log="call")
    try:
        wait_for("the call to begin", lambda: report.stat().st_size)
        yield Call(report)
    finally:
        stop(call)


@contextmanager
def contenders(*, ours_first: bool = True) -> Iterator[tuple[Contender, Contender]]:
    """Ours and the plain one, both connected at home, made in this order or the other; the café knows both."""
    with World.build(lease_s=LEASE_S, ike=True) as one, World.build(lease_s=LEASE_S, ike=True) as other:
        pair = (Ours.make(one), Plain(other)) if ours_first else (Plain(one), Ours.make(other))
        for contender in pair:
            world = contender.world
            world.cafe.host.nft(f"add element inet cafe allowed {{ {plan.LAPTOP_MAC['wlan0']} }}")
            world.gateway.host.spawn(*INSIDE, "echo", str(world.ike.pool.inside4), log="echo")
            world.roam("home")
            contender.start()
        yield pair
