# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's laptop with a bus, stand-ins for the desktop's services, and the real aovpnd-bus beside the real daemon."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from tests.bus.private_bus import PrivateBus
from tests.bus.services import Login, Loop, NetworkManager, Polkit
from tests.lab import plan
from tests.lab.laptop import BIN, Laptop
from tests.lab.process import stop, wait_for

BUS_UID: Final = 64010
ACCOUNTS: Final = f"alice:x:{plan.USER}:{plan.USER}::/:/bin/sh\naovpnd-bus:x:{BUS_UID}:{BUS_UID}::/:/bin/false\n"


@dataclass
class Desktop:
    """The laptop with a bus, its services, and aovpnd-bus, which is restarted as its unit would."""

    laptop: Laptop
    bus: PrivateBus
    loop: Loop
    polkit: Polkit
    login: Login
    manager: NetworkManager

    def ctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run aovpnctl as the laptop's user."""
        address = f"DBUS_SYSTEM_BUS_ADDRESS={self.bus.address}"
        return self.laptop.host.run("env", address, str(BIN / "aovpnctl"), *words, check=False, uid=plan.USER)

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
def desktop(laptop: Laptop) -> Iterator[Desktop]:
    """All of it, for as long as the block lasts. The daemon must not run yet: it looks for its user once."""
    host = laptop.host
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
    laptop.start_daemon()
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
