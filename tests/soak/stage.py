# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the soak plays: a laptop under the daemon's protection, a flood, and what can happen to it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final, Self

from tests.lab import charon, plan
from tests.lab.ike import Way
from tests.lab.process import SLOW, LabError, wait_for
from tests.lab.sender_kinds import SenderKind
from tests.lab.senders import Senders, new_token
from tests.netns.protected import VICI, WAY, Protected
from tests.soak.meter import Meter

Rates = dict[str, int]
"""Kinds of tests.lab.flood, and how many packets a second each tries to send."""
EVERYBODY: Final[Rates] = {"bound4": 60_000, "packet4": 60_000, "packet6": 60_000, "udp4": 4_000, "udp6": 4_000}
"""The flood. Ordinary sockets that are not bound to the card send into the tunnel, so they are slower: what a full
tunnel delays is no finding about the block."""
CHARON: Final[Rates] = EVERYBODY | {"udp4": 300, "udp6": 300}
"""The flood where charon itself carries every packet (kernel-libipsec, at both ends): less would go through it."""
ORDINARY: Final[Rates] = {"bound4": 110_000, "bound6": 20_000, "udp4": 4_000, "udp6": 4_000}
"""A flood of ordinary programs alone."""
POLITE: Final = 20.0
"""Beside the flood every other kind of sender speaks this often per second."""
_NICE: Final = "10"
"""The flood leaves the daemon its share of a small machine, as a laptop's scheduler would."""
_BACK_S: Final = 60.0
"""How long a recovery may take under the flood before it counts as none."""
_BUDGET: Final = "/var/lib/aovpnd/temporary-access.json"


class Leak(Exception):
    """Frames in clear: what the soak is after."""


@dataclass(slots=True)
class Flood:
    """Senders without pause; how fast they were is known when they end."""

    processes: list[subprocess.Popen[bytes]]

    def stop(self) -> dict[str, dict[str, float]]:
        """End them; returns attempts, sent and seconds for each kind."""
        figures: dict[str, dict[str, float]] = {}
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            output = process.communicate(timeout=30 * SLOW)[0]
            figures.update(json.loads(output))
        self.processes = []
        return figures


