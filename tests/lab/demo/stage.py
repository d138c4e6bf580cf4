# SPDX-License-Identifier: GPL-3.0-or-later
"""A stage: one world with its senders, its probe and its recorder, and what can happen on it."""

import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field, replace
from enum import Enum
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, Self

from aovpnd import names
from aovpnd.ctl.asking import ask
from tests.lab import plan
from tests.lab.frames import ENDPOINTS, Endpoint, Kind
from tests.lab.laptop import Laptop
from tests.lab.probe import Probe
from tests.lab.process import LabError, wait_for
from tests.lab.record import Recorder
from tests.lab.senders import Senders
from tests.lab.world import World, by_name

RATE: float = 4.0
"""Payloads a second of each of the senders' kinds."""
DOWNLOAD: str = f"http://{plan.WEB4}/paced?bytes=100000000&rate=200000"
SOME: Final = 100_000
"""Bytes of a download that show that it goes on."""
LIE: Final = plan.WEB4
"""Where the lying resolver says that the gateway is: at the address of somebody else's web server."""
ELSEWHERE: Final[tuple[Endpoint, ...]] = (
    (LIE, plan.GATEWAY_PORT),
    *((plan.SIX.behind_nat64(place.wan4), plan.GATEWAY_PORT) for place in plan.PLACES),
)
"""Where else handshakes may go: to whom the liar names, and to the gateways as IPv6 alone reaches them."""
ORDER: Final = '[tunnel]\nprefer = ["tunnel", "second"]\n[temporary_access]\nwhile_connected = "pause"\n'


class Names(Enum):
    """Who answers an ordinary program that asks for a name."""

    TUNNEL = "tunnel"
    NETWORK = "network"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class Window:
    """When temporary access was given and when it ended, Unix times; ``end`` is the deadline until it ends earlier."""

    start: float
    end: float


@dataclass(slots=True)
class Stage:
    """Where one of the two stories plays; times are Unix times."""

    world: World
    recorder: Recorder
    senders: Senders
    probe: Probe
    windows: list[Window] = field(default_factory=list)
    event: float | None = None
    """When that happened in this row which the laptop has to recover from, where it was not the row's beginning."""
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
        world = World.build(links=("wlan0",), nat64=True)
        recorder = world.record(endpoints=(*ENDPOINTS, *ELSEWHERE))
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
        """DHCP at home, IPv4 and IPv6."""
        self.laptop.join("wlan0")
        self.laptop.wait_online("wlan0", ipv6=True)

    def home_with_a_liar(self) -> None:
        """Home, where the resolver names somebody else's address for the gateway."""
        self.world.home.resolver("lie", LIE)
        self.home()

    def truth(self) -> None:
        """The resolver speaks the truth, and the gateway answers."""
        self.world.home.resolver("honest")
        self.world.gateway.on()

    def gateway_dies(self) -> None:
        """The gateway goes down for good."""
        self.world.gateway.off()
        self.event = time.time()

    def mobile(self) -> None:
        """Into a mobile network: IPv6 alone, IPv4 behind NAT64."""
        self.world.unplug("wlan0")
        self.event = time.time()
        self.world.roam("six")

    def sleep_and_wake_at_home(self) -> None:
        """The lid is closed, and opened again at home some seconds later."""
        self.world.unplug("wlan0")
        self.world.gateway.on()
        self.event = time.time()
        self.world.roam("home", ipv6=True)

    def flush(self) -> None:
        """What a restart of a firewall service does."""
        self.event = time.time()
        self.laptop.host.run("nft", "flush", "ruleset")

    def kill_tunnel(self) -> None:
        """SIGKILL to the tunnel's process; where the kernel is the tunnel, its link is deleted."""
        self.event = time.time()
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
        self.start_download()

    def start_download(self) -> None:
        """The user begins a long download."""
        self._file = self.laptop.host.dir / "download"
        self._file.unlink(missing_ok=True)
        self._file.touch()
        self._file.chmod(0o666)
        self._download = self.laptop.host.spawn(
            "curl", "-sS", "-o", str(self._file), DOWNLOAD, uid=plan.USER, log="download"
        )
        wait_for("the download to flow", lambda: self.downloaded() > SOME)

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

    def watch_roaming(self) -> None:
        """The download that began in the last network goes on in this one, or it does not."""
        had = self.downloaded()
        process = self._download
        if process is None:
            raise LabError("there is no download")
        try:
            wait_for(
                "the download to go on",
                lambda: self.downloaded() > had + SOME or process.poll() is not None,
                deadline_s=60,
            )
        except LabError:
            self.notes.append(f"the download stands still at {had / 1e6:.1f} MB")
        else:
            went = f"goes on at {self.downloaded() / 1e6:.1f} MB" if process.poll() is None else "has broken off"
            self.notes.append(f"the download {went}")
        if process.poll() is None:
            process.kill()
            process.wait()
        self._download = None

    def cafe_lets_tunnels_through(self) -> None:
        """The café's router stops dropping WireGuard."""
        self.world.cafe.shut_udp()

    # -- aovpnd -------------------------------------------------------------------------------------------------------

    def start_daemon(self) -> None:
        """A laptop with a wg-quick file boots: early boot's rules, then the service, before there is any network.

        The file names its gateway by its name.
        """
        self.laptop.install_tunnel(text=by_name(self.laptop.tunnel_conf))
        self.laptop.early_boot()
        self.laptop.start_daemon()
        self.carrier_without_network()

    def second_gateway(self) -> None:
        """The administrator adds a second gateway, which the first is preferred to."""
        _, conf = self.world.another_gateway()
        self.laptop.install_tunnel("second", conf)
        self.laptop.write_config(ORDER)
        for pid in self.laptop.host.pids_of("aovpnd"):
            os.kill(pid, signal.SIGHUP)
        wait_for("both tunnels", lambda: len(self.laptop.status()["tunnels"]) == 2)

    def close_lid(self) -> None:
        """A pause, and in it the machine is put to sleep: what logind announces ends the pause before that."""
        self.allow("5m", "the printer at work")
        ask(str(self.laptop.host.path(names.RUNTIME_DIR)), "prepare-sleep")
        self.windows[-1] = replace(self.windows[-1], end=time.time())

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
        self.event = time.time()
        self.laptop.kill(*programs)

    def allow_temp(self) -> None:
        """``aovpnctl allow-temp 1m``, and what the user wanted it for."""
        self.allow("1m", "portal of the café")
        self.log_in()

    def allow(self, span: str, reason: str) -> None:
        """``aovpnctl allow-temp``."""
        asked = time.time()
        answer = self.laptop.ctl("allow-temp", span, "--reason", reason)
        self.notes.append(answer.stdout.strip().splitlines()[0])
        self.windows.append(Window(asked, self.laptop.access_ends()))

    def countdown(self) -> str:
        """What ``aovpnctl status`` says of the time that is left."""
        text = self.laptop.ctl("status", check=False).stdout
        return next((line.strip() for line in text.splitlines() if "00:0" in line), "")

    def stop_daemon(self) -> None:
        """Stop the service."""
        self.laptop.stop_daemon()

    def resolver(self) -> Names:
        """Who answers an ordinary program that asks for the name that each resolver answers with its own address."""
        words = ("env", "RES_OPTIONS=timeout:1 attempts:1", "getent", "ahostsv4", plan.WHO_NAME)
        done = self.laptop.host.run(*words, check=False, uid=plan.USER)
        if done.returncode:
            return Names.NOBODY
        answered = IPv4Address(done.stdout.split()[0])
        return Names.TUNNEL if answered in {place.inside4 for place in plan.PLACES} else Names.NETWORK

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
