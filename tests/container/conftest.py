# SPDX-License-Identifier: GPL-3.0-or-later
"""One booted laptop per Debian, shared by all files here: every test leaves it as it found it, connected at home."""

from collections.abc import Iterator

import pytest

from tests.container.booted import Booted, Manager
from tests.lab.container import SUITES, cannot_run
from tests.lab.sites import Gateway


@pytest.fixture(scope="session")
def nspawn() -> None:
    """Skip where this machine cannot run containers, and say why."""
    reason = cannot_run()
    if reason is not None:
        pytest.skip(f"systemd-nspawn does not work here: {reason}")


@pytest.fixture(scope="session", params=SUITES)
def suite(request: pytest.FixtureRequest) -> str:
    """The Debian under test."""
    return str(request.param)


@pytest.fixture(scope="session")
def laptop(nspawn: None, suite: str) -> Iterator[Booted]:
    """A laptop at home, NetworkManager its network manager."""
    assert nspawn is None
    with Booted.power_on(suite, Manager.NETWORK_MANAGER) as booted:
        yield booted


@pytest.fixture(scope="session")
def second(laptop: Booted) -> tuple[Gateway, str]:
    """One more gateway in the laptop's world, and the laptop's file for it; off but for those who need it."""
    gateway, conf = laptop.world.another_gateway()
    gateway.off()
    return gateway, conf


@pytest.fixture(scope="session")
def networkd(nspawn: None, suite: str) -> Iterator[Booted]:
    """A laptop at home whose network manager is systemd-networkd."""
    assert nspawn is None
    with Booted.power_on(suite, Manager.NETWORKD) as booted:
        yield booted
