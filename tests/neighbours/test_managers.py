# SPDX-License-Identifier: GPL-3.0-or-later
"""ifupdown and dhcpcd as network managers, in every phase; and who writes resolv.conf(5) beside them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pytest

from tests.container.booted import Booted, Manager
from tests.container.phases import (
    blocked,
    by_the_lease,
    by_the_tunnel,
    names_fail_at_once,
    window,
)
from tests.container.test_doctor import codes, examined, wrong
from tests.lab import plan
from tests.lab.container import SUITES
from tests.lab.frames import Kind
from tests.lab.process import wait_for
from tests.neighbours.roots import Root, root

pytestmark = [pytest.mark.container, pytest.mark.root, pytest.mark.slow]


@dataclass(frozen=True, slots=True)
class Kit:
    """A laptop: who manages its network, and by what its names are known to be led."""

    root: Root
    manager: Manager
    dns: str
    """What the daemon says that it tells of the tunnel's servers."""
    client: str
    """The DHCP client's program."""
    met: frozenset[str]
    """By whom the doctor says that it is managed: ends of the findings' codes."""


KITS: Final = {
    "ifupdown-dhclient-resolvconf": Kit(
        Root.RESOLVCONF, Manager.IFUPDOWN, "resolvconf", "dhclient", frozenset({"ifupdown", "dhclient", "resolvconf"})
    ),
    "dhcpcd-openresolv": Kit(
        Root.OPENRESOLV, Manager.DHCPCD, "resolvconf", "dhcpcd", frozenset({"dhcpcd", "resolvconf"})
    ),
    "ifupdown-dhcpcd": Kit(Root.PLAIN, Manager.IFUPDOWN, "resolv.conf", "dhcpcd", frozenset({"ifupdown", "dhcpcd"})),
}


@pytest.fixture(scope="module", params=KITS)
def kit(request: pytest.FixtureRequest) -> Kit:
    """The kind of laptop."""
    return KITS[request.param]


@pytest.fixture(scope="module", params=SUITES)
def laptop(request: pytest.FixtureRequest, kit: Kit) -> Iterator[Booted]:
    """Such a laptop, at home."""
    suite = str(request.param)
    with Booted.power_on(suite, kit.manager, root=root(kit.root, suite)) as booted:
        yield booted


def leads_to(laptop: Booted, site: plan.Site) -> bool:
    """Whether the main table leads to a site's router."""
    return str(site.router4) in laptop.system.check("ip", "-4", "route", "show", "default")


def client(laptop: Booted, kit: Kit) -> list[int]:
    """The DHCP clients."""
    return [int(word) for word in laptop.system.run("pidof", kit.client).stdout.split()]


def restart(laptop: Booted) -> None:
    """The manager is restarted; what Debian's unit does then to links and leases is part of it."""
    laptop.system.check("systemctl", "restart", f"{laptop.manager}.service", timeout_s=120)


def test_from_power_on(laptop: Booted, kit: Kit) -> None:
    """Its own leases, from power-on: nothing leaves, the tunnel works, and programs are led to the tunnel's servers."""
    laptop.boot.assert_silence()
    counts = laptop.boot.recording.counts()

    assert min(counts[Kind.DHCP4], counts[Kind.ARP], counts[Kind.HANDSHAKE], counts[Kind.TUNNEL]) > 0, counts
    assert client(laptop, kit)
    wait_for("names by the tunnel", lambda: by_the_tunnel(laptop))
    assert laptop.status()["dns"]["by"] == [kit.dns]
    assert laptop.status()["problems"] == []


def test_blocked(laptop: Booted) -> None:
    """Without a tunnel it restarts, loses its network and gets another's lease, and names fail at once."""
    with blocked(laptop) as watch:
        names_fail_at_once(laptop)
        restart(laptop)
        watch.until("a lease", lambda: leads_to(laptop, plan.HOME), deadline_s=60)
        laptop.roam("cafe")
        watch.until("the café's lease", lambda: leads_to(laptop, plan.CAFE), deadline_s=60)
        laptop.roam("home")
        watch.until("home's lease", lambda: leads_to(laptop, plan.HOME), deadline_s=60)
        names_fail_at_once(laptop)


def test_connected(laptop: Booted) -> None:
    """It restarts, and roams; nothing leaves, the tunnel is back each time, and programs ask its servers."""
    laptop.world.cafe.forget_logins()
    with laptop.net.nothing_leaves() as watch:
        restart(laptop)
        laptop.wait_works(deadline_s=60)
        watch.until("names by the tunnel", lambda: by_the_tunnel(laptop))
        laptop.roam("cafe")
        watch.until("the café's lease", lambda: leads_to(laptop, plan.CAFE), deadline_s=60)
        laptop.roam("home")
        watch.until("home's lease", lambda: leads_to(laptop, plan.HOME), deadline_s=60)
        laptop.wait_works(deadline_s=60)
        watch.until("names by the tunnel", lambda: by_the_tunnel(laptop))


def test_client_is_killed(laptop: Booted, kit: Kit) -> None:
    """SIGKILL to the DHCP client: the tunnel goes on, and a new client's lease leads nothing astray."""
    with laptop.net.nothing_leaves() as watch:
        laptop.system.run("kill", "-9", *map(str, client(laptop, kit)))  # some end with their parent
        watch.everybody_tries()
        assert laptop.works()
        restart(laptop)
        laptop.wait_works(deadline_s=60)
        watch.until("names by the tunnel", lambda: by_the_tunnel(laptop))


def test_temporary_access(laptop: Booted) -> None:
    """The lease's resolver is asked in a window and no other; a network that is left ends it."""
    with window(laptop):
        assert by_the_lease(laptop)
        assert laptop.net.address_outside(4) == plan.HOME.wan4
    wait_for("names by the tunnel", lambda: by_the_tunnel(laptop))
    with window(laptop):
        laptop.roam("cafe")
        wait_for("the window to be over", lambda: laptop.status()["temporary_access"] is None)
        laptop.roam("home")
        wait_for("home's lease", lambda: leads_to(laptop, plan.HOME), deadline_s=60)
    wait_for("names by the tunnel", lambda: by_the_tunnel(laptop))


def test_doctor(laptop: Booted, kit: Kit) -> None:
    """It meets exactly these, and finds nothing to do."""
    found = examined(laptop)
    assert wrong(laptop, found) == set(), found
    met = {code.removeprefix("neighbour-") for code in codes(found, "info") if code.startswith("neighbour-")}
    assert met == kit.met
