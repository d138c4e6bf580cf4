# SPDX-License-Identifier: GPL-3.0-or-later
"""The device tunnel, by the real logind: it reaches its management host before login and nothing else; a login brings
the user's tunnel, and the last logout takes it away. As a companion it stands beside the user's meanwhile.
"""

from collections.abc import Iterator
from typing import Any, Final

import pytest

from aovpnd import names
from tests.container.booted import Booted
from tests.lab import plan
from tests.lab.container import ALICE, BOB
from tests.lab.people import at_the_seat, from_afar
from tests.lab.process import LabError, wait_for
from tests.lab.sites import Gateway

pytestmark = [pytest.mark.container, pytest.mark.root, pytest.mark.slow]

MANAGEMENT: Final = "/etc/aovpnd/tunnels/management.conf"
SETTINGS: Final = "/etc/aovpnd/conf.d/device.toml"


@pytest.fixture
def managed(laptop: Booted, second: tuple[Gateway, str]) -> Iterator[Booted]:
    """The laptop with a device tunnel to a gateway of its own, through which one host alone is reached."""
    gateway, conf = second
    gateway.on()
    system = laptop.system
    narrow = [
        f"AllowedIPs = {plan.ECHO4}/32" if line.startswith("AllowedIPs") else line
        for line in conf.splitlines()
        if not line.startswith("DNS")
    ]
    system.check("mkdir", "-p", SETTINGS.rpartition("/")[0])
    system.write(MANAGEMENT, "\n".join(narrow) + "\n", 0o600)
    system.write(SETTINGS, '[tunnel]\nprefer = "home"\ndevice = "management"\n')
    system.check("systemctl", "reload", names.UNIT)
    yield laptop
    system.check("rm", MANAGEMENT, SETTINGS)
    system.check("systemctl", "reload", names.UNIT)
    laptop.wait_works()
    gateway.off()


def reaches(laptop: Booted, address: object) -> bool:
    """Whether a ping is answered."""
    return laptop.system.run("ping", "-c", "1", "-W", "1", str(address)).returncode == 0


def carried_by(laptop: Booted) -> str:
    """The tunnel that is connected."""
    return next((tunnel["name"] for tunnel in laptop.status()["tunnels"] if tunnel["state"] == "connected"), "")


def until_managed(laptop: Booted) -> None:
    """Wait until the device tunnel carries; then the management host is reached, and nothing else."""
    try:
        wait_for("the device tunnel", lambda: carried_by(laptop) == "management" and reaches(laptop, plan.ECHO4))
    except LabError as error:
        raise AssertionError(f"{error}\n{laptop.status()}\n{laptop.describe()}") from error
    assert not reaches(laptop, plan.WEB4)
    assert laptop.net.address_outside(6) == ""


def test_login_and_logout(managed: Booted) -> None:
    """Nobody, somebody at the seat, somebody else from afar as well, and nobody again; nothing leaves meanwhile."""
    with managed.net.nothing_leaves() as watch:
        until_managed(managed)
        refused = managed.system.run("aovpnctl", "connect", "home")
        assert "while nobody is logged in the tunnel is management" in refused.stderr
        with from_afar(managed.system, BOB):
            managed.wait_works()
            with at_the_seat(managed.system, ALICE):
                managed.until_works(watch)
            managed.until_works(watch)
        until_managed(managed)
        watch.everybody_tries()


def of(laptop: Booted, name: str) -> dict[str, Any]:
    """What status says of a tunnel."""
    return next(tunnel for tunnel in laptop.status()["tunnels"] if tunnel["name"] == name)


def test_beside_the_users(managed: Booted) -> None:
    """As a companion, the device's tunnel goes on while somebody is logged in, on the same link, in the same session;
    its host is reached by it.
    """
    managed.system.write(SETTINGS, '[tunnel]\nprefer = "home"\ndevice = "management"\ncompanions = "management"\n')
    managed.system.check("systemctl", "reload", names.UNIT)
    with managed.net.nothing_leaves() as watch:
        until_managed(managed)
        alone = of(managed, "management")
        with at_the_seat(managed.system, ALICE):
            wait_for("it to stand beside", lambda: of(managed, "management")["role"] == "companion")
            managed.until_works(watch)
            assert reaches(managed, plan.ECHO4)
            beside = of(managed, "management")
        until_managed(managed)
        after = of(managed, "management")
    assert [each["role"] for each in (alone, beside, after)] == ["chosen", "companion", "chosen"]
    assert len({(each["link"], each["since"]) for each in (alone, beside, after)}) == 1
