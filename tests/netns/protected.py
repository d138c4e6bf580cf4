# SPDX-License-Identifier: GPL-3.0-or-later
"""A laptop under aovpnd's protection, watched from the far side of its links; what the leak tests share.

laptop = Protected.build()            # positive control first: unprotected, every sender is seen
laptop.connect("home")
with laptop.nothing_leaves() as watch:    # senders of every kind on the laptop, a recorder on the far side
    laptop.lab.kill_daemon()
    watch.until("healed", laptop.works)   # recovery is waited for by condition, then everybody sends some more
assert watch.recording.counts()[Kind.TUNNEL]
"""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import pytest

from aovpnd import names
from aovpnd.backends.charon import Place
from aovpnd.ipsec import IKE_BACKEND, NAT_T_PORT
from tests.lab import plan
from tests.lab.beacon import NOT_OPEN
from tests.lab.frames import ENDPOINTS, Address, Endpoint, Kind
from tests.lab.ike import IkeGateway, Way
from tests.lab.ike_client import FAST, account, install
from tests.lab.laptop import Laptop
from tests.lab.process import LabError, wait_for
from tests.lab.record import Recorder, Recording
from tests.lab.sender_kinds import BY_NAME, BY_NUMBER, FORGERS, KINDS, SenderKind
from tests.lab.senders import Senders
from tests.lab.sites import Gateway
from tests.lab.world import World

T = TypeVar("T")

WAY: Final = Way.PSK if os.environ.get("AOVPND_BACKEND") == IKE_BACKEND else None
"""Of the tunnel where a test does not say which: IKE for ``make test-ike``, WireGuard otherwise."""

PACKET: Final = tuple(
    BY_NAME[name] for name in ("packet4", "packet6", "bypass4", "ethertype", "packetmark4", "forgedpacket4")
)
"""Packet sockets, those that forge our stamp included: what only an egress chain stops."""
JUDGED: Final = (*KINDS, *FORGERS)
"""Everybody of whom nothing may ever leave."""
UNROUTED: Final = tuple(kind for kind in JUDGED if kind.name != "conn4")
"""Those who can try even where routing has no answer: connect(2) has failed already, then."""
ORDINARY: Final = tuple(kind for kind in KINDS if not kind.needs_net_raw)
PROVOKED: Final = "new handshake"
"""What the daemon's line of a pass says when it makes the tunnel shake hands (core.plan)."""
EACH: Final = 3
"""How often every kind has to try before a silence says anything."""
RATE: Final = 25.0
_LOG: Final = 20_000
"""Characters of each log that a failure shows."""


def of_wireguard(why: str) -> pytest.MarkDecorator:
    """A mark for what has no sense with a tunnel of IKE, and why."""
    return pytest.mark.skipif(WAY is not None, reason=f"of WireGuard: {why}")


CHARON: Final = Place(Path(names.RUNTIME_DIR), f"{names.LINK_PREFIX}0")
"""Where the laptop's charon has its files, on the laptop."""
VICI: Final = str(CHARON.socket)


def names_of(kinds: tuple[SenderKind, ...]) -> set[str]:
    """The names of some senders."""
    return {kind.name for kind in kinds}


