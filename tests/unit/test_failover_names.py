# SPDX-License-Identifier: GPL-3.0-or-later
"""Fail-over between tunnels whose gateways have names."""

from dataclasses import replace
from ipaddress import ip_address
from itertools import pairwise
from typing import Final

from aovpnd.core import endpoints
from aovpnd.gateways import Why
from aovpnd.model import Config, Phase
from aovpnd.tunnel import HostPort, WireGuard
from tests.unit.small_world import HOME, WORK
from tests.unit.test_endpoints import GATEWAY, LIE, OTHER, VPN, shakes_with
from tests.unit.test_failover import carrier, problems, until
from tests.unit.world import Laptop

NAMED: Final[WireGuard] = replace(
    WORK, peers=tuple(replace(peer, endpoint=None, host=HostPort(VPN, 51820)) for peer in WORK.peers[:1])
)
ORDER: Final = Config((HOME, NAMED), prefer=("work", "home"))
OTHER_HOST: Final = HostPort("b.example.org", 53)
BESIDE: Final = HOME.endpoints[0].addr


def laptop(**more: object) -> Laptop:
    """A laptop that has just come home, and prefers the tunnel whose gateway has a name."""
    machine = Laptop(ORDER, **more)  # type: ignore[arg-type]
    machine.join("home")
    machine.settle()
    return machine


def test_name_that_nobody_knows() -> None:
    """Two look-ups in vain, and the next tunnel carries; nobody is asked any more while it does."""
    machine = laptop()

    assert until(machine, "home", deadline_s=25) > 8
    text = "no address of vpn.example.org, the gateway of work, is known; home carries instead"
    assert problems(machine) == {"name-unresolved": text}
    done = len(machine.done)
    count = len(machine.looked_up)
    assert count == 2
    machine.wait(3600)
    assert len(machine.looked_up) == count
    assert carrier(machine) == "home"
    assert machine.done[done:] == []  # no trial with nobody to ask


def test_name_of_the_other_family() -> None:
    """It is known, and cannot be reached from here: status says that."""
    machine = laptop(names={VPN: (ip_address("2001:db8:e::7"),)})
    until(machine, "home", deadline_s=40)

    text = "the gateway of work has no address that this network leads to; home carries instead"
    assert problems(machine)["name-unresolved"] == text


def test_without_another_it_goes_on() -> None:
    """Where there is no other tunnel, a name that nobody knows is asked for again and again."""
    machine = Laptop(replace(ORDER, tunnels=(NAMED,), prefer=()))
    machine.join("home")
    machine.wait(300)

    assert len(machine.looked_up) > 4
    assert not machine.intent.gateways.left


def test_names_that_nobody_knows() -> None:
    """Two tunnels without any address take turns, ever more slowly, and the loop comes to rest in between."""
    other = replace(HOME, peers=tuple(replace(peer, endpoint=None, host=OTHER_HOST) for peer in HOME.peers))
    machine = Laptop(Config((other, NAMED), prefer=("work", "home")))
    machine.join("home")
    seen = []
    for _ in range(600):
        machine.wait(1)
        seen.append(machine.intent.gateways.carrier or "work")

    changes = [number for number, (one, two) in enumerate(pairwise(seen)) if one != two]
    assert set(seen) == {"work", "home"}
    assert 4 <= len(changes) <= 30
    assert changes[1] - changes[0] < changes[-1] - changes[-2]
    assert {asked.host for asked in machine.looked_up} == {VPN, OTHER_HOST.host}
    assert len(machine.looked_up) < 100


def test_every_address_has_its_turn_before_it_is_left() -> None:
    """A gateway with two addresses is tried at both, then left; when one answers again, it is gone back to."""
    machine = laptop(names={VPN: (GATEWAY, OTHER)}, where=frozenset({BESIDE}))
    seen = set()
    while carrier(machine) == "work":
        seen |= shakes_with(machine)
        machine.wait(0.5)
        assert len(shakes_with(machine)) <= 1

    assert seen == {GATEWAY, OTHER}
    until(machine, "home", deadline_s=10)
    machine.where = frozenset({BESIDE, GATEWAY, OTHER})
    assert until(machine, "work", deadline_s=120) > 10
    assert not machine.intent.hosts[0].turns


def test_left_once_more() -> None:
    """One that was left before and has its turn again gets its attempts anew."""
    machine = laptop(names={VPN: (GATEWAY, OTHER)}, where=frozenset())
    machine.wait(120)

    (left,) = (left for left in machine.intent.gateways.left if left.tunnel == "work")
    assert left.why is Why.SILENT
    assert left.times >= 2
    assert machine.phase is Phase.CONNECTING


def test_tunnel_on_trial_has_one_address() -> None:
    """Who is asked whether he is back is asked at the address that is known, and only there."""
    machine = laptop(names={VPN: (GATEWAY,)})
    assert until(machine, "work", deadline_s=10) < 10
    machine.silent = {"work"}
    until(machine, "home", deadline_s=120)
    opened = set()
    for _ in range(100):
        machine.wait(1)
        opened |= shakes_with(machine)
        assert LIE not in opened
        assert len(shakes_with(machine)) <= 1

    assert opened == {GATEWAY}
    host = endpoints.known(machine.intent.hosts, VPN)
    assert host.good == (GATEWAY,)
