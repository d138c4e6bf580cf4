# SPDX-License-Identifier: GPL-3.0-or-later
"""The real daemon and the real aovpnd-bus on the laptop, with a bus of its own and stand-ins for a desktop's services:
an ordinary user gives commands, and whatever dies on that side changes no packet.
"""

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import pytest

from tests.bus.private_bus import PrivateBus
from tests.bus.services import Login, Loop, NetworkManager, Polkit
from tests.lab import plan
from tests.lab.laptop import BIN
from tests.lab.process import stop, wait_for
from tests.netns.protected import Protected

pytestmark = pytest.mark.root

BUS_UID: Final = 64010
ACCOUNTS: Final = f"alice:x:{plan.USER}:{plan.USER}::/:/bin/sh\naovpnd-bus:x:{BUS_UID}:{BUS_UID}::/:/bin/false\n"
LATE_S: Final = 0.1
"""How much later than the word of sleep a window may close."""


@dataclass
class Desktop:
    """The laptop with a bus, its services, and aovpnd-bus, which is restarted as its unit would."""

    laptop: Protected
    bus: PrivateBus
    loop: Loop
    polkit: Polkit
    login: Login
    manager: NetworkManager

    def ctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run aovpnctl as the laptop's user."""
        address = f"DBUS_SYSTEM_BUS_ADDRESS={self.bus.address}"
        return self.laptop.lab.host.run("env", address, str(BIN / "aovpnctl"), *words, check=False, uid=plan.USER)

    def works(self) -> bool:
        """Whether an ordinary user's command is carried out."""
        return self.ctl("connect").returncode == 0

    def start_services(self) -> None:
        """Start polkit, logind and NetworkManager anew: they do not outlive their bus."""
        for service in (self.polkit, self.login, self.manager):
            service.close()
        self.polkit = Polkit(self.loop, self.bus.address, owner=BUS_UID)
        self.login = Login(self.loop, self.bus.address)
        self.manager = NetworkManager(self.loop, self.bus.address, self.bus.directory / "check-off")


@contextmanager
def desktop(laptop: Protected) -> Iterator[Desktop]:
    """All of it, for as long as the block lasts. The daemon must not run yet: it looks for its user once."""
    host = laptop.lab.host
    with host.path("/etc/passwd").open("a", encoding="ascii") as accounts:
        accounts.write(ACCOUNTS)
    host.run("install", "-d", "-o", str(BUS_UID), "-m", "700", "/var/lib/aovpnd-bus")
    directory = host.dir / "dbus"
    directory.mkdir()
    bus = PrivateBus(directory, tuple(host.prefix()), "aovpnd-bus")
    bus.start()
    loop = Loop()
    services = (
        Polkit(loop, bus.address, owner=BUS_UID),
        Login(loop, bus.address),
        NetworkManager(loop, bus.address, directory / "check-off"),
    )
    built = Desktop(laptop, bus, loop, *services)
    laptop.lab.start_daemon()
    supervise = (sys.executable, "-m", "tests.lab.supervise", str(directory / "supervisor.jsonl"), "--")
    ordinary = ("setpriv", f"--reuid={BUS_UID}", f"--regid={BUS_UID}", "--clear-groups", "--bounding-set=-all", "--")
    environment = {"DBUS_SYSTEM_BUS_ADDRESS": bus.address}
    process = host.spawn(*supervise, *ordinary, str(BIN / "aovpnd-bus"), log="aovpnd-bus", env=environment)
    try:
        wait_for("commands of an ordinary user", built.works, deadline_s=20, poll_s=0.05)
        yield built
    finally:
        stop(process)
        for service in (built.polkit, built.login, built.manager):
            service.close()
        loop.close()
        bus.kill()


@pytest.fixture(scope="module")
def laptop() -> Iterator[Protected]:
    """One world for this file."""
    with Protected.build(start=False) as built:
        yield built


@pytest.fixture(scope="module")
def seat(laptop: Protected) -> Iterator[Desktop]:
    """Its user's desktop."""
    with desktop(laptop) as built:
        yield built


def test_ordinary_user(laptop: Protected, seat: Desktop) -> None:
    """Connects without a password, is refused what administrators do, and sees where he is."""
    laptop.connect("home")
    seat.manager.join(b"CoffeeShop\x1b[2J")
    wait_for("the name of the network", lambda: laptop.lab.status()["uplinks"][0]["name"], deadline_s=10)

    connecting, refused, status = seat.ctl("connect"), seat.ctl("disconnect"), seat.ctl("status")

    assert (connecting.returncode, connecting.stdout) == (0, "connecting by tunnel\n")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("aovpnctl: disconnecting takes a password, and there was nobody to ask for it")
    assert 'Current network: Wi-Fi "CoffeeShop\\x1b[2J" (wlan0)' in status.stdout
    assert laptop.works()


def test_deaths_change_no_packet(laptop: Protected, seat: Desktop) -> None:
    """aovpnd-bus and dbus-daemon are killed at odd moments, also in the course of a command: nothing leaves, the tunnel
    stays up, and afterwards commands work again.
    """
    laptop.connect("home")
    before = laptop.handshake()
    chance = random.Random(11)
    with laptop.nothing_leaves() as watch:
        for victim in ("aovpnd-bus", "dbus-daemon") * 2:
            asking = laptop.lab.host.spawn(
                *(str(BIN / "aovpnctl"), "connect"), uid=plan.USER, env={"DBUS_SYSTEM_BUS_ADDRESS": seat.bus.address}
            )
            time.sleep(chance.random() * 0.3)  # anywhere in the course of it
            if victim == "aovpnd-bus":
                laptop.lab.kill("aovpnd-bus")
            else:
                seat.bus.kill()
                seat.bus.start()
                seat.start_services()
            watch.until("commands to work again", seat.works)
            asking.wait(20)
            assert laptop.works()
    assert laptop.handshake() >= before
    assert laptop.daemon_pid() is not None
    assert laptop.starts() == 1


def test_window_of_an_ordinary_user(laptop: Protected, seat: Desktop) -> None:
    """With the right password the window opens and names its user; before sleep it is closed, and nothing leaves any
    more.
    """
    laptop.world.cafe.shut_udp(plan.GATEWAY_PORT)
    laptop.world.cafe.host.nft(f"add element inet cafe allowed {{ {plan.LAPTOP_MAC['wlan0']} }}")
    laptop.world.roam("cafe", ipv6=True)
    laptop.lab.wait_phase("connecting")
    without = seat.ctl("allow-temp", "60s")
    assert (without.returncode, laptop.lab.status()["temporary_access"]) == (1, None)

    seat.polkit.minds.agent = "right"
    with laptop.watch() as watch:
        opened = time.time()
        allowed = seat.ctl("allow-temp", "60s", "--reason", "portal")
        assert allowed.returncode == 0, allowed.stderr
        access = laptop.lab.status()["temporary_access"]
        watch.until("the open network", lambda: laptop.address_outside(4) == plan.CAFE.wan4)
        seat.login.sleep(start=True)
        wait_for("sleep to be let go", lambda: not seat.login.held(), deadline_s=10, poll_s=0.005)
        asleep = time.time()
        watch.everybody_tries()
        seat.login.sleep(start=False)
        watch.until("sleep to be held back", seat.login.held)

    assert (access["granted_to"], access["reason"], access["scope"]) == ("alice", "portal", "machine")
    assert watch.recording.clear(start=opened, end=asleep)
    watch.assert_silence(start=asleep + LATE_S)
    assert laptop.lab.status()["temporary_access"] is None
