# SPDX-License-Identifier: GPL-3.0-or-later
"""Where an attack plays: a laptop at home in some phase, everybody on it sending, the judge on the far side."""

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.audits.attack import Attack, Harmless, Outcome, Phase
from tests.lab import call, plan
from tests.lab.frames import ENDPOINTS
from tests.lab.host import Host
from tests.lab.process import LabError, stop, wait_for
from tests.netns.protected import JUDGED, Protected, Watch

LINK: Final = "wlan0"
"""The laptop's link."""
_WINDOW: Final = "120s"
_CONFIG: Final = '[temporary_access]\nwhile_connected = "pause"\n'
_WINDOWS_AN_HOUR: Final = 3
_TOLD: Final = 6000
"""Characters of the daemon's log that say what it was at."""
_BUDGET: Final = "/var/lib/aovpnd/temporary-access.json"


@dataclass(slots=True)
class Scene:
    """One attack's view of the world. ``laptop`` is the victim; the attacker's machine is `attacker`."""

    laptop: Protected
    phase: Phase
    watch: Watch | None = None

    @property
    def attacker(self) -> Host:
        """The router of the laptop's network, an attacker's favourite place."""
        return self.laptop.world.home.host

    @property
    def host(self) -> Host:
        """The victim."""
        return self.laptop.lab.host

    def settle(self) -> None:
        """Wait until the laptop has found its way in a network that it has just joined: connected, where it was."""
        if self.watch is not None and self.phase is Phase.CONNECTED:
            wait_for("the tunnel to work", self.laptop.works, poll_s=0.05, deadline_s=30)

    def everybody_tries(self) -> None:
        """Wait until every sender has tried again; without senders (a control) there is nothing to wait for."""
        if self.watch is not None:
            self.watch.everybody_tries(deadline_s=30)


