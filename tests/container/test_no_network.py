# SPDX-License-Identifier: GPL-3.0-or-later
"""A boot whose block cannot be loaded: no network manager starts, and there are two ways on."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

import pytest

from tests.container.booted import ENABLED, TUNNEL, Booted, Manager, cards_before_a_boot, furniture
from tests.lab import plan
from tests.lab.container import Container
from tests.lab.process import wait_for
from tests.lab.product import installed
from tests.lab.sender_kinds import SenderKind
from tests.lab.tree import Entry, text
from tests.netns.protected import JUDGED, UNROUTED, Protected

pytestmark = [pytest.mark.container, pytest.mark.root, pytest.mark.slow]

MANAGER: Final = f"{Manager.NETWORK_MANAGER}.service"


@pytest.fixture
def damaged(nspawn: None, suite: str) -> Iterator[Booted]:
    """A laptop on whose disk early boot's ruleset is damaged, at the end of its boot."""
    assert nspawn is None
    with booted(suite, {"/usr/lib/aovpnd/lockdown.nft": text("table inet aovpnd {\n")}) as laptop:
        yield laptop


@contextmanager
def booted(suite: str, damage: dict[str, Entry], kinds: tuple[SenderKind, ...] = JUDGED) -> Iterator[Booted]:
    """A laptop that boots with these files; nothing of these senders leaves until it has."""
    with ExitStack() as stack:
        net = stack.enter_context(Protected.build(tunnel=False, start=False))
        cards_before_a_boot(net.world)
        files = {
            **installed(ENABLED),
            **furniture(Manager.NETWORK_MANAGER),
            TUNNEL: text(net.lab.tunnel_conf, 0o600),
            **damage,
        }
        with net.nothing_leaves(kinds) as watch:
            net.world.attach("wlan0", "home")
            system = stack.enter_context(Container.boot(net.lab.host, suite, files))
            system.wait_booted()
            watch.everybody_tries()
        yield Booted(net, system, watch, Manager.NETWORK_MANAGER, ExitStack())


def test_no_network_without_the_block(damaged: Booted) -> None:
    """No network manager runs, and it is said why (on the console: tests/vm). The daemon has put the block up itself,
    though: told so, its user starts one, and is connected. Where no daemon runs none starts, whatever is tried, until
    somebody wants no protection and says so.
    """
    system, net = damaged.system, damaged.net
    assert not system.active(MANAGER)
    assert "THE BLOCK COULD NOT BE LOADED" in system.journal("aovpnd-no-network.service")
    assert "aovpnd-blocked.service has failed" in system.run("aovpnctl", "doctor").stdout

    with net.nothing_leaves() as watch:
        system.check("systemctl", "start", MANAGER)
        damaged.until_works(watch)
        system.check("systemctl", "stop", MANAGER, "aovpnd.service")
        system.shell("rm /run/aovpnd/lock")  # as in a boot whose daemon never ran
        assert system.run("systemctl", "start", MANAGER).returncode != 0
        watch.everybody_tries()

    assert "NetworkManager: started" in system.check("aovpnd-rescue")
    wait_for("the network in clear", lambda: net.address_outside(4) not in {"", str(plan.GATEWAY4)}, deadline_s=30)


def test_users_that_are_missing(nspawn: None, suite: str) -> None:
    """The block is loaded as a user of ours; where that one is missing, it is told all the same."""
    assert nspawn is None
    # Without a guard there is no daemon, and no route with which a connection could begin.
    with booted(suite, {"/usr/lib/sysusers.d/aovpnd.conf": text("")}, UNROUTED) as laptop:
        assert not laptop.system.active(MANAGER)
        assert "THE BLOCK COULD NOT BE LOADED" in laptop.system.journal("aovpnd-no-network.service")
