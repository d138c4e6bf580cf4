# SPDX-License-Identifier: GPL-3.0-or-later
"""Real network managers: what they do to links, addresses, routes and rules opens nothing, and ours comes back."""

import pytest

from aovpnd import names
from tests.container.booted import Booted
from tests.container.phases import answered_by, window
from tests.container.test_asking import NETWORK_MANAGER
from tests.container.test_doctor import codes, examined
from tests.lab import plan
from tests.lab.frames import Kind
from tests.lab.process import wait_for

pytestmark = [pytest.mark.container, pytest.mark.root, pytest.mark.slow]

CHECK = (*NETWORK_MANAGER, "ConnectivityCheckEnabled")
OUR_RULE = f"lookup {names.ROUTE_TABLE}"


def rules(laptop: Booted) -> int:
    """How many of our routing rules there are, of both families."""
    return sum(laptop.system.check("ip", family, "rule").count(OUR_RULE) for family in ("-4", "-6"))


def moved(laptop: Booted, site: str) -> bool:
    """Whether the main table leads to a site's router."""
    router = str(plan.HOME.router4 if site == "home" else plan.CAFE.router4)
    return router in laptop.system.check("ip", "-4", "route", "show", "default")


# -- NetworkManager ----------------------------------------------------------------------------------------------------


def test_network_manager_roams(laptop: Booted) -> None:
    """Cable out, other network, home again, with NetworkManager's own DHCP: connected at home, shut in the café."""
    laptop.world.cafe.forget_logins()
    with laptop.net.nothing_leaves() as watch:
        laptop.roam("cafe")
        watch.until("the café's lease", lambda: moved(laptop, "cafe"), deadline_s=30)
        watch.until("the daemon to see it", lambda: laptop.status()["phase"] == "connecting")
        laptop.roam("home")
        watch.until("home's lease", lambda: moved(laptop, "home"), deadline_s=30)
        laptop.until_works(watch)

    assert watch.recording.counts()[Kind.DHCP4] >= 2


@pytest.mark.parametrize(
    "command",
    [
        ("systemctl", "restart", "NetworkManager.service"),
        ("nmcli", "connection", "up", "wlan0"),
        ("sh", "-ec", "nmcli networking off; nmcli networking on"),
    ],
    ids=["restart", "connection", "networking"],
)
def test_network_manager_is_told(laptop: Booted, command: tuple[str, ...]) -> None:
    """Whatever NetworkManager is told to do with the uplink, nothing leaves and the tunnel comes back."""
    with laptop.net.nothing_leaves() as watch:
        laptop.system.check(*command)
        laptop.until_works(watch)


def test_network_manager_leaves_the_tunnel_alone(laptop: Booted) -> None:
    """NetworkManager sees the tunnel's link and manages it not; told to disconnect it, it cannot open anything."""
    state = laptop.system.check("nmcli", "-g", "GENERAL.STATE", "device", "show", "aovpn0")
    assert "externally" in state or "unmanaged" in state
    with laptop.net.nothing_leaves() as watch:
        laptop.system.run("nmcli", "device", "disconnect", "aovpn0")
        laptop.until_works(watch)


def test_network_manager_reports_full(laptop: Booted) -> None:
    """Connected, NetworkManager takes the network for whole, since its check is off. Somebody who turns that on gets
    another answer, for it asks beside the tunnel, and the doctor says why.
    """
    system = laptop.system
    full = ("nmcli", "networking", "connectivity")
    laptop.wait_full()
    assert system.check(*full, "check").strip() == "full"
    try:
        system.check("busctl", "set-property", *CHECK, "b", "true")
        wait_for("another answer", lambda: system.check(*full, "check").strip() != "full")
        assert "neighbour-connectivity" in codes(examined(laptop), "info")
    finally:
        system.check("busctl", "set-property", *CHECK, "b", "false")
    laptop.wait_full()


def test_default_route_that_comes_later(laptop: Booted) -> None:
    """NetworkManager guesses once, as a link comes up, whether its network is whole, and never again by itself; it is
    asked to, so that a default route which comes a moment later leaves no desktop with a question mark.
    """
    system, link = laptop.system, "wlan0"
    never = ("ipv4.never-default", "ipv6.never-default")
    words = [word for setting in never for word in (setting, "yes")]
    laptop.wait_full()
    try:
        system.check("nmcli", "connection", "modify", link, *words)
        system.check("nmcli", "connection", "up", link)
        wait_for("no default route", lambda: laptop.connectivity() != "full")
    finally:
        system.check("nmcli", "connection", "modify", link, *(word.replace("yes", "no") for word in words))
        system.check("nmcli", "device", "reapply", link)
    laptop.wait_full()
    laptop.wait_works()


# -- systemd-networkd --------------------------------------------------------------------------------------------------


def test_networkd_gets_its_lease_and_the_tunnel_works(networkd: Booted) -> None:
    """From power-on, with systemd-networkd's own DHCP and router discovery: nothing leaves, and the tunnel works."""
    networkd.boot.assert_silence()
    counts = networkd.boot.recording.counts()

    assert min(counts[Kind.DHCP4], counts[Kind.NDP], counts[Kind.HANDSHAKE], counts[Kind.TUNNEL]) > 0, counts
    assert networkd.system.active("systemd-networkd.service")
    assert not networkd.system.active("NetworkManager.service")


def test_networkd_deletes_foreign_rules(networkd: Booted) -> None:
    """systemd-networkd removes what it takes for foreign rules and routes when it starts or reloads; ours are spared,
    or are back at once, and nothing leaves meanwhile.
    """
    with networkd.net.nothing_leaves() as watch:
        networkd.system.check("systemctl", "restart", "systemd-networkd.service")
        networkd.until_works(watch)
        assert rules(networkd) == 2
        networkd.system.check("networkctl", "reload")
        networkd.system.check("networkctl", "reconfigure", "wlan0")
        networkd.until_works(watch)
        assert rules(networkd) == 2


def test_networkd_roams(networkd: Booted) -> None:
    """The café and home again."""
    networkd.world.cafe.forget_logins()
    with networkd.net.nothing_leaves() as watch:
        networkd.roam("cafe")
        watch.until("the café's lease", lambda: moved(networkd, "cafe"), deadline_s=30)
        networkd.roam("home")
        watch.until("home's lease", lambda: moved(networkd, "home"), deadline_s=30)
        networkd.until_works(watch)


def test_networkd_is_killed(networkd: Booted) -> None:
    """SIGKILL to systemd-networkd: started again, it finds foreign rules, and again nothing leaves."""
    with networkd.net.nothing_leaves() as watch:
        networkd.system.kill("systemd-networkd.service")
        wait_for("systemd-networkd", lambda: networkd.system.active("systemd-networkd.service"))
        networkd.until_works(watch)

    assert rules(networkd) == 2


def test_networkd_in_temporary_access(networkd: Booted) -> None:
    """In a window it reloads and starts anew, which takes our rules away: the window stays what it is, and closes."""
    with window(networkd) as span:
        networkd.system.check("networkctl", "reload")
        networkd.system.check("systemctl", "restart", "systemd-networkd.service")
        span.watch.until("our rules", lambda: rules(networkd) == 2)
        if networkd.status()["temporary_access"] is not None:
            assert networkd.net.address_outside(4) == plan.HOME.wan4
            assert answered_by(networkd) == str(plan.HOME.router4)
