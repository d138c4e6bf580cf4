# SPDX-License-Identifier: GPL-3.0-or-later
"""A second tunnel beside ours, in every phase: nothing leaves by it, and what that costs."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Final

import pytest

from tests.container.booted import Booted, Manager
from tests.container.phases import OURS, blocked, window
from tests.container.test_doctor import examined, wrong
from tests.lab import plan
from tests.lab.process import wait_for
from tests.neighbours.roots import NEWEST, Root, root
from tests.neighbours.tunnels import OFFICE, Beside, marked, openvpn, wg_quick_all, wg_quick_narrow

pytestmark = [pytest.mark.container, pytest.mark.root, pytest.mark.slow]

TUNNELS: Final[dict[str, Callable[[Booted], AbstractContextManager[Beside]]]] = {
    "wg-quick": wg_quick_all,
    "wg-quick-narrow": wg_quick_narrow,
    "openvpn": openvpn,
    "fwmark": marked,
}


@pytest.fixture(scope="module")
def laptop() -> Iterator[Booted]:
    """A laptop at home."""
    with Booted.power_on(NEWEST, Manager.NETWORK_MANAGER, root=root(Root.TUNNELS)) as booted:
        yield booted


def answers(laptop: Booted, address: str) -> bool:
    """Whether somebody answers pings there, also asked by the other tunnel's link."""
    by_link = ("ping", "-c1", "-W1", "-I", OFFICE, address)
    return any(laptop.system.run(*words).returncode == 0 for words in (("ping", "-c1", "-W1", address), by_link))


@pytest.mark.parametrize("program", TUNNELS)
def test_it_works_without_the_block(laptop: Booted, program: str) -> None:
    """The positive control: unblocked, its network is reached; the one that stands for Tailscale has nobody there."""
    if program == "fwmark":
        pytest.skip("nobody is behind its link")
    laptop.system.check("aovpnctl", "unblock")
    try:
        with TUNNELS[program](laptop) as beside:
            wait_for("its network", lambda: answers(laptop, beside.inside), deadline_s=20)
    finally:
        laptop.system.check("aovpnctl", "block")
        laptop.wait_works()


@pytest.mark.parametrize("program", TUNNELS)
def test_blocked(laptop: Booted, program: str) -> None:
    """Nothing leaves, neither by its link nor to its gateway."""
    with blocked(laptop) as watch, TUNNELS[program](laptop) as beside:
        watch.everybody_tries()
        assert not answers(laptop, beside.inside)
        assert laptop.net.address_outside(4) == ""


@pytest.mark.parametrize("program", TUNNELS)
def test_connected(laptop: Booted, program: str) -> None:
    """Its packets go into our tunnel, its network is out of reach, and ours goes on, but for one that leads everything
    into itself: that takes the internet away. Behind it all is as before.
    """
    with laptop.net.watch(endpoints=OURS) as watch:
        with TUNNELS[program](laptop) as beside:
            watch.everybody_tries()
            assert not answers(laptop, beside.inside)
            assert wrong(laptop, examined(laptop)) >= beside.found
            codes = {problem["code"] for problem in laptop.status()["problems"]}
            assert ("rule-ahead" in codes) is beside.ahead
            if beside.takes_all:
                wait_for("the internet to be gone", lambda: laptop.net.address_outside(4) == "", deadline_s=60)
                watch.everybody_tries()
            else:
                assert laptop.works()
        laptop.wait_works(deadline_s=60)
        watch.everybody_tries()
    watch.assert_silence()


@pytest.mark.parametrize("program", TUNNELS)
def test_temporary_access(laptop: Booted, program: str) -> None:
    """A window opens the uplink and not the other tunnel: what that takes for itself gets nowhere."""
    with window(laptop), TUNNELS[program](laptop) as beside:
        assert not answers(laptop, beside.inside)
        outside = laptop.net.address_outside(4)
        assert outside == ("" if beside.takes_all else plan.HOME.wan4)