@dataclass(slots=True)
class Stage:
    """One world, its meter, and where the laptop is in it."""

    laptop: Protected
    meter: Meter
    site: str = "home"
    grants_left: int = 0
    reloads: int = 0
    killed: set[int | None] = field(default_factory=set)
    allowed: Counter[str] = field(default_factory=Counter)
    """Frames in clear that windows of temporary access have let out."""
    floods: list[dict[str, dict[str, float]]] = field(default_factory=list)

    @classmethod
    def build(cls, way: Way | None = WAY) -> Self:
        """A laptop that is connected at home; every sender was seen before, unprotected. ``way`` as in `Protected`."""
        laptop = Protected.build(links=("wlan0",), way=way)
        world = laptop.world
        world.cafe.host.nft(f"add element inet cafe allowed {{ {plan.LAPTOP_MAC['wlan0']} }}")
        stage = cls(laptop, Meter.start(world.air, ("wlan0",), plan.IKE_GATEWAYS if way is not None else ()))
        world.roam("home", wait=False)
        stage.wait_back()
        return stage

    def close(self) -> None:
        """Give everything back."""
        self.meter.close()
        self.laptop.world.close()

    # -- the flood ----------------------------------------------------------------------------------------------------
    @contextmanager
    def flood(self, rates: Rates, polite: tuple[SenderKind, ...]) -> Iterator[None]:
        """A flood of these kinds, and the polite senders beside it, while the block runs."""
        host, token, processes = self.laptop.lab.host, new_token(), []
        for kind, rate in rates.items():
            net_raw = kind.startswith("packet")
            command = (
                "nice",
                "-n",
                _NICE,
                sys.executable,
                "-m",
                "tests.lab.flood",
                token.hex(),
                kind,
                "wlan0",
                str(rate),
            )
            uid = plan.RAW_USER if net_raw else plan.USER
            processes.append(host.spawn(*command, uid=uid, net_raw=net_raw, log="flood", stdout=subprocess.PIPE))
        for process in processes:
            if process.stdout is None or process.stdout.readline() != b"ready\n":
                raise LabError(f"a flood did not start: {(host.dir / 'flood.log').read_text()[-400:]}")
        flood = Flood(processes)
        senders = Senders.start(self.laptop.lab, polite, rate=POLITE, token=token)
        try:
            yield
        finally:
            senders.stop()
            self.floods.append(flood.stop())

    def packets(self) -> float:
        """How many packets all floods together have tried to send."""
        return sum(each["attempts"] for flood in self.floods for each in flood.values())

    def seconds(self) -> float:
        """For how long there was a flood."""
        return sum(max(each["seconds"] for each in flood.values()) for flood in self.floods)

    # -- judging ------------------------------------------------------------------------------------------------------
    def judge(self, *, but: str | None = None) -> None:
        """`Leak` when a frame in clear was seen that no window let out, and that is not of the protocol ``but``."""
        leaked = self.meter.clear() - self.allowed
        self.allowed += leaked  # told once
        if but is not None:
            del leaked[f"clear_{but}"]
        if leaked:
            raise Leak(", ".join(f"{count} × {name}" for name, count in leaked.most_common()))

    def wait_back(self) -> float:
        """Wait until daemon, guard and tunnel are as they should be, and none of them is one that was killed; returns
        how long that took (s).
        """
        since = time.monotonic()

        def back() -> bool:
            if not self._looks_back():
                return False
            pids = {self.laptop.daemon_pid(), self.laptop.guard_pid()}
            pids |= {*self.laptop.lab.host.pids_of("charon-systemd")}
            # A busy daemon has not seen yet what has just been killed or flushed: the kernel is asked as well.
            return not pids & (self.killed | {None}) and self.laptop.works() and self.laptop.blocks()

        wait_for("all of it to be back", back, deadline_s=_BACK_S, poll_s=0.05)
        return time.monotonic() - since

    def _looks_back(self) -> bool:
        """What is published says so: cheap, so that the rest is asked only then."""
        try:
            text = self.laptop.lab.host.path("/run/aovpnd/status.json").read_text(encoding="utf-8")
        except OSError:
            return False
        status = json.loads(text)
        return bool(status["phase"] == "connected" and status["protected"] and status["block"]["guarded"])

    def lab_log(self, say: Callable[[str], None]) -> None:
        """Say what the daemon has logged last."""
        for line in self.laptop.lab.daemon_log().splitlines()[-20:]:
            say(line)

    def memory(self) -> tuple[int, int, int]:
        """The daemon's pid, resident memory in KiB, and number of descriptors."""
        pid = self.laptop.daemon_pid()
        if pid is None:
            raise LabError("there is no daemon to look at")
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
        resident = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))
        return pid, int(resident), len(list(Path(f"/proc/{pid}/fd").iterdir()))

    # -- what happens -------------------------------------------------------------------------------------------------
    def roam(self) -> None:
        """To the other place."""
        self.site = "cafe" if self.site == "home" else "home"
        self.laptop.world.roam(self.site, wait=False)

    def flap(self) -> None:
        """The carrier goes and comes."""
        self.laptop.world.flap("wlan0")

    def flush(self) -> None:
        """``nft flush ruleset``."""
        self.laptop.lab.host.run("nft", "flush", "ruleset")

    def reload(self) -> None:
        """Another configuration."""
        self.reloads += 1
        self.laptop.lab.write_config(f"[temporary_access]\nduration = {60 + self.reloads % 60}\n")
        pid = self.laptop.daemon_pid()
        if pid is not None:
            os.kill(pid, signal.SIGHUP)

    def reconnect(self) -> None:
        """The user disconnects and connects."""
        self.laptop.lab.ctl("disconnect")
        self.laptop.lab.ctl("connect")

    def kill_daemon(self) -> None:
        """SIGKILL to the daemon; whoever restarts it finds a new hour's budget."""
        pid = self.laptop.daemon_pid()
        self.laptop.lab.host.path(_BUDGET).unlink(missing_ok=True)
        self.grants_left = 3
        self._sigkill(pid)

    def kill_guard(self) -> None:
        """SIGKILL to the guard."""
        self._sigkill(self.laptop.guard_pid())

    # -- what happens to an IKE tunnel --------------------------------------------------------------------------------
    def kill_charon(self) -> None:
        """SIGKILL to our charon, who holds the keys and the device; one that is being made anew is waited for."""
        wait_for("a charon", lambda: self.laptop.lab.host.pids_of("charon-systemd"), deadline_s=_BACK_S, poll_s=0.02)
        for pid in self.laptop.lab.host.pids_of("charon-systemd"):
            self._sigkill(pid)

    def hang_charon(self) -> None:
        """SIGSTOP to our charon: it carries nothing, and answers nobody."""
        for pid in self.laptop.lab.host.pids_of("charon-systemd"):
            self.killed.add(pid)
            os.kill(pid, signal.SIGSTOP)

    def flush_sas(self) -> None:
        """Somebody deletes our SAs and their policies, by charon's own door."""
        charon.flush(self.laptop.lab.host, VICI)

    def kernel_does_esp(self) -> bool:
        """Whether the tunnel is the kernel's ESP, behind an XFRM interface: not on every machine."""
        return bool(self.laptop.lab.host.run("ip", "-brief", "link", "show", "type", "xfrm", check=False).stdout)

    def flush_kernel(self) -> None:
        """Somebody deletes all SAs and policies from the kernel, and charon is not told."""
        for what in ("state", "policy"):
            self.laptop.lab.host.ip(f"xfrm {what} flush")

    def _sigkill(self, pid: int | None) -> None:
        """A process that is gone already, or not there yet, needs none."""
        if pid is not None:
            self.killed.add(pid)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def grant(self, random: Random) -> str:
        """A window, and one of the things that end it; what leaves in it is allowed, and counted. Returns which end."""
        lab = self.laptop.lab
        lab.ctl("disconnect")
        wait_for("the blocked phase", lambda: lab.status()["phase"] == "blocked", deadline_s=_BACK_S)
        self.judge()
        ending = random.choice(("cancel", "time", "success", "roam", "kill"))
        lab.ctl("allow-temp", "2s" if ending == "time" else "60s")
        self.grants_left -= 1
        match ending:
            case "cancel":
                lab.ctl("allow-temp", "--cancel")
            case "success":
                lab.ctl("connect")
            case "roam":
                self.roam()
            case "kill":
                self.kill_daemon()
            case _:
                pass
        wait_for("the window to close", self._is_closed, deadline_s=_BACK_S, poll_s=0.02)
        self.allowed = self.meter.clear()
        lab.ctl("connect")
        return ending

    def _is_closed(self) -> bool:
        status = self.laptop.lab.status()
        return status["phase"] not in {None, "temporary-access"} and bool(status["protected"])
