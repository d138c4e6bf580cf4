# SPDX-License-Identifier: GPL-3.0-or-later
"""A stage: one world with its senders, its probe and its recorder, and what can happen on it."""

import json
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.lab import plan
from tests.lab.frames import Kind
from tests.lab.laptop import Laptop
from tests.lab.probe import Probe
from tests.lab.process import LabError, wait_for
from tests.lab.record import Recorder
from tests.lab.senders import Senders
from tests.lab.world import World

RATE: float = 4.0
"""Payloads a second of each of the senders' kinds."""
DOWNLOAD: str = f"http://{plan.WEB4}/paced?bytes=100000000&rate=200000"


@dataclass(slots=True)
class Stage:
    """Where one of the two stories plays; times are Unix times."""

    world: World
    recorder: Recorder
    senders: Senders
    probe: Probe
    window: tuple[float, float] | None = None
    """When temporary access was given, and its deadline."""
    notes: list[str] = field(default_factory=list)
    """What a person would have seen on the screen in this row."""
    _killed: frozenset[int] = frozenset()
    _download: subprocess.Popen[bytes] | None = None
    _had: int = 0
    """Bytes that the download had when the window closed."""
    _file: Path | None = None

    @classmethod
    def build(cls) -> Self:
        """Build a world whose laptop is off every network, with everything that sends running."""
        world = World.build(links=("wlan0",))
        recorder = world.record()
        senders = Senders.start(world.laptop, rate=RATE)
        return cls(world, recorder, senders, Probe.start(world.laptop, senders.token))

    @property
    def laptop(self) -> Laptop:
        """The laptop."""
        return self.world.laptop

    def clear_so_far(self) -> int:
        """Frames in clear since the beginning, by the nft counters."""
        return self.recorder.count(Kind.CLEAR)

    def close(self) -> None:
        """Give everything back."""
        self.senders.stop()
        self.probe.stop()
        self.world.close()

    # -- what happens around both laptops -----------------------------------------------------------------------------

    def carrier_without_network(self) -> None:
        """Home's Wi-Fi gives carrier, and nobody asks for an address yet."""
        self.world.gateway.off()
        self.world.attach("wlan0", "home")
        self.laptop.host.ip("link set wlan0 up")

    def home(self) -> None:
        """DHCP at home, IPv4 and IPv6; the gateway is away."""
        self.laptop.join("wlan0")
        self.laptop.wait_online("wlan0", ipv6=True)

    def gateway_back(self) -> None:
        """The gateway answers again."""
        self.world.gateway.on()

    def flush(self) -> None:
        """What a restart of a firewall service does."""
        self.laptop.host.run("nft", "flush", "ruleset")

    def kill_tunnel(self) -> None:
        """SIGKILL to the tunnel's process; where the kernel is the tunnel, its link is deleted."""
        if self.laptop.host.pids_of("wireguard-go"):
            self.laptop.kill("wireguard-go")
        else:
            links = (link for link in self.laptop.host.links() if link.startswith(("aovpn", "wg")))
            for link in links:
                self.laptop.host.ip(f"link del {link}")

    def cafe(self) -> None:
        """Out of the house and into the café, whose router also drops WireGuard, at first for everybody."""
        self.world.cafe.shut_udp(plan.GATEWAY_PORT)
        self.world.roam("cafe", ipv6=True)

    def open_page(self) -> None:
        """The user opens some page."""
        page = self.laptop.curl(f"http://{plan.WEB4}/", "-o", "/dev/null", "-w", "%{http_code}", timeout_s=1.5)
        self.notes.append(
            f"a web page: HTTP {page.stdout}" if page.returncode == 0 else f"a web page: {page.stderr.strip()}"
        )

    def log_in(self) -> None:
        """The user logs in to the portal, and begins a download over the network that is open now."""
        self.laptop.curl(f"http://{plan.PORTAL_NAME}/login", "--data", "")
        if not self.world.cafe.logged_in(plan.LAPTOP_MAC["wlan0"]):
            raise LabError("the captive portal did not let the laptop in")
        self.notes.append("logged in to the portal; a download begins")
        self._file = self.laptop.host.dir / "download"
        self._file.touch()
        self._file.chmod(0o666)
        self._download = self.laptop.host.spawn(
            "curl", "-sS", "-o", str(self._file), DOWNLOAD, uid=plan.USER, log="download"
        )
        wait_for("the download to flow", lambda: self.downloaded() > 0)

    def downloaded(self) -> int:
        """Bytes that the download has got."""
        return self._file.stat().st_size if self._file is not None else 0

    def watch_download(self) -> None:
        """Remember how far the download is."""
        self._had = self.downloaded()

    def end_download(self) -> None:
        """Say what became of the download since `watch_download`, and end it."""
        if self._download is None:
            return
        more, status = self.downloaded() - self._had, self._download.poll()
        went = f"got {more / 1e6:.1f} MB more" if more else "got nothing more"
        went += " and still hopes" if status is None else f" and has given up (curl: {status})"
        self.notes.append(f"the download had {self._had / 1e6:.1f} MB when the window closed, {went}")
        if status is None:
            self._download.kill()
            self._download.wait()
        self._download = None

    def cafe_lets_tunnels_through(self) -> None:
        """The café's router stops dropping WireGuard."""
        self.world.cafe.shut_udp()

    # -- aovpnd -------------------------------------------------------------------------------------------------------

    def start_daemon(self) -> None:
        """A laptop with a wg-quick file boots: early boot's rules, then the service, before there is any network."""
        self.laptop.install_tunnel()
        self.laptop.early_boot()
        self.laptop.start_daemon()
        self.carrier_without_network()

    def kill_daemon(self) -> None:
        """``kill -9``; the service manager starts it again."""
        self._kill("aovpnd")

    def kill_guard(self) -> None:
        """``kill -9`` to the guard; the daemon starts it again."""
        self._kill("aovpnd-guard")

    def kill_both_and_flush(self) -> None:
        """Daemon and guard die together, and at once somebody flushes the firewall."""
        self._kill("aovpnd", "aovpnd-guard")
        self.flush()

    def _kill(self, *programs: str) -> None:
        self._killed = frozenset(self.laptop.host.pids_of(*programs))
        self.laptop.kill(*programs)

    def allow_temp(self) -> None:
        """``aovpnctl allow-temp 1m``, and what the user wanted it for."""
        asked = time.time()
        answer = self.laptop.ctl("allow-temp", "1m", "--reason", "portal of the café")
        self.notes.append(answer.stdout.strip().splitlines()[0])
        self.window = (asked, self.laptop.access_ends())
        self.log_in()

    def countdown(self) -> str:
        """What ``aovpnctl status`` says of the time that is left."""
        text = self.laptop.ctl("status", check=False).stdout
        return next((line.strip() for line in text.splitlines() if "00:0" in line), "")

    def stop_daemon(self) -> None:
        """Stop the service."""
        self.laptop.stop_daemon()

    def guarded(self) -> bool:
        """Whether daemon and guard are there, none of them is a killed one, and the daemon says that it is guarded."""
        processes = [self.laptop.host.pids_of(program) for program in ("aovpnd", "aovpnd-guard")]
        if not all(processes) or self._killed & {pid for pids in processes for pid in pids}:
            return False
        answer = self.laptop.ctl("status", "--json", check=False)
        return answer.returncode == 0 and bool(json.loads(answer.stdout)["block"]["guarded"])

    def tables_are_back(self) -> bool:
        """Whether the daemon's table is loaded."""
        return self.laptop.host.run("nft", "list", "table", "inet", "aovpnd", check=False).returncode == 0

    # -- wg-quick -----------------------------------------------------------------------------------------------------

    def wg_quick_up(self) -> None:
        """``wg-quick up``."""
        self.laptop.wg_quick("up")

    def wg_quick_down(self) -> None:
        """``wg-quick down``, if it is up."""
        if "wg0" in self.laptop.host.links():
            self.laptop.wg_quick("down")
