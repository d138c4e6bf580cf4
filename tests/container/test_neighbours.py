# SPDX-License-Identifier: GPL-3.0-or-later
"""The services beside ours: they are restarted, killed and told to do things, and not a packet leaves."""

import pytest

from aovpnd import names
from tests.container.booted import Booted

pytestmark = [pytest.mark.container, pytest.mark.root, pytest.mark.slow]

KILLED = (
    "dbus.service",
    "polkit.service",
    "systemd-logind.service",
    "systemd-resolved.service",
    "systemd-journald.service",
    "NetworkManager.service",
)
"""Without the bus Debian stops NetworkManager and polkit as well; each has to be started again by somebody."""


def test_neighbours_are_killed(laptop: Booted) -> None:
    """SIGKILL to each of the big services, one after the other: no packet leaves, the tunnel's session goes on, and
    nothing of ours dies with them.
    """
    system = laptop.system
    ours = {unit: system.main_pid(unit) for unit in (names.UNIT, names.GUARD_UNIT)}
    provoked = laptop.provoked()
    with laptop.net.nothing_leaves() as watch:
        for unit in KILLED:
            revive(laptop)
            system.kill(unit)
            watch.everybody_tries()
        revive(laptop)
        laptop.until_works(watch)

    assert {unit: system.main_pid(unit) for unit in ours} == ours
    assert laptop.provoked() == provoked


def revive(laptop: Booted) -> None:
    """Start all of them that do not run."""
    laptop.back_on_the_bus()
    laptop.system.check("systemctl", "reset-failed")
    laptop.system.check("systemctl", "start", *KILLED)
