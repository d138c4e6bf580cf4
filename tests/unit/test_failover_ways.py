# SPDX-License-Identifier: GPL-3.0-or-later
"""Fail-over where nothing leaves the machine: the network has not the family that a gateway needs, or the kernel does
not send.
"""

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Final

import pytest

from aovpnd.model import Config, Phase
from aovpnd.routes import Route
from aovpnd.tunnel import Endpoint
from tests.unit.small_world import ENDPOINT4, ENDPOINT6, HOME, WORK, tunnel
from tests.unit.test_failover import ORDER, PROBED, carrier, connected, problems, until
from tests.unit.world import Laptop

SIX: Final = tunnel("six", ENDPOINT6)
BY_SIX: Final = replace(ORDER, tunnels=(HOME, SIX), prefer=("six", "home"))
WAY6: Final = Route(ip_network("::/0"), 2, ip_address("fe80::1"), 600)


def without_six(machine: Laptop) -> None:
    """IPv6 is switched off on the uplink; IPv4 and the network stay."""
    main = tuple(route for route in machine.snapshot.main if route.dst.version == 4)
    machine.snapshot = replace(machine.snapshot, main=main)


def with_six(machine: Laptop) -> None:
    """A router advertisement."""
    machine.snapshot = replace(machine.snapshot, main=(*machine.snapshot.main, WAY6))


def at_home_with_six() -> Laptop:
    """Connected by a gateway that has an IPv6 address alone."""
    machine = Laptop(BY_SIX)
    machine.join("home")
    with_six(machine)
    machine.wait(60.0)
    assert (carrier(machine), machine.phase) == ("six", Phase.CONNECTED)
    return machine


@pytest.mark.parametrize("busy", [True, False])
def test_a_network_that_loses_the_family(*, busy: bool) -> None:
    """The gateway's only family goes and the other stays: no path, so not connected, whether anybody sends or not; the
    next one carries in seconds, status says why, and the better one is back when its family is.
    """
    machine = at_home_with_six()
    machine.busy = busy
    without_six(machine)

    assert machine.settle().phase is Phase.CONNECTING
    text = f"the gateway of six ({ENDPOINT6}) cannot be reached: this network has no IPv6"
    assert problems(machine) == {}  # a lease or an advertisement may be a second behind the other
    assert until(machine, "home", deadline_s=8) >= 4
    assert problems(machine) == {"address-family": f"{text}; home carries instead"}
    began, done = machine.intent.connected_at, len(machine.done)
    machine.wait(7200.0)
    assert machine.intent.connected_at == began
    assert machine.done[done:] == []  # nobody is asked who cannot be reached
    with_six(machine)
    assert until(machine, "six", deadline_s=5) <= 2
    assert problems(machine) == {}


def test_a_family_that_comes_late() -> None:
    """The router advertisement may come seconds after the lease: nobody is left for that."""
    machine = Laptop(BY_SIX)
    machine.join("home")
    machine.wait(4.0)
    with_six(machine)
    machine.wait(4.0)

    assert (carrier(machine), machine.phase) == ("six", Phase.CONNECTED)
    assert not machine.intent.gateways.left


def test_a_family_that_comes_and_goes() -> None:
    """It is gone back to ever more seldom."""
    machine = at_home_with_six()
    moves, before = 0, carrier(machine)
    for number in range(360):
        (without_six if number % 2 else with_six)(machine)
        machine.wait(10.0)
        moves, before = moves + (carrier(machine) != before), carrier(machine)

    assert 2 <= moves <= 24


def test_nobody_is_left_for_one_that_cannot_be_reached() -> None:
    """Where the network leads to none of the others, the one that is silent goes on being asked."""
    machine = Laptop(replace(BY_SIX, prefer=("home", "six")))
    machine.silent = {"home"}
    machine.join("home")
    machine.wait(300.0)

    assert carrier(machine) == "home"
    assert "no-handshake" in problems(machine)


@pytest.mark.parametrize(("endpoint", "missing"), [(ENDPOINT4, "IPv4"), (ENDPOINT6, "IPv6")])
def test_the_only_tunnel_cannot_be_reached(endpoint: Endpoint, missing: str) -> None:
    """An address of the family that this network does not have: status says that, and nothing of keys."""
    machine = Laptop(Config((tunnel("only", endpoint),)))
    machine.join("home")
    if endpoint is ENDPOINT4:
        machine.snapshot = replace(machine.snapshot, main=(WAY6,))
    machine.wait(120.0)

    text = f"the gateway of only ({endpoint}) cannot be reached: this network has no {missing}"
    assert problems(machine) == {"address-family": text}


def test_a_gateway_in_the_same_house() -> None:
    """A route to it is a way, though no default route has its family; one that is unreachable is none."""
    machine = Laptop(Config((SIX,)))
    machine.join("home")
    near = Route(ip_network("2001:db8:e::/64"), 2)
    machine.snapshot = replace(machine.snapshot, main=(*machine.snapshot.main, near))
    machine.wait(2.0)
    assert machine.phase is Phase.CONNECTED

    machine.snapshot = replace(machine.snapshot, main=(*machine.snapshot.main[:-1], replace(near, link=None)))
    assert machine.settle().phase is Phase.CONNECTING


def test_packets_that_do_not_leave() -> None:
    """Another firewall drops the outer packets, so that WireGuard counts nothing as sent: what programs put into the
    link and never came out is lost, not idle.
    """
    machine = connected(replace(ORDER, tunnels=tuple(replace(spec, dns=()) for spec in ORDER.tunnels)))
    machine.snapshot = replace(machine.snapshot, resolvers=())
    machine.refused = {"work"}

    assert until(machine, "home", deadline_s=70) >= 35
    text = f"packets to the gateway of work ({ENDPOINT4}, {ENDPOINT6}) do not leave this machine; home carries instead"
    assert problems(machine) == {"nothing-sent": text}
    machine.wait(120.0)
    assert problems(machine) == {"nothing-sent": text}
    machine.refused = set()
    until(machine, "work", deadline_s=300)
    assert problems(machine) == {}


def test_packets_that_do_not_leave_are_noticed_by_a_probe() -> None:
    """Where there is somebody to ask, in seconds."""
    machine = connected(PROBED)
    machine.refused = {"work"}

    assert until(machine, "home", deadline_s=20) < 16


def test_the_only_tunnel_sends_nothing() -> None:
    """Status says so, and that nobody was asked."""
    machine = connected(Config((WORK,)))
    machine.refused = {"work"}
    machine.wait(120.0)

    text = f"packets to the gateway of work ({ENDPOINT4}, {ENDPOINT6}) do not leave this machine"
    assert problems(machine) == {"nothing-sent": text}
    (hint,) = (problem.hint for problem in machine.settle().problems)
    assert hint.startswith(
        "another firewall drops them, or there is no route: see nft list ruleset, ip rule, ip route;"
    )


def test_the_file_of_the_one_that_carries_is_removed() -> None:
    """The better gateway carries again, and nothing says that it does not answer."""
    machine = connected(ORDER, "work")
    machine.silent = set()
    machine.config = replace(machine.config, tunnels=(WORK,))
    machine.settle()

    until(machine, "work", deadline_s=5)
    assert "gateway-silent" not in problems(machine)
    entry = machine.intent.gateways.entry("work")
    assert entry is not None
    assert entry.back_at is not None
