# SPDX-License-Identifier: GPL-3.0-or-later
"""The boot of a whole Debian: closed from the first process on, and open for the tunnel alone."""

import pytest

from tests.container.booted import OURS, Booted
from tests.lab.frames import Kind

pytestmark = [pytest.mark.container, pytest.mark.root, pytest.mark.slow]


def test_nothing_leaves_while_it_boots(laptop: Booted) -> None:
    """From before the first process to a working tunnel only link set-up and tunnel leave, whoever sends."""
    laptop.boot.assert_silence()

    counts = laptop.boot.recording.counts()
    assert min(counts[Kind.DHCP4], counts[Kind.ARP], counts[Kind.HANDSHAKE], counts[Kind.TUNNEL]) > 0, counts


def test_the_block_is_there_before_the_network(laptop: Booted) -> None:
    """lockdown.nft is loaded before the network manager starts; the guard and the daemon follow by themselves."""
    system = laptop.system
    units = ("aovpnd-lockdown.service", "NetworkManager.service", "aovpnd-guard.service", "aovpnd.service")
    started = [int(system.show(unit, "ActiveEnterTimestampMonotonic").popitem()[1]) for unit in units]

    assert 0 < started[0] < started[1], dict(zip(units, started, strict=True))
    assert 0 < started[2] < started[3], dict(zip(units, started, strict=True))


def test_the_system_is_well(laptop: Booted) -> None:
    """No unit has failed, none of ours has complained, and systemd finds nothing wrong with what is installed."""
    system = laptop.system
    complaints = system.journal(OURS, options=("--output=cat", "--priority=warning"))

    assert system.check("systemctl", "is-system-running").strip() == "running"
    assert complaints == ""
    assert laptop.status()["problems"] == []
