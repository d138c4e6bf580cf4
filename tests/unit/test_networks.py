# SPDX-License-Identifier: GPL-3.0-or-later
"""aovpnd-bus beside NetworkManager, where things change while it waits for an answer."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from aovpnd.bus import networks as module
from aovpnd.bus.calls import BusError, Target
from aovpnd.bus.connectivity import Block
from aovpnd.bus.daemon import Line
from tests.unit.test_bus import FakeBus


async def until(done: asyncio.Event, networks: module.Networks) -> None:
    """Have it follow NetworkManager, with the block on, until ``done``, or for 20 s."""
    networks.blocked(Block.ON)
    runs = asyncio.create_task(networks.run())
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(20):
            await done.wait()
    runs.cancel()


def test_block_that_goes_while_the_check_is_turned_off(tmp_path: Path) -> None:
    """The answer to one state of the block settles that one alone: the check does not stay off for ever."""
    checks, done = [True], asyncio.Event()

    async def answers(_: Target, method: str, arguments: tuple[object, ...]) -> tuple[object, ...]:
        if method == "Set":
            checks.append(getattr(arguments[2], "value", None) is True)
            if len(checks) == 2:  # the daemon publishes before NetworkManager has answered
                networks.blocked(Block.OFF)
            if len(checks) == 3:
                done.set()
            return ()
        return ([],) if method == "GetDevices" else (4,) if "Connectivity" in arguments else (checks[-1],)

    networks = module.Networks(FakeBus(answers), Line(tmp_path, lambda: None), tmp_path)
    asyncio.run(until(done, networks))
    assert checks == [True, False, True]


@pytest.mark.parametrize("fails", ["Get", "Set"])
def test_a_check_that_cannot_be_turned_off_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    """At a boot NetworkManager may not answer in time, or polkit not be there that it asks: it is tried again."""
    monkeypatch.setattr(module, "AGAIN_S", (0.01, 0.02))
    monkeypatch.setattr(module, "PAUSE_S", 0.001)
    failures, done = [1, 2, 3], asyncio.Event()

    async def answers(_: Target, method: str, arguments: tuple[object, ...]) -> tuple[object, ...]:
        if method == fails and failures:
            failures.pop()
            raise BusError("not now", name="org.freedesktop.NetworkManager.PermissionDenied")
        if method == "Set":
            assert getattr(arguments[2], "value", None) is False
            done.set()
            return ()
        return ([],) if method == "GetDevices" else (4,) if "Connectivity" in arguments else (True,)

    asyncio.run(until(done, module.Networks(FakeBus(answers), Line(tmp_path, lambda: None), tmp_path)))
    assert done.is_set()
    assert not failures


def looks(tmp_path: Path, **properties: object) -> int:
    """How often NetworkManager is asked to look again, by its properties; it finds a network whole at the second time,
    and the first is refused.
    """
    (tmp_path / module.RECORD).touch()
    told = {"ConnectivityCheckEnabled": False, "Connectivity": 3, "PrimaryConnection": "/1"} | properties
    asked, done = [0], asyncio.Event()

    async def answers(_: Target, method: str, arguments: tuple[object, ...]) -> tuple[object, ...]:
        if method == "GetDevices":
            return ([],)
        if method == "CheckConnectivity":
            asked[0] += 1
            if asked[0] == 1:
                raise BusError("not now", name="org.freedesktop.NetworkManager.PermissionDenied")
            told["Connectivity"] = 4
            return (4,)
        if told["Connectivity"] == 4 or (arguments[1] == "PrimaryConnection" and told["PrimaryConnection"] == "/"):
            asyncio.get_running_loop().call_later(0.1, done.set)  # nothing more comes of it
        return (told[str(arguments[1])],)

    networks = module.Networks(FakeBus(answers), Line(tmp_path, lambda: None), tmp_path)
    asyncio.run(until(done, networks))
    return asked[0]


def test_it_looks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A default route that comes after its link has come up: with the check off, nothing else has NetworkManager call
    the network whole. Without such a route it is left alone.
    """
    monkeypatch.setattr(module, "AGAIN_S", (0.01, 0.02))
    monkeypatch.setattr(module, "PAUSE_S", 0.001)

    assert looks(tmp_path) == 2
    assert looks(tmp_path, PrimaryConnection="/") == 0
    assert looks(tmp_path, Connectivity=4) == 0
