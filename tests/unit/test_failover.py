# SPDX-License-Identifier: GPL-3.0-or-later
"""Fail-over over time: which tunnel carries, when it is left, and when the better one is gone back to."""

from dataclasses import replace
from ipaddress import ip_address
from itertools import pairwise
from typing import Final

import pytest

from aovpnd.core import failover
from aovpnd.core.view import as_made
from aovpnd.gateways import Gateways, Left, Trial, Why
from aovpnd.model import Config, LinkWish, Phase
from aovpnd.orders import CloseSockets, Connect, EnsureTunnel, LoadRuleset, RemoveTunnel
from aovpnd.tunnel import Endpoint, Secret
from aovpnd.users import EVERYBODY
from tests.unit.small_world import ENDPOINT4, ENDPOINT6, HOME, ROTATED, WORK, state_of, tunnel
from tests.unit.world import Laptop

THIRD: Final = tunnel("third", Endpoint(ip_address("192.0.2.99"), 51820))
ORDER: Final = Config((HOME, THIRD, WORK), prefer=("work", "home"))


def connected(config: Config = ORDER, *silent: str) -> Laptop:
    """A laptop at home that has come to rest; gateways that are ``silent`` have been so from the start."""
    machine = Laptop(config)
    machine.silent = set(silent)
    machine.join("home")
    machine.wait(60.0)
    assert machine.phase is Phase.CONNECTED
    return machine


def carrier(machine: Laptop) -> str:
    """The tunnel whose configuration the one link that is routed has."""
    routed = {route.link for route in machine.snapshot.routing.routes if route.link is not None}
    (state,) = [state for state in machine.snapshot.tunnels if state.link.index in routed]
    return next(spec.name for spec in machine.config.tunnels if spec.digest() == state.digest)


def problems(machine: Laptop) -> dict[str, str]:
    """What status would say: code to text."""
    return {problem.code: problem.text for problem in machine.settle().problems}


def until(machine: Laptop, name: str, *, deadline_s: float) -> float:
    """Let time pass until a tunnel carries and is connected; returns the seconds that took."""
    began = machine.snapshot.now.boot
    while carrier(machine) != name or machine.phase is not Phase.CONNECTED:
        assert machine.snapshot.now.boot - began < deadline_s, f"{carrier(machine)} still carries"
        machine.wait(0.5)
    return machine.snapshot.now.boot - began


def test_the_first_of_the_order_carries() -> None:
    """While it answers; the others have no link, and nobody asks them anything."""
    machine = connected()

    assert carrier(machine) == "work"
    assert len(machine.snapshot.tunnels) == 1
    assert not machine.intent.gateways.left


def test_a_gateway_that_is_off_from_the_start() -> None:
    """It has five seconds, then the next one carries, and status says why in words."""
    machine = Laptop(ORDER)
    machine.silent = {"work"}
    machine.join("home")

    machine.settle()
    assert until(machine, "home", deadline_s=8) >= 4.5
    assert problems(machine) == {
        "gateway-silent": f"the gateway of work ({ENDPOINT4}, {ENDPOINT6}) does not answer; home carries instead"
    }


def test_a_gateway_that_goes_silent() -> None:
    """Lost under traffic, it is left for the next in bounded time; the link stays, with index and name."""
    machine = connected()
    (before,) = machine.snapshot.tunnels
    done = len(machine.done)
    machine.silent = {"work"}

    until(machine, "home", deadline_s=70)
    (after,) = machine.snapshot.tunnels
    assert (after.link.index, after.link.name) == (before.link.index, before.link.name)
    assert not any(isinstance(action, RemoveTunnel) for action in machine.done[done:])
    assert all(action.wish.state is LinkWish.UP for action in machine.done[done:] if isinstance(action, EnsureTunnel))


# -- what only a probe can tell ---------------------------------------------------------------------------------------
PROBED: Final = replace(ORDER, probe=(Endpoint(ip_address("198.51.100.9"), 443),))


def test_a_gateway_that_leads_nowhere() -> None:
    """It shakes hands and sends keepalives, and nothing else comes back: two probes decide."""
    machine = connected(PROBED)
    machine.dead_exits = {"work"}

    assert until(machine, "home", deadline_s=20) >= 5
    assert len(machine.asked) == 2
    assert problems(machine) == {
        "exit-dead": f"the gateway of work ({ENDPOINT4}, {ENDPOINT6}) answers but leads nowhere; home carries instead"
    }


