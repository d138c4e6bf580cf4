# SPDX-License-Identifier: GPL-3.0-or-later
"""logind's way to sleep, without the sleep: the window is closed before the machine would be."""

import json
from collections.abc import Iterator

import pytest

from aovpnd import names
from tests.container.booted import Booted
from tests.lab import plan
from tests.lab.process import wait_for
from tests.netns.protected import UNROUTED

pytestmark = [pytest.mark.container, pytest.mark.root, pytest.mark.slow]

ASLEEP = "/run/asleep"
_UNIT = "/run/systemd/system/systemd-suspend.service.d/lab.conf"
_LOOK = f"""[Service]
ExecStart=
ExecStart=/bin/sh -c "nft list set inet {names.TABLE} {names.GRANT_SET} >{ASLEEP}.nft; \\
  aovpnctl status --json >{ASLEEP}.new; mv {ASLEEP}.new {ASLEEP}"
"""
"""In place of the sleep: what the kernel and the daemon say at that moment."""
_POWER = "mkdir -p /sys/power; echo freeze mem >/sys/power/state; echo '[s2idle]' >/sys/power/mem_sleep"
"""A container may not suspend; logind looks here whether it may. nspawn's /sys is a tmpfs with chosen directories."""


def asks_for_time(laptop: Booted) -> bool:
    """Whether logind will wait for aovpnd-bus before it lets the machine sleep."""
    return "aovpnd" in laptop.system.check("systemd-inhibit", "--list", "--no-pager", "--mode=delay")


@pytest.fixture
def sleepy(laptop: Booted) -> Iterator[Booted]:
    """A laptop whose logind believes that it can suspend."""
    laptop.system.write(_UNIT, _LOOK)
    laptop.system.shell(f"mount -o remount,rw /sys; {_POWER}; systemctl daemon-reload")
    laptop.system.check("systemctl", "restart", "systemd-logind.service")  # it has its own view of /sys
    wait_for("aovpnd-bus to ask the new logind for time", lambda: asks_for_time(laptop))
    yield laptop
    laptop.system.shell(f"rm {_UNIT}; rm -r /sys/power; mount -o remount,ro /sys; systemctl daemon-reload")


def test_the_window_is_closed_before_sleep(sleepy: Booted) -> None:
    """Temporary access is open; logind announces the sleep, waits for us, and only then sleeps: closed by then."""
    system = sleepy.system
    system.check("aovpnctl", "disconnect")
    try:
        system.check("aovpnctl", "allow-temp", "10min")
        assert sleepy.net.address_outside(4) == plan.HOME.wan4
        system.check("systemctl", "suspend")
        wait_for("the sleep", system.path(ASLEEP).exists)
        at_sleep = json.loads(system.path(ASLEEP).read_text(encoding="utf-8"))
        kernel = system.path(f"{ASLEEP}.nft").read_text(encoding="utf-8")
        with sleepy.net.nothing_leaves(UNROUTED):
            assert sleepy.status()["phase"] == "blocked"
    finally:
        system.check("aovpnctl", "connect", "home")
        sleepy.wait_works()

    assert (at_sleep["phase"], at_sleep["temporary_access"]) == ("blocked", None)
    assert "elements" not in kernel
