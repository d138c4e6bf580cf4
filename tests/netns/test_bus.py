# SPDX-License-Identifier: GPL-3.0-or-later
"""The real daemon and the real aovpnd-bus on the laptop, with a bus of its own and stand-ins for a desktop's services:
an ordinary user gives commands, and whatever dies on that side changes no packet.
"""

import random
import time
from collections.abc import Iterator
from typing import Final

import pytest

from tests.bus.desktop import Desktop, desktop
from tests.lab import plan
from tests.lab.laptop import BIN
from tests.lab.process import wait_for
from tests.netns.protected import Protected

pytestmark = pytest.mark.root

LATE_S: Final = 0.1
"""How much later than the word of sleep a window may close."""


@pytest.fixture(scope="module")
def laptop() -> Iterator[Protected]:
    """One world for this file."""
    with Protected.build(start=False) as built:
        yield built


@pytest.fixture(scope="module")
def seat(laptop: Protected) -> Iterator[Desktop]:
    """Its user's desktop."""
    with desktop(laptop.lab) as built:
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
    laptop.world.cafe.shut_udp(laptop.port)
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