def test_one_that_leads_nowhere_is_not_gone_back_to() -> None:
    """Its handshake is no proof: it gets one probe, and is left again; ever more seldom. Mended, it carries."""
    machine = connected(PROBED)
    machine.dead_exits = {"work"}
    until(machine, "home", deadline_s=20)
    machine.asked.clear()
    carried = {"work": 0, "home": 0}
    for _ in range(900):
        machine.wait(1.0)
        carried[carrier(machine)] += 1

    assert carried["work"] <= 10
    assert 3 <= len(machine.asked) <= 6
    machine.dead_exits = set()
    until(machine, "work", deadline_s=900)
    machine.wait(30.0)
    assert carrier(machine) == "work"


def test_a_silent_gateway_is_found_sooner_by_a_probe() -> None:
    """Nothing comes back, a probe says so, and a handshake that nobody answers."""
    machine = connected(PROBED)
    machine.silent = {"work"}

    assert until(machine, "home", deadline_s=70) < 20


@pytest.mark.parametrize("silent", [True, False])
def test_the_daemon_looks_often_enough_by_itself(*, silent: bool) -> None:
    """Woken by nothing but what it has asked for, under traffic: the next one carries within half a minute."""
    machine = connected(PROBED)
    machine.wait(300.0)
    (machine.silent if silent else machine.dead_exits).add("work")
    machine.wait(28.0)

    assert carrier(machine) == "home"
    assert machine.phase is Phase.CONNECTED


def test_who_sends_what_nobody_answers_keeps_the_tunnel() -> None:
    """A user whose packets get no answer, over a tunnel that is good: asked now and then, and never moved."""
    machine = connected(PROBED)
    (before,) = machine.snapshot.tunnels
    machine.one_way = True
    began, done = machine.intent.connected_at, len(machine.done)
    for _ in range(60):
        machine.wait(60.0)

    assert machine.intent.connected_at == began
    assert machine.snapshot.tunnels[0].link == before.link
    assert machine.done[done:] == []
    assert 5 <= len(machine.asked) <= 12


@pytest.mark.parametrize("seconds", [600.0, 3600.0, 86400.0])
def test_an_idle_tunnel_is_left_alone(seconds: float) -> None:
    """Nobody sends: nothing is asked, nothing is shaken, nothing is moved, whether the gateway is there or not."""
    machine = connected(PROBED)
    machine.busy, machine.silent = False, {"work"}
    machine.wait(60.0)
    done = len(machine.done)
    machine.wait(seconds)

    assert (machine.asked, machine.done[done:]) == ([], [])
    assert machine.phase is Phase.CONNECTED


def test_the_only_tunnel_leads_nowhere() -> None:
    """It is kept, and status says so; the question is repeated ever more seldom while somebody sends."""
    machine = connected(replace(PROBED, prefer=("work",)))
    machine.dead_exits = {"work"}
    for _ in range(60):
        machine.wait(60.0)

    assert carrier(machine) == "work"
    assert problems(machine)["exit-dead"] == f"the gateway of work ({ENDPOINT4}, {ENDPOINT6}) answers but leads nowhere"
    assert 8 <= len(machine.asked) <= 18
    machine.dead_exits = set()
    machine.wait(30.0)
    assert problems(machine) == {}


def test_everything_leads_nowhere() -> None:
    """No better one is known, so the one that carries is kept until another's time has come."""
    machine = connected(PROBED)
    machine.dead_exits = {"work", "home"}
    moves, before = 0, carrier(machine)
    for _ in range(1800):
        machine.wait(1.0)
        moves, before = moves + (carrier(machine) != before), carrier(machine)

    assert 2 <= moves <= 16


def test_without_anybody_to_ask_nothing_is_asked() -> None:
    """Neither targets nor name servers, or none that the tunnel carries: then the counters alone decide."""
    far = Endpoint(ip_address("2001:db8::9"), 443)
    narrow = replace(
        ORDER, tunnels=tuple(replace(spec, dns=(), addresses=spec.addresses[:1]) for spec in ORDER.tunnels)
    )
    for config in (narrow, replace(narrow, probe=(far,))):
        machine = connected(config)
        machine.dead_exits = {"work"}
        machine.wait(300.0)
        assert machine.asked == []
        assert carrier(machine) == "work"


def test_name_servers_of_the_tunnel_are_asked() -> None:
    """Where no targets are configured, the tunnel's own name servers are."""
    with_dns = replace(WORK, dns=(ip_address("10.64.0.1"),))
    machine = connected(replace(ORDER, tunnels=(HOME, with_dns)))
    machine.dead_exits = {"work"}

    assert until(machine, "home", deadline_s=20) >= 5


