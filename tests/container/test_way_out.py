# SPDX-License-Identifier: GPL-3.0-or-later
"""``aovpnd-rescue``: root's way back to the network when everything of ours is broken, Python included."""

from collections.abc import Iterator

import pytest

from aovpnd import names
from tests.container.booted import Booted
from tests.lab import plan
from tests.lab.container import ALICE
from tests.lab.process import wait_for

pytestmark = [pytest.mark.container, pytest.mark.root, pytest.mark.slow]

PYTHON = "$(readlink -f /usr/bin/python3)"


@pytest.fixture
def broken(laptop: Booted) -> Iterator[Booted]:
    """A laptop, connected, on which nobody can start Python; mended and blocked again at the end."""
    laptop.system.shell(f"chmod 0 {PYTHON}")
    yield laptop
    laptop.system.shell(f"chmod 755 {PYTHON}")
    laptop.system.check("systemctl", "start", names.UNIT)
    laptop.system.check("aovpnctl", "block")
    laptop.wait_works()


def in_clear(laptop: Booted) -> bool:
    """Whether the laptop reaches the internet past the tunnel."""
    return laptop.net.address_outside(4) not in {"", str(plan.GATEWAY4)}


def ours(laptop: Booted) -> str:
    """What is left of our tables and rules."""
    listed = laptop.system.shell("nft list tables; ip -4 rule; ip -6 rule")
    return "\n".join(line for line in listed.splitlines() if "aovpnd" in line or str(names.ROUTE_TABLE) in line)


def test_way_out_without_python(broken: Booted) -> None:
    """One command opens the network, says so here and in the journal, and it stays so; until then nothing leaves."""
    system = broken.system
    with broken.net.nothing_leaves():
        assert system.run("aovpnctl", "unblock", "--offline").returncode != 0
        refused = system.run("setpriv", f"--reuid={ALICE.uid}", "--clear-groups", "aovpnd-rescue")
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "only root may do this" in refused.stderr
        assert system.run("aovpnd-rescue", "--all").returncode == 2
    said = system.check("aovpnd-rescue")

    assert "table inet aovpnd: removed" in said
    assert "aovpnctl block" in said
    assert ours(broken) == ""
    wait_for("the network in clear", lambda: in_clear(broken), deadline_s=10)
    journal = system.check("journalctl", "--boot", "--no-pager", "--output=cat", "--identifier=aovpnd-rescue")
    assert "The block is off for good" in journal
    # As at the next boot: the daemon has not taken the mark away while it stopped.
    system.run("systemctl", "restart", "aovpnd-lockdown.service")
    assert ours(broken) == ""
    assert "The block is off for good" in system.check("aovpnd-rescue")
