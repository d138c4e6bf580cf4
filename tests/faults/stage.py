# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the cells are tried: a laptop at home in some phase, everybody on it sending, and a daemon whose calls fail.

Frames are counted by the kernel on the far side of the laptop's link, against the recorder's allow-list.
"""

import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from tests.audits.attack import Phase
from tests.faults.cell import Cell
from tests.lab.process import LabError, wait_for
from tests.lab.refuse import Refusals, Rule
from tests.lab.senders import Senders
from tests.netns.protected import JUDGED, Protected
from tests.soak.meter import Meter

LINK: Final = "wlan0"
_CONFIG: Final = '[temporary_access]\nwhile_connected = "pause"\n'
_WINDOW_S: Final = 4
_WATCHDOG_S: Final = 30
"""As in the unit."""
_WINDOWS_AN_HOUR: Final = 3
_BUDGET: Final = "/var/lib/aovpnd/temporary-access.json"
_RATE: Final = 20.0
"""Packets a second of every kind of sender."""
_MOMENT_S: Final = 0.25
"""So long everybody sends once more, while a call fails and after it: five times each."""
_SAID_S: Final = 20.0
_BACK_S: Final = 45.0
"""A call that failed is tried again after 30 s at the latest."""
_SENDING_BEFORE_S: Final = 0.3


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one cell in one phase. Times in seconds."""

    cell: str
    phase: Phase
    clear: str
    """Frames outside the allow-list while nothing was permitted; "" when there were none."""
    said: str
    """What people were told."""
    missing: str
    """What was expected and did not come; "" when all did."""
    healed_s: float
    seconds: float
    hits: int = 0
    """Calls that were hindered."""

    @property
    def passed(self) -> bool:
        """Closed, said, healed."""
        return not self.clear and not self.missing