def test_a_named_tunnel_is_not_replaced() -> None:
    """Who names one gets that one or none, until they ask for the order again."""
    machine = connected()
    machine.settle(Connect("work"))
    machine.silent = {"work"}
    machine.wait(600.0)

    assert carrier(machine) == "work"
    assert "no-handshake" in problems(machine)

    machine.settle(Connect())
    until(machine, "home", deadline_s=20)


def test_it_is_gone_back_to() -> None:
    """When the better gateway answers again, on a link beside, it carries again; the other one goes on until then."""
    machine = connected(ORDER, "work")
    machine.silent = set()
    done = len(machine.done)

    until(machine, "work", deadline_s=60)
    beside = [a.wish for a in machine.done[done:] if isinstance(a, EnsureTunnel) and a.wish.link_name == "aovpn1"]
    assert [wish.state for wish in beside] == [LinkWish.DOWN, LinkWish.UP]
    assert all(not wish.spec.addresses for wish in beside)
    assert [state.link.name for state in machine.snapshot.tunnels] == ["aovpn0"]
    assert problems(machine) == {}


def test_connected_since_the_change() -> None:
    """Who carries now has its own time and its own counters, though it answers before anybody looks."""
    machine = connected(ORDER, "work")
    first = (machine.intent.connected_at, machine.intent.counted_from)
    machine.silent = set()
    until(machine, "work", deadline_s=60)
    (state,) = machine.snapshot.tunnels

    assert first[0] is not None
    assert machine.intent.connected_at is not None
    assert machine.intent.connected_at > first[0] + 10
    assert machine.intent.counted_from > first[1]
    assert state.put_bytes - machine.intent.counted_from[1] < 10_000


def test_a_trial_in_vain_costs_the_tunnel_nothing() -> None:
    """While the better gateway is asked and does not answer, the other one carries without a break, ever longer."""
    machine = connected(ORDER, "work")
    began = machine.intent.connected_at
    tries: list[float] = []

    def watch(machine: Laptop) -> None:
        last = machine.done[-1]
        if isinstance(last, EnsureTunnel) and last.wish.link_name == "aovpn1" and last.wish.state is LinkWish.DOWN:
            tries.append(machine.snapshot.now.boot)

    machine.watch = watch
    for _ in range(48):
        machine.wait(300.0)
    waits = [after - before for before, after in pairwise(tries)]

    assert machine.intent.connected_at == began
    assert 6 <= len(tries) <= 12
    assert all(after > before for before, after in pairwise(waits) if before < 2000)
    assert all(wait <= failover.LAST_BACKOFF_S * 1.25 + failover.TRIAL_S + 20 for wait in waits)


def test_nothing_flaps() -> None:
    """A gateway that answers trials and dies as soon as it carries is gone back to ever more seldom."""
    machine = connected(ORDER, "work")
    moves, seconds, before = 0, 0, carrier(machine)
    while seconds < 3600:
        machine.silent = {"work"} if carrier(machine) == "work" else set()
        machine.wait(5.0)
        seconds += 5
        if carrier(machine) != before:
            moves, before = moves + 1, carrier(machine)

    assert 4 <= moves <= 16


def test_asking_again_tries_the_better_one_at_once() -> None:
    """``connect`` without a name, while another one carries: the better one is asked now, and idleness is no excuse."""
    machine = connected(ORDER, "work")
    machine.silent, machine.busy = set(), False
    machine.settle(Connect())

    assert until(machine, "work", deadline_s=3) <= 1


def test_who_fails_often_is_left_as_soon() -> None:
    """While another tunnel is well, a gateway that fails again and again gets no more patience than the first time."""
    machine = connected(PROBED, "work")
    for _ in range(5):
        machine.silent = set()
        machine.settle(Connect())
        until(machine, "work", deadline_s=3)
        machine.wait(6.0)
        machine.silent = {"work"}
        assert until(machine, "home", deadline_s=30) < 17


def test_a_clean_record_after_ten_minutes() -> None:
    """A tunnel that lasts is forgiven; before that its record stays, so that its next failure weighs double."""
    machine = connected(ORDER, "work")
    machine.silent = set()
    until(machine, "work", deadline_s=60)

    assert machine.intent.gateways.entry("work") is not None
    machine.wait(failover.STABLE_S + 30)
    assert machine.intent.gateways.entry("work") is None


