# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody undoes what we do, again and again: it is put back, but not ever faster; what shuts never waits."""

from dataclasses import replace
from ipaddress import ip_address
from typing import Final

import pytest

from aovpnd.core import fights
from aovpnd.core import intent as memory
from aovpnd.dns import Dns
from aovpnd.gateways import Provoked
from aovpnd.model import Block, Intent, LinkWish, Phase, TunnelWish
from aovpnd.orders import Action, AllowTemporary, EnsureDns, EnsureGuard, EnsureRouting, EnsureTunnel, LoadRuleset
from aovpnd.repairs import Repairs
from aovpnd.routes import Routing
from tests.unit.small_world import NOW, WORK
from tests.unit.test_decide import HOME_NET, ONE, PATH
from tests.unit.world import Laptop

FIGHT: Final = tuple(NOW - 1 + number / fights.BURST for number in range(fights.BURST))
"""A second full of repairs."""


def in_a_fight(*over: Action) -> Intent:
    """The memory in the middle of a fight over these."""
    return Intent(repairs=tuple(Repairs(type(action).__name__, FIGHT, hash(action)) for action in over))


def connected() -> Laptop:
    """A laptop that is connected at home."""
    machine = Laptop(ONE)
    machine.join("home")
    machine.wait(60.0)
    assert machine.phase is Phase.CONNECTED
    return machine


def routings(machine: Laptop) -> int:
    """How often routing was put right."""
    return sum(isinstance(action, EnsureRouting) for action in machine.done)


def fight(machine: Laptop, seconds: float) -> int:
    """Somebody removes our rules and routes a hundred times a second; returns how often they were put back."""
    before = routings(machine)
    for _ in range(int(seconds * 100)):
        machine.snapshot = replace(machine.snapshot, routing=Routing((), (), machine.snapshot.routing.sysctls))
        machine.look()
        machine.tick(0.01)
    return routings(machine) - before


def test_fight_over_routes() -> None:
    """A hundred times a second becomes about once a second, status tells, and both end when the fight does."""
    machine = connected()
    assert fight(machine, 20.0) <= fights.BURST + 22
    desired, _ = machine.look()
    problem = next(problem for problem in desired.problems if problem.code == "fight")
    assert "routing rules" in problem.text
    assert desired.wake_at is not None

    desired = machine.wait(2.0)
    assert machine.snapshot.routing == desired.routing
    desired = machine.wait(fights.TOLD_S)
    assert "fight" not in [problem.code for problem in desired.problems]
    machine.snapshot = replace(machine.snapshot, routing=Routing((), ()))
    machine.settle()
    assert machine.snapshot.routing == desired.routing


def test_ordinary_life_is_no_fight() -> None:
    """Going from network to network every few seconds costs nobody any patience."""
    machine = connected()
    for number in range(10):
        machine.join(("cafe", "home")[number % 2])
        desired = machine.wait(2.0)
        assert desired.phase is Phase.CONNECTED, number
        assert "fight" not in [problem.code for problem in desired.problems]


UP: Final = TunnelWish(WORK, "aovpn0", LinkWish.UP)
ROUTES: Final = EnsureRouting(Routing((4,), ()))


@pytest.mark.parametrize(
    "action",
    [
        pytest.param(EnsureTunnel(replace(UP, state=LinkWish.DOWN)), id="a tunnel goes down"),
        pytest.param(EnsureTunnel(replace(UP, path=PATH)), id="a handshake"),
        pytest.param(EnsureRouting(None), id="unblocking"),
        pytest.param(EnsureGuard(HOME_NET.guard), id="the guard"),
    ],
)
def test_what_never_waits(action: Action) -> None:
    """Whatever shuts, and whatever no other program undoes."""
    busy = in_a_fight(action)

    assert fights.rested((action,), busy, NOW) == (action,)
    assert fights.repaired(Intent(), action, NOW) == ()


@pytest.mark.parametrize("action", [EnsureTunnel(UP), ROUTES, EnsureDns(None)])
def test_what_waits(action: Action) -> None:
    """It waits out the pace, and not while the ruleset has to be loaded: then everything goes its usual way."""
    busy = in_a_fight(action)
    load = LoadRuleset(None)

    assert fights.rested((action,), busy, NOW) == ()
    assert fights.rested((load, action), busy, NOW) == (load, action)
    assert fights.rested((action,), busy, NOW + fights.PACE_S) == (action,)
    assert fights.rested((action,), in_a_fight(EnsureGuard(HOME_NET.guard)), NOW) == (action,)
    assert [problem.code for problem in fights.problems(busy, NOW)] == ["fight"]
    assert len(fights.repaired(busy, action, NOW)[0].at) == fights.BURST


def test_another_wish_is_no_repair() -> None:
    """Whoever connects by one tunnel after the other is not kept waiting, nor told that somebody fights with us."""
    intent = Intent()
    for number in range(3 * fights.BURST):
        servers = EnsureDns(Dns(5, "aovpn0", (ip_address(f"10.0.0.{number % 2 + 1}"),)))
        assert fights.rested((servers,), intent, NOW) == (servers,)
        intent = memory.performed(intent, servers, NOW)
        assert list(fights.problems(intent, NOW)) == []

    assert fights.rested((ROUTES,), in_a_fight(EnsureRouting(Routing((6,), ()))), NOW) == (ROUTES,)


def test_window_ends_in_a_fight() -> None:
    """The end of a window shuts routing at once, whoever fights over it."""
    machine = connected()
    machine.answers = False
    machine.join("cafe")
    machine.settle()
    fight(machine, 5.0)
    machine.settle(AllowTemporary(60))
    assert machine.phase is Phase.TEMPORARY_ACCESS
    fight(machine, 2.0)
    machine.intent = replace(machine.intent, grant=None)
    machine.look()

    assert machine.snapshot.routing.shut == (6,)


def test_memory_keeps_count() -> None:
    """What was performed is remembered by kind; a handshake is not."""
    intent = Intent(provoked=Provoked(PATH, NOW - 60), block=Block.ON)
    for action in (ROUTES, EnsureTunnel(UP), ROUTES, EnsureTunnel(replace(UP, path=PATH))):
        intent = memory.performed(intent, action, NOW)

    assert {repairs.action: len(repairs.at) for repairs in intent.repairs} == {"EnsureRouting": 2, "EnsureTunnel": 1}
