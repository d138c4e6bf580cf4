# SPDX-License-Identifier: GPL-3.0-or-later
"""A laptop becomes the next Debian, connected, while everybody sends: ``apt full-upgrade`` of the whole system."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from tests.container.booted import Booted, Manager, cards_before_a_boot, furniture
from tests.container.test_package import APT
from tests.lab import release
from tests.lab.container import Container
from tests.lab.tree import Tree, copied, text
from tests.netns.protected import Protected
from tools.deb import build

pytestmark = [
    pytest.mark.container,
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif("AOVPND_RELEASE" not in os.environ, reason="takes minutes: make test-release"),
]

_KEEP: Final = ("-o", "DPkg::Options::=--force-confold", "-o", "APT::Get::AutomaticRemove=false")
_LONG_S: Final = 1500.0


@pytest.fixture
def old(nspawn: None, tmp_path: Path) -> Iterator[tuple[Booted, Tree]]:
    """A laptop of Debian 12 with the real package, connected; the packages of Debian 13 lie where apt looks."""
    assert nspawn is None
    with ExitStack() as stack:
        net = stack.enter_context(Protected.build(tunnel=False, start=False))
        cards_before_a_boot(net.world)
        for link in net.world.links:
            net.lab.udev_rule(link)
        files = {
            **furniture(Manager.NETWORK_MANAGER),
            **release.files(),
            "/root/aovpnd.deb": copied(build(tmp_path)),
            "/root/home.conf": text(net.lab.tunnel_conf, 0o600),
        }
        net.world.attach("wlan0", "home")
        with net.watch() as watch:
            system = stack.enter_context(Container.boot(net.lab.host, release.OLD, files))
            system.wait_booted()
            system.check(*APT, "install", "/root/aovpnd.deb", timeout_s=_LONG_S)
        laptop = Booted(net, system, watch, Manager.NETWORK_MANAGER, ExitStack())
        system.check("aovpnctl", "import", "/root/home.conf")
        laptop.wait_works()
        yield laptop, files


def test_the_next_debian(old: tuple[Booted, Tree]) -> None:
    """Nothing leaves from the first package to the last, nor at the next boot; both times the tunnel works."""
    laptop, files = old
    system, net = laptop.system, laptop.net
    release.provide(system)
    with net.nothing_leaves() as watch:
        done = system.run(*APT, "--no-download", *_KEEP, "full-upgrade", timeout_s=_LONG_S)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        assert f"VERSION_CODENAME={release.NEW}" in system.check("cat", "/etc/os-release")
        laptop.until_works(watch)
    assert system.run("dpkg", "--audit").stdout == ""

    with net.nothing_leaves() as watch:
        system.power_off()
        system.close()
        cards_before_a_boot(net.world)
        with Container.boot(net.lab.host, release.OLD, files, disk=system.disk) as again:
            again.wait_booted()
            booted = Booted(net, again, watch, Manager.NETWORK_MANAGER, ExitStack())
            booted.until_works(watch)
            assert "3.13" in again.check("/usr/bin/python3", "--version")