def test_nobody_answers() -> None:
    """They take turns, and each one that comes back is found."""
    machine = Laptop(replace(ORDER, prefer=("work", "home", "third")))
    machine.answers = False
    machine.join("home")
    machine.settle()
    seen = set()
    for _ in range(300):
        machine.wait(1.0)
        seen.add(carrier(machine))

    assert seen == {"work", "home", "third"}
    assert machine.phase is Phase.CONNECTING
    machine.answers, machine.silent = True, {"work", "third"}
    until(machine, "home", deadline_s=150)


def test_another_network_is_another_chance() -> None:
    """What was silent at home may answer in the café: it is tried there at once, beside the one that carries."""
    machine = connected(ORDER, "work")
    machine.wait(120.0)
    machine.silent = set()
    machine.join("cafe")
    machine.settle()

    assert until(machine, "work", deadline_s=10) < 6


def test_a_restart_goes_on_with_what_carries() -> None:
    """The daemon after us keeps the tunnel that was connected over this path, although it is not the first."""
    machine = connected(ORDER, "work")
    assert machine.intent.provoked is not None
    proved = machine.intent.provoked.path.fingerprint()
    machine.restart()
    machine.intent = replace(machine.intent, proved=proved)
    done = len(machine.done)
    machine.settle()

    assert carrier(machine) == "home"
    assert machine.phase is Phase.CONNECTED
    assert not any(isinstance(action, EnsureTunnel) and action.wish.spec is HOME for action in machine.done[done:])


@pytest.mark.parametrize("new", [ROTATED, replace(WORK, private_key=Secret("k")), tunnel("work", ENDPOINT4)])
def test_a_new_key_for_the_same_file(new: object) -> None:
    """A file that changes is given to the link in place: it stays up, with its index, its routes and its permit."""
    machine = connected(Config((WORK,)))
    (before,) = machine.snapshot.tunnels
    done = len(machine.done)
    machine.config = replace(machine.config, tunnels=(new,))  # type: ignore[arg-type]
    machine.settle()
    machine.wait(1.0)
    (after,) = machine.snapshot.tunnels

    assert after.link == before.link
    assert machine.phase is Phase.CONNECTED
    for action in machine.done[done:]:
        assert isinstance(action, LoadRuleset | EnsureTunnel | CloseSockets), action
        if isinstance(action, EnsureTunnel):
            assert action.wish.state is LinkWish.UP


def test_what_somebody_else_changed_is_not_kept() -> None:
    """A link that is neither as its file says nor as it was made is taken down: only what was verified is trusted."""
    machine = connected(Config((WORK,)))
    (state,) = machine.snapshot.tunnels
    machine.snapshot = replace(machine.snapshot, tunnels=(replace(state, digest=HOME.digest()),))
    machine.config = replace(machine.config, tunnels=(ROTATED,))
    done = len(machine.done)
    machine.settle()

    first = next(action for action in machine.done[done:] if isinstance(action, EnsureTunnel))
    assert first.wish.state is LinkWish.DOWN


def test_backoff() -> None:
    """Doubled every time up to an hour, a quarter more or less, the same for the same machine."""
    spans = [failover.backoff("work", times, seed=7) for times in range(1, 12)]

    assert all(0.75 * 30 * 2**n <= span <= 1.25 * 30 * 2**n for n, span in enumerate(spans[:7]))
    assert all(2700 <= span <= 4500 for span in spans[7:])
    assert spans == [failover.backoff("work", times, seed=7) for times in range(1, 12)]
    assert len({failover.backoff("work", 1, seed) for seed in range(50)}) > 40


def test_the_order_is_what_is_remembered_of() -> None:
    """Tunnels that are no longer of the order are forgotten, and disconnecting forgets all."""
    machine = connected(ORDER, "work")
    machine.config = replace(ORDER, prefer=("home",))
    machine.settle()
    assert machine.intent.gateways.left == ()

    machine.intent = replace(
        machine.intent, gateways=Gateways("home", (Left("work", Why.SILENT, 0, 0),), Trial("x", 0))
    )
    machine.config = Config()
    machine.settle()
    assert (machine.intent.gateways.carrier, machine.intent.gateways.left) == (None, ())


def test_what_is_not_configured_is_not_remembered() -> None:
    """A link without keys, or without our mark, is nobody's former self: nothing is given to it in place."""
    state = state_of(WORK)

    assert as_made(state, (), EVERYBODY) is not None
    assert as_made(replace(state, digest=None), (), EVERYBODY) is None
    assert as_made(replace(state, fwmark=0), (), EVERYBODY) is None
