# SPDX-License-Identifier: GPL-3.0-or-later
"""Sleep and clocks that jump: what ends, what has to prove itself anew, and who tells the loop."""

import asyncio
import os
import select
from dataclasses import replace
from typing import Final

import pytest

from aovpnd.adapters.clocks import Clocks, SteadyClock, clock
from aovpnd.clock import Clock
from aovpnd.core import intent as memory
from aovpnd.core.decide import decide
from aovpnd.gateways import Provoked
from aovpnd.model import Config, Intent, Phase, Snapshot
from aovpnd.orders import AllowTemporary, EnsureTunnel, PrepareSleep, Woke
from aovpnd.wake import BURST, HECTIC_S, REPAIR_S, Wake
from tests.unit.small_world import NOW
from tests.unit.test_decide import HOME_NET, ONE, OPEN, PATH, SHAKEN
from tests.unit.world import Laptop

YEAR_S: Final = 365 * 86400.0


def sleeping(machine: Laptop, seconds: float) -> None:
    """The machine sleeps, and nobody says so."""
    now = machine.snapshot.now
    slept = replace(now, boot=now.boot + seconds, wall=now.wall + seconds, slept_s=now.slept_s + seconds)
    machine.snapshot = replace(machine.snapshot, now=slept)


def connected() -> Laptop:
    """A laptop that is connected at home."""
    machine = Laptop(ONE)
    machine.join("home")
    machine.wait(5.0)
    assert machine.phase is Phase.CONNECTED
    return machine


def handshakes(machine: Laptop) -> int:
    """How often a handshake was provoked."""
    return sum(isinstance(action, EnsureTunnel) and action.wish.path is not None for action in machine.done)


# -- sleep -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seconds", [1.0, 50.0, 86400.0])
def test_window_does_not_survive_sleep(seconds: float) -> None:
    """However short the sleep, and whoever brought it about: the first look closes the window for good."""
    machine = Laptop(Config())
    machine.join("home")
    machine.settle()
    machine.settle(AllowTemporary(600))
    assert machine.phase is Phase.TEMPORARY_ACCESS
    sleeping(machine, seconds)
    desired = machine.settle()

    assert (desired.phase, machine.intent.grant) == (Phase.BLOCKED, None)


def test_time_that_passes_awake_is_no_sleep() -> None:
    """Two clocks that are read one after the other differ by a little; a window is not closed for that."""
    machine = Laptop(Config())
    machine.join("home")
    machine.settle(AllowTemporary(600))
    sleeping(machine, 0.01)
    machine.tick(100.0)
    machine.settle()

    assert machine.phase is Phase.TEMPORARY_ACCESS


def test_tunnel_proves_itself_after_sleep() -> None:
    """Behind sleep only a new handshake counts; one is asked for at once, and only once although logind says it too."""
    machine = connected()
    before = handshakes(machine)
    sleeping(machine, 3600.0)
    desired, _ = machine.look()
    assert desired.phase is Phase.CONNECTING
    assert handshakes(machine) == before + 1
    machine.settle(Woke())
    assert handshakes(machine) == before + 1
    assert machine.phase is Phase.CONNECTED


def test_woke_alone() -> None:
    """What logind says is enough, and the old daemon's session does not count then."""
    old = Intent(provoked=Provoked(PATH, NOW - 60), proved=PATH.fingerprint())
    new, answer = memory.update(ONE, old, SHAKEN, Woke())
    again = memory.settle(ONE, new, SHAKEN)

    assert (new.provoked, new.proved) == (None, "")
    assert answer is not None
    assert decide(ONE, again, SHAKEN).phase is Phase.CONNECTING
    assert decide(ONE, again, SHAKEN).tunnels[0].path == PATH


def test_prepare_sleep_closes() -> None:
    """Before sleep nothing is left open."""
    new, _ = memory.update(Config(), OPEN, HOME_NET, PrepareSleep())

    assert new.grant is None


# -- the wall clock ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("jump", [YEAR_S, -YEAR_S, 1.0, -1.0])
def test_wall_clock_jumps(jump: float) -> None:
    """A clock that jumps by a year, either way, changes nothing for tunnel, window or budget."""
    machine = connected()
    before = handshakes(machine)
    now = machine.snapshot.now
    machine.snapshot = replace(machine.snapshot, now=replace(now, wall=now.wall + jump))
    machine.settle()
    assert machine.phase is Phase.CONNECTED
    machine.wait(100.0)

    assert machine.phase is Phase.CONNECTED
    assert handshakes(machine) == before


@pytest.mark.parametrize(("jump", "said"), [(-YEAR_S, True), (YEAR_S, False), (0.0, False)])
def test_clock_that_went_back_is_said(jump: float, said: bool) -> None:
    """A gateway takes handshakes of an older time for replays: who waits for one learns why it does not come."""
    machine = connected()
    machine.answers = False
    now = machine.snapshot.now
    machine.snapshot = replace(machine.snapshot, now=replace(now, wall=now.wall + jump))
    machine.join("cafe")
    desired = machine.wait(30.0)

    assert desired.phase is Phase.CONNECTING
    assert ("clock-went-back" in [problem.code for problem in desired.problems]) is said


