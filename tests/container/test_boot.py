# SPDX-License-Identifier: GPL-3.0-or-later
"""The boot of a whole Debian: closed from the first process on, and open for the tunnel alone."""

import pytest

from tests.container.booted import Booted
from tests.lab.frames import Kind

pytestmark = [pytest.mark.container, pytest.mark.root, pytest.mark.slow]


def test_nothing_leaves_while_it_boots(laptop: Booted) -> None:
    """From before the first process to a working tunnel only link set-up and tunnel leave, whoever sends."""
    laptop.boot.assert_silence()

    counts = laptop.boot.recording.counts()
    assert min(counts[Kind.DHCP4], counts[Kind.ARP], counts[Kind.HANDSHAKE], counts[Kind.TUNNEL]) > 0, counts


def test_the_block_is_there_before_the_network(laptop: Booted) -> None:
    """lockdown.nft is loaded before the network manager starts, and the guard holds its tables, whom a firewall's
    ``flush ruleset`` does not reach; the daemon follows.
    """
    lockdown, flush, guard, manager, daemon = laptop.started.values()

    assert 0 < lockdown < flush < manager, laptop.started
    assert 0 < guard < manager, laptop.started
    assert lockdown < daemon, laptop.started


def test_the_system_is_well(laptop: Booted) -> None:
    """None of our units has complained while it booted, and no unit has failed."""
    laptop.system.check("systemctl", "reset-failed")  # what other tests have killed
    assert laptop.system.check("systemctl", "is-system-running").strip() == "running"
    assert laptop.complaints == ""
    assert laptop.status()["problems"] == []
