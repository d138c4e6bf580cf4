# SPDX-License-Identifier: GPL-3.0-or-later
"""``make install`` on a whole Debian, which stands for a system that has no package of ours: the .deb is not used."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from aovpnd import names
from tests.container.booted import BUS_UNIT, Manager, cards_before_a_boot, furniture
from tests.lab import plan
from tests.lab.container import SUITES, Container
from tests.lab.process import wait_for
from tests.lab.product import CARRIED, CHECKOUT, library
from tests.lab.tree import Tree, copied, text
from tests.netns.protected import Protected
from tools.install import LIST, UNITS

pytestmark = [pytest.mark.container, pytest.mark.root, pytest.mark.slow]

SOURCES = ("aovpnd", "docs", "etc", "systemd", "tests/lab", "tools")
TREE = "/root/aovpnd"
OURS = ("(", "-path", "*aovpn*", "-o", "-path", "*/wgconfig*", "-o", "-path", "*/vici*", ")")
FILES = ("find", "/usr", "/etc", *OURS, "-not", "-type", "d")
"""What there is of us."""
INSTALL = ("env", f"--chdir={TREE}", "PYTHONPATH=/root/carried", "python3", "-m", "tools.install")


def sources() -> Tree:
    """A checkout, and beside it what `.venv` has for it."""
    found = [path for place in SOURCES for path in (CHECKOUT / place).rglob("*")]
    found += [CHECKOUT / name for name in ("CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml")]
    tree = {f"{TREE}/{path.relative_to(CHECKOUT)}": copied(path) for path in found if _is_plain(path)}
    for name in CARRIED:
        home = library(name).parent
        places = (*home.glob(name), *home.glob(f"{name}-*.dist-info"))
        kept = [path for place in places for path in place.rglob("*")]
        tree |= {f"/root/carried/{path.relative_to(home)}": copied(path) for path in kept if _is_plain(path)}
    return {**tree, f"{TREE}/tests/__init__.py": text("")}


def _is_plain(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts


@pytest.fixture
def bare(nspawn: None) -> Iterator[tuple[Protected, Container]]:
    """A laptop at home that has everything but the product; a checkout of it lies in /root."""
    assert nspawn is None
    with ExitStack() as stack:
        net = stack.enter_context(Protected.build(tunnel=False, start=False, control=False))
        cards_before_a_boot(net.world)
        conf = text(net.lab.tunnel_conf, 0o600)
        net.world.attach("wlan0", "home")
        files = {**furniture(Manager.NETWORK_MANAGER), **sources(), "/root/home.conf": conf}
        system = stack.enter_context(Container.boot(net.lab.host, SUITES[0], files))
        system.wait_booted()
        yield net, system


def test_from_installation_to_the_end(bare: tuple[Protected, Container]) -> None:
    """As the package: installed, it blocks nothing and is enabled; the first import connects, by the programs below
    PREFIX; installed again, the session goes on; blocked, it is not taken away; then nothing of it is left.
    """
    net, system = bare
    before = system.check(*FILES)

    assert "nothing is blocked yet" in system.check(*INSTALL, "install")
    assert system.run("systemctl", "is-enabled", *UNITS).stdout.split() == ["enabled"] * 3
    assert [system.active(unit) for unit in (names.UNIT, names.GUARD_UNIT, BUS_UNIT)] == [False, False, True]
    assert "there is no tunnel yet" in system.run("/usr/local/bin/aovpnctl", "status").stdout

    assert "nothing leaves outside the tunnel any more" in system.check("aovpnctl", "import", "/root/home.conf")
    wait_for("the tunnel to work", lambda: works(net, system), deadline_s=40)
    assert system.check("readlink", f"/proc/{system.main_pid(names.UNIT)}/exe").startswith("/usr/bin/python3")
    assert "/usr/local/sbin/aovpnd" in system.check("cat", f"/proc/{system.main_pid(names.UNIT)}/cmdline")

    with net.nothing_leaves() as watch:
        system.check("systemctl", "disable", "--quiet", BUS_UNIT)
        assert system.check(*INSTALL, "install") == ""
        watch.until("the tunnel to work", lambda: works(net, system), deadline_s=40)
        enabled = system.run("systemctl", "is-enabled", BUS_UNIT).stdout.strip()
        assert enabled == "disabled", "as the administrator has it"
        refused = system.run(*INSTALL, "uninstall")
        assert (refused.returncode, "this machine is blocked" in refused.stderr) == (1, True)

    system.check("aovpnctl", "unblock")
    assert "The tunnels, keys and all, are still in" in system.check(*INSTALL, "uninstall")
    left = set(system.check(*FILES).splitlines()) - set(before.splitlines())
    assert left == {"/etc/aovpnd/tunnels/home.conf", "/etc/aovpnd/unblocked"}
    assert [system.active(unit) for unit in (names.UNIT, names.GUARD_UNIT, BUS_UNIT)] == [False, False, False]
    assert "aovpnd" not in system.check("nft", "list", "tables")
    assert not system.path(LIST).exists()


def works(net: Protected, system: Container) -> bool:
    """Whether the laptop is protected and connected, by its own status and by what the far side sees."""
    shown = system.run("aovpnctl", "wait", "--connected", "--timeout", "1")
    return shown.returncode == 0 and net.address_outside(4) == str(plan.GATEWAY4)