class Manager:
    """The service manager's end of sd_notify(3): when the watchdog was fed."""

    def __init__(self, place: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(place))
        self._fed: list[float] = []
        self._thread = threading.Thread(target=self._hear, daemon=True)
        self._thread.start()

    def _hear(self) -> None:
        while (message := self._socket.recv(4096)) != _ENOUGH:
            if b"WATCHDOG=1" in message:
                self._fed.append(time.time())

    def fed(self) -> list[float]:
        """Every time so far (Unix time)."""
        return list(self._fed)

    def close(self) -> None:
        """Hear no more."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(_ENOUGH, self._socket.getsockname())
        self._thread.join()
        self._socket.close()


_ENOUGH: Final = b"enough"


@dataclass(slots=True)
class Stage:
    """One laptop for many cells. Made by `build`; given back by its ``with``."""

    laptop: Protected
    meter: Meter
    refusals: Refusals
    senders: Senders
    manager: Manager
    phase: Phase = Phase.CONNECTED
    allowed: Counter[str] = field(default_factory=Counter)
    windows: int = 0
    fresh: int = 0
    """Numbers names that must be new."""

    @classmethod
    def build(cls) -> Self:
        """A laptop that is connected at home; unprotected, every sender was seen."""
        laptop = Protected.build(links=(LINK,), start=False)
        try:
            lab = laptop.lab
            lab.host.run("mkdir", "-p", "/run/aovpnd", "/var/lib/aovpnd")
            lab.host.run("mount", "-t", "tmpfs", "-o", "size=2m,mode=755", "tmpfs", "/run/aovpnd")
            lab.host.run("mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", "/var/lib/aovpnd")
            lab.write_config(_CONFIG)
            refusals = Refusals(lab.host.dir / "refusals.json")
            manager = Manager(lab.host.dir / "notify")
            environment = (f"NOTIFY_SOCKET={lab.host.dir / 'notify'}", f"WATCHDOG_USEC={_WATCHDOG_S * 1_000_000}")
            lab.start_daemon(under=("env", *environment, *refusals.command))
            laptop.world.roam("home", ipv6=True)
            wait_for("the tunnel to work", laptop.works, deadline_s=30, poll_s=0.05)
            meter = Meter.start(laptop.world.air, (LINK,))
            senders = Senders.start(lab, JUDGED, rate=_RATE)
        except BaseException:
            laptop.world.close()
            raise
        return cls(laptop, meter, refusals, senders, manager)

    def close(self) -> None:
        """Give everything back."""
        self.senders.stop()
        self.meter.close()
        self.manager.close()
        self.laptop.world.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- one cell -----------------------------------------------------------------------------------------------------
    def perform(self, cell: Cell, phase: Phase) -> Outcome:
        """Enter the phase, let the call fail, hear what is said, let it work again, and wait until all is well."""
        began = time.monotonic()
        self._enter(phase)
        self.tell_leaks()
        hits, mark = self.refusals.hits(), len(self.laptop.lab.daemon_log())
        said, missing, ends = "", "", 0.0
        if phase is Phase.ACCESS:
            self._open_window()
            ends = self.laptop.lab.access_ends()
        with cell.fault(self):
            refusal = cell.provoke(self)
            try:
                said = wait_for(f"{cell.said}", lambda: self._said(cell, refusal, mark), deadline_s=_SAID_S)
            except LabError:
                missing = f"nobody said {cell.said!r}; problems: {self.problems()}; refused: {refusal!r}"
            if phase is Phase.ACCESS:
                self._until(ends + 0.05)
                self.allowed = self.meter.clear()
            self._moment()
            clear = self.leaked()
        if phase is Phase.BLOCKED:
            self.ctl("disconnect")  # some cells had to connect for their call
        since = time.monotonic()
        try:
            wait_for("all to be well again", lambda: self._well(cell, phase), deadline_s=_BACK_S, poll_s=0.05)
        except LabError:
            missing += f"; not healed: {self.phase_now()} {self.problems()}"
        healed = time.monotonic() - since
        self._moment()
        clear += self.leaked()
        if missing:
            missing += f"\n{self.laptop.log_since(mark)[-2000:]}"
        return Outcome(
            cell.id,
            phase,
            clear,
            said,
            missing,
            round(healed, 2),
            round(time.monotonic() - began, 1),
            self.refusals.hits() - hits,
        )

    def _said(self, cell: Cell, refusal: str, mark: int) -> str:
        if not cell.said:
            return "(nothing)"
        texts = [self.laptop.log_since(mark)] if cell.journal else [*self.problems(), refusal]
        for text in texts:
            found = re.search(cell.said, text)
            if found is not None:
                return next(line for line in text.splitlines() if found[0].splitlines()[0] in line)
        return ""

    def _well(self, cell: Cell, phase: Phase) -> bool:
        status = self.status()
        if status["phase"] != _PUBLISHED[phase] or not status["protected"] or not status["block"]["guarded"]:
            return False
        if cell.said and any(re.search(cell.said, problem) for problem in self.problems()):
            return False
        return phase not in {Phase.CONNECTED, Phase.ACCESS} or self.laptop.works()

    # -- phases -------------------------------------------------------------------------------------------------------
    def _enter(self, phase: Phase) -> None:
        """From whatever is: for a window, connected first."""
        lab, gateway = self.laptop.lab, self.laptop.world.gateway
        if phase is Phase.CONNECTING and self.phase is not phase:
            lab.ctl("disconnect")
            gateway.off()
            lab.ctl("connect", check=False)
        elif phase is not Phase.CONNECTING:
            if self.phase is Phase.CONNECTING:
                gateway.on()
            if phase is Phase.BLOCKED:
                lab.ctl("disconnect")
            elif self.phase_now() != "connected":
                lab.ctl("connect", check=False)
        self.phase = phase
        wait_for(f"the phase {phase}", lambda: self.phase_now() == _PUBLISHED[phase], deadline_s=30, poll_s=0.02)
        if phase in {Phase.CONNECTED, Phase.ACCESS}:
            wait_for("the tunnel to work", self.laptop.works, deadline_s=30, poll_s=0.05)

    def _open_window(self) -> None:
        if self.windows == _WINDOWS_AN_HOUR:
            with suppress(FileNotFoundError):
                self.laptop.lab.host.path(_BUDGET).unlink()
            killed = self.laptop.daemon_pid()
            self.laptop.lab.kill_daemon()
            wait_for("another daemon", lambda: self.laptop.daemon_pid() not in {killed, None}, deadline_s=30)
            wait_for("the tunnel to work", self.laptop.works, deadline_s=30, poll_s=0.05)
            self.windows = 0
        self.windows += 1
        self.laptop.lab.ctl("allow-temp", f"{_WINDOW_S}s")

    # -- judging ------------------------------------------------------------------------------------------------------
    def tell_leaks(self) -> None:
        """What was seen until now was told."""
        self.allowed = self.meter.clear()

    def leaked(self) -> str:
        """Frames in clear since the last time, in words."""
        found = self.meter.clear()
        leaked, self.allowed = found - self.allowed, found
        return ", ".join(f"{count} x {name}" for name, count in leaked.most_common())

    def _moment(self) -> None:
        self._until(time.time() + _MOMENT_S)

    def _until(self, moment: float) -> None:
        left = max(0.0, moment - time.time())
        wait_for("a moment", lambda: time.time() >= moment, deadline_s=left + 5, poll_s=0.02)

    def enter_connected(self) -> None:
        """Be connected, with a tunnel that works."""
        self._enter(Phase.CONNECTED)

    def weight(self) -> tuple[int, int]:
        """The daemon's resident memory in KiB, and its descriptors."""
        pid = self.laptop.daemon_pid()
        if pid is None:
            raise LabError("there is no daemon to look at")
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
        resident = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(resident), len(list(Path(f"/proc/{pid}/fd").iterdir()))

    # -- looking ------------------------------------------------------------------------------------------------------
    def status(self) -> dict[str, Any]:
        """What the daemon has published last; as good as nothing where it has not."""
        try:
            text = self.laptop.lab.host.path("/run/aovpnd/status.json").read_text(encoding="utf-8")
            found: dict[str, Any] = json.loads(text)
        except (OSError, ValueError):
            return {"phase": None, "protected": False, "block": {"guarded": False}, "problems": []}
        return found

    def phase_now(self) -> str | None:
        """The phase that is published."""
        phase: str | None = self.status()["phase"]
        return phase

    def problems(self) -> list[str]:
        """Each as one line; those without a hint are left out: a problem has one."""
        found = self.status()["problems"]
        return [f"{each['code']}: {each['text']} ({each['hint']})" for each in found if each["hint"]]

    # -- what cells are made of ---------------------------------------------------------------------------------------
    def ctl(self, *words: str) -> str:
        """A command; what it said when it was refused."""
        done = self.laptop.lab.ctl(*words, check=False)
        return done.stderr if done.returncode else ""

    @contextmanager
    def refusing(self, *rules: Rule) -> Iterator[None]:
        """Let system calls fail."""
        with self.refusals.these(*rules):
            yield

    @contextmanager
    def over(self, place: str, text: str, mode: int = 0o755) -> Iterator[None]:
        """Another file in the place of one of the machine's, which stays what it is."""
        self.fresh += 1
        fake = self.laptop.lab.host.dir / f"fake-{self.fresh}"
        fake.write_text(text, encoding="utf-8")
        fake.chmod(mode)
        host = self.laptop.lab.host
        host.run("mount", "--bind", str(fake), place)
        try:
            yield
        finally:
            host.run("umount", "-l", place)


_PUBLISHED: Final = {
    Phase.BLOCKED: "blocked",
    Phase.CONNECTING: "connecting",
    Phase.CONNECTED: "connected",
    Phase.ACCESS: "connected",
}
"""What status says before and after a cell: a window that is over leaves the tunnel."""
