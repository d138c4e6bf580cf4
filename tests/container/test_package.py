# SPDX-License-Identifier: GPL-3.0-or-later
"""The real package on a whole Debian, by its own apt and dpkg: from its installation to its purge."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

from aovpnd import names
from tests.container.booted import BUS_UNIT, Booted, Manager, cards_before_a_boot, furniture
from tests.lab import plan
from tests.lab.container import Container
from tests.lab.process import wait_for
from tests.lab.tree import copied, text
from tests.netns.protected import JUDGED, Protected, Watch, names_of
from tools.deb import build

pytestmark = [pytest.mark.container, pytest.mark.root, pytest.mark.slow]

OLD, NEW = "0.0.1-1", "9.9.9-1"
LOCKDOWN: Final = "aovpnd-lockdown.service"
APT: Final = (
    *("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--yes", "--no-install-recommends"),
    *("-o", "DPkg::Options::=--path-include=/usr/share/*"),  # the lab's root directories leave documents out
)


@pytest.fixture
def bare(nspawn: None, suite: str, tmp_path: Path) -> Iterator[tuple[Protected, Container]]:
    """A laptop at home that has everything but the product; two versions of its package lie in /root."""
    assert nspawn is None
    packages = {f"/root/{version}.deb": copied(build(tmp_path, version)) for version in (OLD, NEW)}
    with ExitStack() as stack:
        net = stack.enter_context(Protected.build(tunnel=False, start=False))
        cards_before_a_boot(net.world)
        conf = text(net.lab.tunnel_conf, 0o600)
        files = {**furniture(Manager.NETWORK_MANAGER), **packages, "/root/home.conf": conf}
        net.world.attach("wlan0", "home")
        system = stack.enter_context(Container.boot(net.lab.host, suite, files))
        system.wait_booted()
        wait_for("the network", lambda: reaches_the_internet(net), deadline_s=30)
        yield net, system


def apt(system: Container, *words: str, status: int = 0) -> str:
    """Run apt, which must end with a status; what it and dpkg said."""
    done = system.run(*APT, *words)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@contextmanager
def broken(system: Container, program: str) -> Iterator[None]:
    """A program that the scripts need fails meanwhile."""
    system.shell(f"mv {program} {program}.kept; ln -s false {program}")
    try:
        yield
    finally:
        system.shell(f"mv {program}.kept {program}")


def reaches_the_internet(net: Protected) -> bool:
    """Whether both families do, without a tunnel."""
    seen = {net.address_outside(family) for family in (4, 6)}
    return not seen & {"", str(plan.GATEWAY4), str(plan.GATEWAY6)}


def everybody_leaves(net: Protected) -> Watch:
    """Nothing is blocked: the far side sees every sender."""
    with net.watch() as watch:
        watch.everybody_tries()
    assert names_of(JUDGED) - watch.seen() == set()
    return watch


def test_from_installation_to_purge(bare: tuple[Protected, Container]) -> None:
    """Installed, it blocks nothing; the first import connects; an upgrade that fails halfway at first costs not even a
    handshake; removed, the machine stays blocked and says what to do; purged, it is as it was before.
    """
    net, system = bare

    # installed
    assert "nothing is blocked yet" in apt(system, "install", f"/root/{OLD}.deb")
    before = everybody_leaves(net)
    assert system.run("systemctl", "is-enabled", names.UNIT, BUS_UNIT, LOCKDOWN).stdout.split() == ["enabled"] * 3
    assert [system.active(unit) for unit in (names.UNIT, names.GUARD_UNIT, BUS_UNIT)] == [False, False, True]
    assert system.run("dpkg", "--verify", "aovpnd").stdout == ""
    assert "there is no tunnel yet, and nothing is protected" in system.run("aovpnctl", "status").stdout
    laptop = Booted(net, system, before, Manager.NETWORK_MANAGER, ExitStack())

    # the first tunnel
    assert "nothing leaves outside the tunnel any more" in system.check("aovpnctl", "import", "/root/home.conf")
    laptop.wait_works()

    # upgraded
    provoked, pids = laptop.provoked(), [system.main_pid(unit) for unit in (names.UNIT, names.GUARD_UNIT, BUS_UNIT)]
    with net.nothing_leaves() as watch:
        with broken(system, "/usr/bin/py3compile"):
            assert "error processing package aovpnd" in apt(system, "install", f"/root/{NEW}.deb", status=100)
            laptop.until_works(watch)
        system.check("dpkg", "--configure", "--pending")
        laptop.until_works(watch)
    assert system.check("dpkg-query", "--show", "--showformat=${Version}", "aovpnd") == NEW
    assert laptop.provoked() == provoked, "the session goes on"
    after = [system.main_pid(unit) for unit in (names.UNIT, names.GUARD_UNIT, BUS_UNIT)]
    assert 0 not in after
    assert not set(pids) & set(after), "each runs as the new version"

    # removed
    with net.nothing_leaves() as watch:
        said = apt(system, "remove", "aovpnd")
        watch.everybody_tries()
        assert "THIS MACHINE STAYS BLOCKED" in said
        assert "sudo apt purge aovpnd" in said
        assert "sudo /etc/aovpnd/removed/aovpnd-rescue" in said
        assert system.path("/etc/aovpnd/removed/aovpnd-rescue").stat().st_mode & 0o777 == 0o755
        assert not system.path("/usr/lib/aovpnd").exists()
        assert not system.path("/etc/systemd/system/aovpnd-rollback.service").exists(), "nor is a version on trial"
        assert system.path("/etc/aovpnd/tunnels/home.conf").exists()
        # As at the next boot: what was kept loads the block, also where there is none.
        system.shell("nft delete table inet aovpnd")
        system.check("systemctl", "restart", LOCKDOWN)
        assert "policy drop" in system.check("nft", "list", "table", "inet", "aovpnd")
        watch.everybody_tries()

    # purged
    assert "with the key in it: /etc/aovpnd/tunnels/home.conf" in apt(system, "purge", "aovpnd")
    wait_for("the network", lambda: reaches_the_internet(net), deadline_s=30)
    everybody_leaves(net)
    left = "ls -d /etc/aovpnd /var/lib/aovpnd* /run/aovpnd /etc/udev/rules.d/82-* /etc/systemd/system/aovpnd*"
    left += " /etc/systemd/system/*/aovpnd-rollback* /etc/apt/preferences.d/aovpnd*"
    assert system.run("sh", "-c", f"{left} 2>/dev/null; ip rule | grep 24943; nft list tables").stdout == ""
    assert system.run("systemctl", "is-enabled", LOCKDOWN).stdout.strip() in {"", "not-found"}