@dataclass(slots=True)
class Watch:
    """Senders on the laptop and a recorder on the far side, for one span of time."""

    recorder: Recorder
    senders: Senders
    kinds: tuple[SenderKind, ...]
    laptop: Laptop
    began: float = field(default_factory=time.time)
    _recording: Recording | None = None

    def everybody_tries(self, *, deadline_s: float = 10.0) -> None:
        """Wait until each kind has tried `EACH` times from now on; those whose link is away count when they try."""
        since = time.time()

        def tried() -> bool:
            attempts = self.senders.attempts(start=since)
            numbers = [attempt.kind.number for attempt in attempts]
            return all(numbers.count(kind.number) >= EACH for kind in self.kinds)

        wait_for("every sender to try again", tried, deadline_s=deadline_s, poll_s=0.05)

    def until(self, what: str, condition: Callable[[], T], *, deadline_s: float = 20.0) -> T:
        """Wait for a condition, and then until everybody has tried again."""
        value = wait_for(what, condition, deadline_s=deadline_s, poll_s=0.05)
        self.everybody_tries()
        return value

    @property
    def recording(self) -> Recording:
        """What the far side saw; once the watch is over."""
        if self._recording is None:
            raise LabError("the watch is not over")
        return self._recording

    def end(self) -> Recording:
        """End senders and recorder, and read what was recorded; may be called twice."""
        if self._recording is None:
            self.senders.stop()
            self._recording = self.recorder.recording(self.senders.token)
        return self._recording

    def seen(self, start: float = 0.0, end: float = float("inf")) -> set[str]:
        """The names of the senders of whom the far side saw anything."""
        numbers = self.recording.by_sender(start, end)
        return {kind.name for kind in BY_NUMBER.values() if numbers[kind.number]}

    def complaint(self, start: float = 0.0, end: float = float("inf"), *, name: str) -> str:
        """What was seen in clear in a span of Unix time: which frames, by whom they were sent, and when; "" when
        nothing was. The capture is then kept under ``name``, and the daemon's log beside it says in which state it was.
        """
        clear = self.recording.clear(start, end)
        if not clear:
            return ""
        kept = self.recorder.keep(name)
        self.laptop.keep_log(kept.with_suffix(".log"))
        first = f"frame {clear[0].number} of {kept}, at +{clear[0].time - self.began:.3f} s"
        return f"{self.recording.describe(clear)}; the first is {first}; the daemon's log is beside it"

    def assert_silence(self, start: float = 0.0, end: float = float("inf")) -> None:
        """Nothing in clear was seen, although everybody tried: a silence of those who never spoke proves nothing."""
        complaint = self.complaint(start, end, name=os.environ.get("PYTEST_CURRENT_TEST", "capture"))
        assert not complaint, f"in clear: {complaint}"
        tried = {attempt.kind.name for attempt in self.senders.attempts(start, end) if attempt.status != NOT_OPEN}
        assert tried >= names_of(self.kinds), f"never tried: {names_of(self.kinds) - tried}"


