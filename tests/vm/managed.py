# SPDX-License-Identifier: GPL-3.0-or-later
"""A booted laptop whose network manager is NetworkManager, with the product on it: for networks that take more than a
cable.

It begins unblocked, so that what its chatty programs send can be seen outside first; its Python files are compiled
then, as a package does, since a daemon of a translated machine takes half a minute longer without.
"""

import json
import time
from typing import Any, Final

import pytest

from aovpnd import names
from tests.lab.network_manager import PROFILES
from tests.lab.process import LabError, wait_for
from tests.lab.product import installed
from tests.lab.record import now
from tests.lab.tree import Symlink, Tree, text
from tests.lab.world import World
from tests.vm.laptop import BootedLaptop

TUNNEL: Final = "/etc/aovpnd/tunnels/home.conf"
STATUS: Final = f"{names.RUNTIME_DIR}/{names.STATUS_FILE}"
PACKAGES: Final = "/usr/lib/python3/dist-packages"
_UNITS: Final = "/etc/systemd/system"
_MANAGER: Final = """[main]
no-auto-default=*
plugins=keyfile
[keyfile]
unmanaged-devices=interface-name:hwsim*{unmanaged}
"""
"""NetworkManager takes up what a test has written a profile for, and nothing else."""


def files(world: World, *, unmanaged: tuple[str, ...] = ()) -> Tree:
    """What lies over the system; ``unmanaged`` are hardware addresses of cards that are not the laptop's."""
    named = "".join(f";mac:{mac}" for mac in unmanaged)
    return installed(("aovpnd-lockdown.service", "aovpnd-bus.service")) | {
        TUNNEL: text(world.laptop.tunnel_conf, 0o600),
        "/etc/aovpnd/unblocked": text(""),
        "/etc/NetworkManager/conf.d/lab.conf": text(_MANAGER.format(unmanaged=named)),
        f"{_UNITS}/aovpnd.service.d/slow.conf": text("[Service]\nWatchdogSec=300\nTimeoutStartSec=300\n"),
        f"{_UNITS}/systemd-networkd.service": Symlink("/dev/null"),
        f"{_UNITS}/systemd-networkd.socket": Symlink("/dev/null"),
    }


def start(laptop: BootedLaptop) -> None:
    """Wait for the end of the boot and start the daemon, which says that the machine is not blocked."""
    machine = laptop.machine
    machine.wait("the end of the boot", "systemctl", "is-active", "-q", "multi-user.target", seconds=360)
    machine.check("python3", "-m", "compileall", "-q", f"{PACKAGES}/aovpnd")
    machine.check("systemctl", "start", "aovpnd.service", seconds=360)
    wait_phase(laptop, "unblocked")


def status(laptop: BootedLaptop) -> dict[str, Any]:
    """What the daemon says of itself: the published file, since in a translated machine aovpnctl takes a second."""
    answer: dict[str, Any] = json.loads(laptop.machine.check("cat", STATUS))
    return answer


def wait_phase(laptop: BootedLaptop, *phases: str, seconds: float = 240) -> None:
    """Wait until the daemon is in one of these; the test fails with its journal when it is not in time."""
    try:
        wait_for("the daemon", lambda: status(laptop)["phase"] in phases, deadline_s=seconds, poll_s=0.5)
    except LabError:
        journal = laptop.machine.check("journalctl", "-b", "--no-pager", "-n", "120")
        pytest.fail(f"not {phases}: {status(laptop)}\n{journal}")


def block(laptop: BootedLaptop) -> float:
    """Put the block on; returns since when, in Unix time."""
    laptop.machine.check("aovpnctl", "block")
    wait_phase(laptop, "blocked", "offline", "connecting", "connected")
    return now()


def unblock(laptop: BootedLaptop) -> None:
    """Take the block off."""
    laptop.machine.wait("the block to go", "aovpnctl", "unblock")  # busy, the service manager may be too slow for once
    wait_phase(laptop, "unblocked")


def install(laptop: BootedLaptop, name: str, content: str) -> None:
    """Give NetworkManager a profile, or another one of that name."""
    laptop.put(f"{PROFILES}/{name}.nmconnection", content)  # root's alone, or NetworkManager ignores it
    laptop.machine.check("nmcli", "connection", "reload")


def up(laptop: BootedLaptop, name: str, *, seconds: float = 420) -> None:
    """Have NetworkManager connect by a profile. On a busy machine its helpers time out, and it is asked once more."""
    deadline = time.monotonic() + seconds
    while True:
        result = laptop.machine.run("nmcli", "--wait", "120", "connection", "up", name)
        if result.code == 0:
            return
        if time.monotonic() > deadline:
            journal = laptop.machine.check("journalctl", "-b", "--no-pager", "-n", "150")
            pytest.fail(f"{name}: {result.out}{result.err}\n{journal}")


def down(laptop: BootedLaptop, *profiles: str) -> None:
    """Have NetworkManager leave what it connected by these profiles, and forget them."""
    for name in profiles:
        laptop.machine.run("nmcli", "connection", "delete", name)