@dataclass(slots=True)
class Stage:
    """A protected laptop that goes from attack to attack; made anew when an attack has left it broken."""

    _laptop: Protected | None = None
    _plain: Protected | None = None
    _controlled: set[str] = field(default_factory=set)
    _windows: int = 0

    # -- attacks ------------------------------------------------------------------------------------------------------
    def perform(self, attack: Attack, phase: Phase, tries: int) -> Outcome:
        """Put the laptop into a phase, let everybody send, attack, and judge.

        `Harmless` when the attack does nothing to a laptop without protection, LabError when the laptop does not come
        into the phase, AssertionError when the attack itself saw something wrong.
        """
        self._control(attack)
        laptop = self.laptop()
        began = time.monotonic()
        try:
            self._enter(laptop, phase)
            with _calling(laptop, phase, attack.callee) as line, _watching(laptop, attack) as watch:
                scene = Scene(laptop, phase, watch)
                scene.everybody_tries()
                if attack.prepare is not None:
                    attack.prepare(scene)
                start = time.time()
                attack.run(scene, tries)
                scene.everybody_tries()
                service = line.share(start, time.time()) if line is not None else None
                if attack.give_back is not None:
                    attack.give_back(scene)
                since = self._leave(scene)
            return _judge(attack, phase, tries, watch, since, service, time.monotonic() - began)
        except BaseException:
            for listing in ("rule", "route show table all"):
                print(laptop.lab.host.ip(listing))
            print(laptop.lab.daemon_log()[-_TOLD:])  # the world goes, and with it what it could have told
            self.fresh()
            raise

    def _control(self, attack: Attack) -> None:
        """Show once that the attack would harm a laptop without protection."""
        if attack.control is None or attack.id in self._controlled:
            return
        if self._plain is None:
            self._plain = Protected.build(links=(LINK,), start=False, control=False)
            self._plain.world.roam("home", ipv6=True)
        try:
            attack.control(Scene(self._plain, Phase.CONNECTED))
        except Harmless:
            raise
        except BaseException:
            self._plain.world.close()
            self._plain = None
            raise
        self._controlled.add(attack.id)

    # -- phases -------------------------------------------------------------------------------------------------------
    def laptop(self) -> Protected:
        """The laptop, at home and connected."""
        if self._laptop is None:
            self._laptop = Protected.build(links=(LINK,), start=False)
            self._laptop.lab.write_config(_CONFIG)
            self._laptop.lab.start_daemon()
            self._windows = 0
        if not self._laptop.works():
            self._laptop.gateway.on()
            self._laptop.lab.ctl("connect", check=False)
            self._laptop.world.roam("home", ipv6=True)
            wait_for("the tunnel to work", self._laptop.works, poll_s=0.05, deadline_s=30)
        return self._laptop

    def _enter(self, laptop: Protected, phase: Phase) -> None:
        match phase:
            case Phase.BLOCKED:
                laptop.lab.ctl("disconnect")
                laptop.lab.wait_phase("blocked")
            case Phase.CONNECTING:
                laptop.lab.ctl("disconnect")
                laptop.gateway.off()
                laptop.lab.ctl("connect", check=False)
                laptop.lab.wait_phase("connecting")
            case Phase.CONNECTED:
                pass
            case Phase.ACCESS:
                if self._windows == _WINDOWS_AN_HOUR:
                    self._new_hour(laptop)
                self._windows += 1
                laptop.lab.ctl("allow-temp", _WINDOW)
                laptop.lab.wait_phase("temporary-access")

    def _new_hour(self, laptop: Protected) -> None:
        """A laptop that has not had a window for an hour."""
        laptop.lab.host.path(_BUDGET).unlink()
        starts = laptop.starts()
        laptop.lab.kill_daemon()
        wait_for("another daemon", lambda: laptop.starts() > starts)
        wait_for("the tunnel to work", laptop.works, poll_s=0.05, deadline_s=30)
        self._windows = 0

    @staticmethod
    def _leave(scene: Scene) -> float:
        """End the phase under attack; returns since when nothing was permitted (Unix time)."""
        match scene.phase:
            case Phase.ACCESS:
                scene.laptop.lab.ctl("allow-temp", "--cancel")
                since = time.time()
                scene.everybody_tries()
                return since
            case Phase.CONNECTING:
                scene.laptop.gateway.on()
            case Phase.BLOCKED | Phase.CONNECTED:
                pass
        return 0.0

    # -- the end ------------------------------------------------------------------------------------------------------
    def fresh(self) -> None:
        """Give the laptop back; the next attack finds a new one."""
        if self._laptop is not None:
            self._laptop.world.close()
            self._laptop = None

    def close(self) -> None:
        """Give everything back."""
        self.fresh()
        if self._plain is not None:
            self._plain.world.close()
            self._plain = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _judge(
    attack: Attack, phase: Phase, tries: int, watch: Watch, since: float, service: float | None, seconds: float
) -> Outcome:
    """Count; a capture that shows something is kept."""
    clear = watch.recording.clear(since)
    first = watch.complaint(since, name=f"{attack.id}-{phase}")
    if first and since:
        first += f"; the window was closed at +{since - watch.began:.3f} s"
    attempts = watch.senders.tried(since)
    told = {str(trace): frames for trace, frames in watch.recording.identity(since).items()}
    return Outcome(attack.id, phase, tries, attempts, len(clear), first, service, round(seconds, 1), told=told)


# -- service -----------------------------------------------------------------------------------------------------------
@dataclass(slots=True)
class _Line:
    """A call through the tunnel: fifty packets a second, each echoed."""

    report: Path

    def share(self, start: float, end: float) -> float:
        """The share of what was said in a span of Unix time of which an echo came back; what was still on the way when
        the span ended has a moment to come.
        """
        with suppress(LabError):
            wait_for("a later echo", lambda: call.is_heard(self.report, end), deadline_s=2)
        return call.share(self.report, start, end)


def _watching(laptop: Protected, attack: Attack) -> AbstractContextManager[Watch]:
    return laptop.watch(JUDGED, endpoints=(*ENDPOINTS, *attack.endpoints))


@contextmanager
def _calling(laptop: Protected, phase: Phase, callee: IPv4Address | IPv6Address) -> Iterator[_Line | None]:
    """A call until the block is left; None where there is no tunnel for it."""
    if phase is not Phase.CONNECTED:
        yield None
        return
    report = laptop.lab.host.dir / f"call-{time.monotonic_ns()}"
    report.touch()
    report.chmod(0o666)
    command = (sys.executable, "-m", "tests.lab.call", str(callee), str(report))
    caller = laptop.lab.host.spawn(*command, uid=plan.USER, log="call")
    try:
        wait_for("the call", lambda: len(call.arrivals(report)) > 10)
        yield _Line(report)
    finally:
        stop(caller)
