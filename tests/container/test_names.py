# SPDX-License-Identifier: GPL-3.0-or-later
"""Names, by the real systemd-resolved and without it: asked through the tunnel alone, whatever happens to it."""

import pytest

from tests.container.booted import Booted
from tests.lab import plan
from tests.lab.process import wait_for

pytestmark = [pytest.mark.container, pytest.mark.root, pytest.mark.slow]

ADDRESSES = {str(plan.WEB4), str(plan.WEB6)}


def found(laptop: Booted) -> bool:
    """Whether an ordinary program finds a name's address, asked anew."""
    laptop.system.run("resolvectl", "flush-caches")
    words = laptop.system.run("getent", "-s", "dns", "ahosts", plan.WEB_NAME).stdout.split()
    return bool(ADDRESSES & set(words))


def asks_by_the_tunnel(laptop: Booted) -> bool:
    """Whether systemd-resolved sends all names to the tunnel's servers, and the answer arrives."""
    domains = laptop.system.run("resolvectl", "domain", "aovpn0").stdout
    servers = laptop.system.run("resolvectl", "dns", "aovpn0").stdout
    return "~." in domains and str(plan.GATEWAY_INSIDE4) in servers and found(laptop)


def test_names_go_through_the_tunnel(laptop: Booted) -> None:
    """Connected, every name is asked of the tunnel's servers, by programs and by resolved itself."""
    with laptop.net.nothing_leaves():
        wait_for("names by the tunnel", lambda: asks_by_the_tunnel(laptop))
        assert str(plan.WEB4) in laptop.system.check("resolvectl", "query", "-4", plan.WEB_NAME)


@pytest.mark.parametrize(
    "command",
    [
        ("systemctl", "restart", "systemd-resolved.service"),
        ("systemctl", "kill", "--signal=KILL", "systemd-resolved.service"),
        ("systemctl", "restart", "NetworkManager.service"),
        ("resolvectl", "revert", "aovpn0"),
    ],
    ids=["restart", "kill", "network-manager", "revert"],
)
def test_resolved_forgets(laptop: Booted, command: tuple[str, ...]) -> None:
    """A resolved that was restarted, killed or told otherwise is told again; meanwhile it asks nobody outside."""
    with laptop.net.nothing_leaves() as watch:
        laptop.system.check(*command)
        watch.until("names by the tunnel", lambda: asks_by_the_tunnel(laptop), deadline_s=30)
        laptop.until_works(watch)


def test_without_resolved(laptop: Booted) -> None:
    """On a system without systemd-resolved NetworkManager writes /etc/resolv.conf, and it leads to the tunnel's servers
    all the same; with resolved again, all is as before.
    """
    system = laptop.system
    link = system.check("readlink", "/etc/resolv.conf").strip()
    unit, manager = "systemd-resolved.service", "NetworkManager.service"
    with laptop.net.nothing_leaves() as watch:
        system.shell(f"systemctl mask --runtime {unit}; systemctl stop {unit}")
        system.shell(f"rm /etc/resolv.conf; systemctl restart {manager}")
        try:
            watch.until("names by the tunnel", lambda: found(laptop), deadline_s=30)
            assert str(plan.GATEWAY_INSIDE4) in system.check("cat", "/etc/resolv.conf")
        finally:
            system.shell(f"systemctl unmask --runtime {unit}; systemctl start {unit}")
            system.shell(f"ln -sf {link} /etc/resolv.conf; systemctl restart {manager}")
        watch.until("names by the tunnel", lambda: asks_by_the_tunnel(laptop), deadline_s=30)