@dataclass(slots=True)
class Protected:
    """One world whose laptop runs the daemon."""

    world: World
    way: Way | None = None

    @classmethod
    def build(
        cls,
        *,
        lease_s: int = 120,
        links: tuple[str, ...] = ("wlan0", "eth0"),
        tunnel: bool = True,
        start: bool = True,
        control: bool = True,
        nat64: bool = False,
        way: Way | None = WAY,
    ) -> Self:
        """A world whose laptop is off every network and runs the daemon, with one tunnel configured.

        ``control``: before that, unprotected at home, every sender must be seen. ``way``: the tunnel is one of IKE, and
        this is how the laptop shows itself; None: it is one of WireGuard.
        """
        world = World.build(lease_s=lease_s, links=links, nat64=nat64, ike=way is not None)
        try:
            laptop = cls(world, way)
            if control:
                laptop.positive_control()
            if tunnel:
                laptop.install_tunnel()
            if start:
                world.laptop.start_daemon()
        except BaseException:
            world.close()
            raise
        return laptop

    def install_tunnel(self) -> None:
        """Write the tunnel's file."""
        if self.way is None:
            self.lab.install_tunnel()
        else:
            install(self.lab, account(self.world.ike, self.way, settings=FAST))

    @property
    def gateway(self) -> Gateway | IkeGateway:
        """The gateway of the tunnel."""
        return self.world.gateway if self.way is None else self.world.ike

    @property
    def port(self) -> int:
        """The gateway's UDP port."""
        return plan.GATEWAY_PORT if self.way is None else NAT_T_PORT

    @property
    def lab(self) -> Laptop:
        """The laptop as the lab knows it."""
        return self.world.laptop

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.world.close()

    # -- watching -----------------------------------------------------------------------------------------------------
    def positive_control(self) -> None:
        """Unprotected at home, the far side sees each sender; then the laptop leaves the network."""
        self.world.roam("home", ipv6=True)
        with self.watch(kinds=JUDGED) as watch:
            watch.everybody_tries()
        unseen = names_of(JUDGED) - watch.seen()
        if unseen:
            raise LabError(f"the recorder does not see {', '.join(sorted(unseen))}: it may not judge")
        self.world.unplug("wlan0")

    @contextmanager
    def watch(
        self,
        kinds: tuple[SenderKind, ...] = JUDGED,
        *,
        link: str = "wlan0",
        rate: float = RATE,
        endpoints: tuple[Endpoint, ...] = ENDPOINTS,
        ike: tuple[Address, ...] = plan.IKE_GATEWAYS,
    ) -> Iterator[Watch]:
        """Record on all links while senders of these kinds run; the recording is there when the block is left.

        ``endpoints``: where handshakes may go; ``ike``: where IKE and ESP may, with a tunnel of IKE.
        """
        with (
            self.world.record(endpoints=endpoints, ike=ike if self.way is not None else ()) as recorder,
            Senders.start(self.lab, kinds, link=link, rate=rate) as senders,
        ):
            watch = Watch(recorder, senders, kinds, self.lab)
            yield watch
            watch.end()

    @contextmanager
    def nothing_leaves(
        self,
        kinds: tuple[SenderKind, ...] = JUDGED,
        *,
        link: str = "wlan0",
        rate: float = RATE,
        ike: tuple[Address, ...] = plan.IKE_GATEWAYS,
    ) -> Iterator[Watch]:
        """Whatever happens inside the block, nothing in clear may leave, and everybody must have tried to."""
        with self.watch(kinds, link=link, rate=rate, ike=ike) as watch:
            yield watch
            watch.everybody_tries()
        watch.assert_silence()

    # -- the laptop's life --------------------------------------------------------------------------------------------
    def connect(self, site: str = "home", *, ipv6: bool = False) -> None:
        """Be at a site, connected; nothing happens when that is so."""
        if self.works():
            return
        self.world.roam(site, ipv6=ipv6)
        wait_for("the tunnel to work", self.works, poll_s=0.05, deadline_s=20)

    def works(self) -> bool:
        """Whether daemon, guard and tunnel are as they should be: protected, guarded, connected, and both families
        reach the internet from the gateway's address.
        """
        status = self.lab.status()
        if status["phase"] != "connected" or not status["protected"] or not status["block"]["guarded"]:
            return False
        return self.address_outside(4) == str(plan.GATEWAY4) and self.address_outside(6) == str(plan.GATEWAY6)

    def protected(self) -> bool:
        """Whether the daemon says so, and its guard is there."""
        status = self.lab.status()
        return bool(status["protected"]) and bool(status["block"]["guarded"])

    def blocks(self) -> bool:
        """Whether the kernel holds the daemon's table and both of the guard's, whatever the status says."""
        held = self.lab.host.run("nft", "list", "tables").stdout.splitlines()
        guard = {f"table {family} {names.GUARD_TABLE}" for family in ("inet", "netdev")}
        return guard | {f"table inet {names.TABLE}"} <= set(held)

    def address_outside(self, family: int) -> str:
        """The address that the web server sees us come from; "" when it sees nothing of us."""
        host = str(plan.WEB4) if family == 4 else f"[{plan.WEB6}]"
        return self.lab.curl(f"http://{host}/ip", timeout_s=1).stdout.strip()

    def problems(self) -> dict[str, str]:
        """The problems that status shows: code to text."""
        return {problem["code"]: problem["text"] for problem in self.lab.status()["problems"]}

    def said(self) -> str:
        """What the daemon, its charon and the gateway of IKE have said: for a test that failed and cannot be asked
        again.
        """
        own = self.lab.host.run("cat", str(CHARON.log), check=False).stdout
        logs = {"daemon": self.lab.daemon_log(), "charon": own, "gateway": self.world.ike.charon.log()}
        return "\n".join(f"-- {who} --\n{log[-_LOG:]}" for who, log in logs.items())

    def daemon_pid(self) -> int | None:
        """The daemon's process, None while there is none."""
        return next(iter(self.lab.host.pids_of("aovpnd")), None)

    def guard_pid(self) -> int | None:
        """The guard's process, None while there is none."""
        return next(iter(self.lab.host.pids_of("aovpnd-guard")), None)

    def starts(self) -> int:
        """How often the supervisor has started the daemon."""
        lines = (self.lab.host.dir / "supervisor.jsonl").read_text(encoding="utf-8").splitlines()
        return sum(json.loads(line)["event"] == "start" for line in lines)

    @contextmanager
    def no_restarts(self) -> Iterator[None]:
        """The service manager hangs: whoever dies stays dead until the block is left."""
        (supervisor,) = self.lab.host.pids_of("tests.lab.supervise")
        os.kill(supervisor, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(supervisor, signal.SIGCONT)

    def table(self, family: str, name: str) -> str:
        """The listing of a table, "" while it is absent."""
        return self.lab.host.run("nft", "list", "table", family, name, check=False).stdout

    def log_since(self, mark: int) -> str:
        """What the daemon has logged behind ``mark``, an earlier ``len(daemon_log())``."""
        return self.lab.daemon_log()[mark:]

    def provoked(self) -> int:
        """How many handshakes the daemon has asked for; WireGuard itself asks for others, when it hears nothing."""
        return self.lab.daemon_log().count(PROVOKED)

    def handshake(self) -> int:
        """When the gateway last shook hands with us (Unix time)."""
        return self.world.gateway.handshakes()


def counted(recording: Recording, *kinds: Kind) -> int:
    """Frames of some classes."""
    counts = recording.counts()
    return sum(counts[kind] for kind in kinds)


def only(status: dict[str, Any], key: str) -> Any:
    """The single element of a list of the status."""
    (item,) = status[key]
    return item