def test_clock_that_went_back_and_a_gateway_that_minds_not() -> None:
    """Once there is a handshake, what the clock showed before it no longer matters."""
    machine = connected()
    now = machine.snapshot.now
    machine.snapshot = replace(machine.snapshot, now=replace(now, wall=now.wall - YEAR_S))
    machine.join("cafe")
    desired = machine.wait(30.0)

    assert desired.phase is Phase.CONNECTED
    assert desired.problems == ()
    assert machine.intent.shaken_wall == pytest.approx(now.wall - YEAR_S, abs=60)


# -- who tells the loop ------------------------------------------------------------------------------------------------
def test_alarm() -> None:
    """It rings when its time has come and says so once; the last time that was set counts, and it can be taken back."""
    clocks = Clocks()
    try:
        assert (clocks.rang(), clocks.jumped()) == (False, False)
        clocks.ring_in(3600.0)
        clocks.ring_in(-1.0)
        assert select.select([clocks.alarm], [], [], 10)[0]
        assert clocks.rang()
        assert not clocks.rang()
        clocks.ring_in(0.0)
        clocks.ring_in(None)
        assert not select.select([clocks.alarm, clocks.jumps], [], [], 0.01)[0]
    finally:
        clocks.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(clocks.alarm)


def test_sleep_so_far_is_the_clocks_difference() -> None:
    """Both clocks are the kernel's; the machine that runs this test sleeps no second of it."""
    first, second = clock(), clock()

    assert abs(second.slept_s - first.slept_s) < 0.1


def test_steady_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies between two readings is no setting of the clock; a setting is, and is seen at once."""
    readings = iter((Clock(50.0, 1_700_000_050.0004), Clock(60.25, 1_700_000_060.3), Clock(70.0, 1_700_003_670.0)))
    monkeypatch.setattr("aovpnd.adapters.clocks.clock", lambda: next(readings))
    steady = SteadyClock()

    assert [steady.read().wall_at(100.0) for _ in range(3)] == [1_700_000_100.0, 1_700_000_100.0, 1_700_003_700.0]


def test_pace_of_a_fight() -> None:
    """A burst is looked at at once; what never ends is looked at some times a second."""

    async def scene() -> list[float]:
        wake, loop, passes = Wake(), asyncio.get_running_loop(), list[float]()
        end = loop.time() + 10
        while len(passes) < BURST + 3:
            assert loop.time() < end
            wake.soon("routes")
            await wake.event.wait()
            wake.take()
            passes.append(loop.time())
        return passes

    passes = asyncio.run(scene())
    quick, slow = passes[BURST - 1] - passes[0], passes[-1] - passes[-3]
    assert quick < BURST * HECTIC_S
    assert slow >= 2 * HECTIC_S * 0.99


def test_pace_of_a_storm() -> None:
    """What others break is put right at once, until they do it without end; a command never waits for that."""

    async def scene() -> tuple[list[float], float]:
        wake, loop, passes = Wake(), asyncio.get_running_loop(), list[float]()
        end = loop.time() + 10
        while len(passes) < BURST + 3:
            assert loop.time() < end
            wake.repair("nftables")
            wake.repair("nftables")
            await wake.event.wait()
            wake.again(wake.take())
            await wake.event.wait()
            assert wake.take() == "nftables"
            passes.append(loop.time())
        wake.repair("nftables")
        wake.soon("routes")
        assert not wake.event.is_set()
        wake.now("a command")
        return passes, float(wake.event.is_set())

    passes, commanded = asyncio.run(scene())
    assert commanded
    assert passes[BURST // 2 - 2] - passes[0] < REPAIR_S
    assert passes[-1] - passes[-3] >= 4 * REPAIR_S * 0.99


def test_a_debounce_does_not_wait_for_the_pace_of_a_fight() -> None:
    """The nearest of the moments counts."""

    async def scene() -> float:
        wake, loop = Wake(), asyncio.get_running_loop()
        wake.rung.extend([loop.time()] * BURST)
        wake.broken.extend([loop.time()] * BURST)
        wake.soon("routes")
        began = loop.time()
        wake.repair("nftables")
        await wake.event.wait()
        return loop.time() - began

    assert asyncio.run(scene()) < HECTIC_S


def at_rest(snapshot: Snapshot) -> Snapshot:
    """The same, where the machine has slept once long ago."""
    return replace(snapshot, now=replace(snapshot.now, slept_s=5000.0))


def test_sleep_before_the_daemon_started() -> None:
    """What was slept before the daemon began to look is nothing to it."""
    assert memory.settle(Config(), OPEN, at_rest(HOME_NET)).grant == OPEN.grant
