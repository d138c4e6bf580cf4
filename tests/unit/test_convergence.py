# SPDX-License-Identifier: GPL-3.0-or-later
"""Wherever it starts and wherever it is killed, the loop comes to rest, soon, and in the same place."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_interface
from itertools import chain, product
from typing import Final

import pytest

from aovpnd import names
from aovpnd.core.decide import decide
from aovpnd.core.plan import diff
from aovpnd.ipsec import IKE_BACKEND
from aovpnd.links import Link
from aovpnd.model import Block, Config, Lan, LinkWish, Phase, TunnelState
from aovpnd.orders import (
    AllowTemporary,
    CloseSockets,
    Command,
    Disconnect,
    EnsureCopies,
    EnsureDns,
    EnsureGuard,
    EnsureRouting,
    EnsureTunnel,
    KeepConfirmation,
    LoadRuleset,
    MarkUnblocked,
    RemoveTunnel,
    SetBlock,
)
from aovpnd.ruleset import Device, Hook, Ruleset, Verdict
from aovpnd.trace import verdict
from tests.unit import spec
from tests.unit.packets import DEVICES, LEAVING, by_link
from tests.unit.small_companions import MGMT, few_accompanied
from tests.unit.small_users import few_divided
from tests.unit.small_world import AOVPN, CORP, HOME, ROTATED, WORK, Situation, main_situations, sampled, state_of
from tests.unit.world import Laptop

IN_REACH: Final = frozenset({"private", "two", "public prefix, global IPv6 gateway", "IPv6 alone, gateway off-link"})
ORDER: Final = (
    LoadRuleset,
    EnsureCopies,
    RemoveTunnel,
    EnsureTunnel,
    EnsureRouting,
    CloseSockets,
    EnsureGuard,
    MarkUnblocked,
    KeepConfirmation,
    EnsureDns,
)


def _starts() -> list[Situation]:
    """Every situation that differs in what the loop does; a link of the wrong kind is no tunnel state (backends)."""
    return [
        situation
        for situation in sampled(main_situations(), 3)
        if (situation.guests, situation.lan, situation.resolvers) == ("docker0", Lan.BLOCK, "given")
        and situation.wish
        in {"no tunnel", "one tunnel", "one tunnel of IKE", "disconnected", "two, one preferred", "unblocked"}
        and situation.grant in {"none", "alive", "other gateway"}
        and situation.tunnel != "other kind"
    ]


def laptop(situation: Situation) -> Laptop:
    """A laptop that starts in a situation."""
    world = situation.world()
    return Laptop(world.config, world.intent, world.snapshot)


def test_rest_is_reached_from_everywhere() -> None:
    """In few passes, after which another pass does nothing; with a network and a gateway, the tunnel is up soon."""
    for situation in _starts():
        machine = laptop(situation)
        machine.settle()
        done = len(machine.done)
        machine.look()
        assert len(machine.done) == done, situation

        machine.wait(25.0)
        chosen = situation.wish in {"one tunnel", "one tunnel of IKE", "two, one preferred"}
        if chosen and situation.uplinks in IN_REACH and situation.grant != "alive":
            assert machine.phase is Phase.CONNECTED, (situation, machine.phase)
        elif situation.wish == "unblocked":
            assert machine.snapshot.ruleset is None
            assert machine.snapshot.tunnels == ()


def test_rest_is_reached_with_companions() -> None:
    """The same, from wherever tunnels stand side by side."""
    for accompanied in chain(few_accompanied(), few_divided()):
        world = accompanied.world()
        machine = Laptop(world.config, world.intent, world.snapshot)
        machine.settle()
        done = len(machine.done)
        machine.look()
        assert len(machine.done) == done, accompanied


ODD_STATES: Final = {
    "down, other fwmark": replace(state_of(WORK, replace(AOVPN, up=False)), fwmark=0),
    "down, other address": replace(state_of(WORK, replace(AOVPN, up=False)), addresses=(ip_interface("10.64.0.3/32"),)),
    "down, other key": state_of(HOME, replace(AOVPN, up=False)),
    "down, silent": TunnelState(replace(AOVPN, up=False), "user space", None, None, 0, ()),
    "up, silent": TunnelState(AOVPN, "user space", None, None, 0, ()),
    "a second one": state_of(WORK, replace(AOVPN, index=10, name="aovpn1")),
}


@pytest.mark.parametrize("name", ODD_STATES)
def test_odd_tunnels_are_mended(name: str) -> None:
    """Whatever somebody did to our link, it is made right, and the tunnel comes up by it."""
    odd = ODD_STATES[name]
    machine = Laptop(Config((WORK,)))
    machine.snapshot = replace(machine.snapshot, tunnels=(odd,), links=(*machine.snapshot.links, odd.link))
    machine.join("home")

    machine.wait(5.0)

    assert machine.phase is Phase.CONNECTED
    assert len(machine.snapshot.tunnels) == 1


def test_kernel_without_ipv6() -> None:
    """Where the kernel speaks no IPv6, a tunnel that has IPv6 addresses too comes up with the others."""
    machine = Laptop(Config((WORK,)))
    machine.snapshot = replace(machine.snapshot, ipv6=False)
    machine.join("home")

    machine.wait(5.0)

    assert machine.phase is Phase.CONNECTED
    assert machine.snapshot.routing.rules == (4,)
    assert {route.dst.version for route in machine.snapshot.routing.routes} == {4}


def test_foreign_link_with_our_name() -> None:
    """A link of somebody else's that is called aovpn0 is left alone; ours takes the next name."""
    machine = Laptop(Config((WORK,)))
    foreign = Link(40, "aovpn0", "dummy")
    machine.snapshot = replace(machine.snapshot, links=(*machine.snapshot.links, foreign))
    machine.join("home")

    machine.wait(5.0)

    assert machine.phase is Phase.CONNECTED
    assert [state.link.name for state in machine.snapshot.tunnels] == ["aovpn1"]
    assert foreign in machine.snapshot.links


# -- killed in the middle ----------------------------------------------------------------------------------------------
def _gateway_gone(machine: Laptop) -> None:
    """The gateway that carries goes, and there is another one in the order."""
    machine.config = replace(machine.config, tunnels=(WORK, HOME), prefer=("work", "home"))
    machine.silent = {"work"}
    machine.wait(40.0)


def _gateway_back(machine: Laptop) -> None:
    """The better gateway is there again while the other one carries, and is about to be asked."""
    machine.config = replace(machine.config, tunnels=(WORK, HOME), prefer=("home", "work"))


def _new_key(machine: Laptop) -> None:
    """The tunnel's file has another key."""
    machine.config = replace(machine.config, tunnels=(ROTATED,))


EVENTS: Final[dict[str, Callable[[Laptop], None]]] = {
    "first start": lambda machine: machine.join("home"),
    "flush": Laptop.flush,
    "other network": lambda machine: machine.join("cafe"),
    "second network": lambda machine: machine.join("cafe", "eth0"),
    "network gone": lambda machine: machine.leave("wlan0"),
    "tunnel link deleted": lambda machine: machine.lose_link("aovpn0"),
    "restart": lambda machine: machine.restart(),
    "gateway gone": _gateway_gone,
    "better gateway back": _gateway_back,
    "new key": _new_key,
    "reboot": lambda machine: machine.restart(reboot=True),
}
COMMANDS: Final[dict[str, Command | None]] = {
    "nothing": None,
    "disconnect": Disconnect(),
    "allow-temp": AllowTemporary(60),
    "unblock": SetBlock(Block.OFF),
}


ONE: Final = Config((WORK,))
IKE: Final = Config((CORP,))
BESIDE: Final = Config((MGMT, WORK), prefer=("work",), companions=("mgmt",))


def _connected(config: Config = ONE) -> Laptop:
    machine = Laptop(config)
    machine.join("home")
    machine.wait(5.0)
    assert machine.phase is Phase.CONNECTED
    return machine


OF_IKE: Final = ("first start", "other network", "tunnel link deleted", "restart", "new key")
"""Events with which a tunnel of IKE has to do in its own way; the last one replaces it by WireGuard."""
OF_TWO: Final = ("first start", "other network", "tunnel link deleted", "restart")
"""Events with which a tunnel and one beside it have to do."""


@pytest.mark.parametrize(
    ("event", "command", "config"),
    [
        *(pytest.param(*case, ONE, id="-".join(case)) for case in product(EVENTS, COMMANDS)),
        *(pytest.param(event, "nothing", IKE, id=f"{event}-IKE") for event in OF_IKE),
        *(pytest.param(event, "nothing", BESIDE, id=f"{event}-companion") for event in OF_TWO),
    ],
)
def test_killed_after_every_prefix(event: str, command: str, config: Config) -> None:
    """Killed after any number of actions of any pass and started again, it comes to rest where it would have anyway."""
    straight = _prepared(event, config)
    straight.settle(COMMANDS[command])
    straight.wait(100.0)
    for passes, actions in product(range(3), range(5)):
        machine = _prepared(event, config)
        for number in range(passes):
            machine.look(COMMANDS[command] if number == 0 else None)
        machine.look(COMMANDS[command] if passes == 0 else None, stop_after=actions)
        machine.restart()
        machine.settle()
        machine.wait(100.0)

        if command == "unblock" and not machine.snapshot.unblocked:
            machine.settle(SetBlock(Block.OFF))  # killed before it was remembered: it must be asked for again
        if command == "disconnect" and straight.phase is not machine.phase:
            machine.settle(Disconnect())
        assert _where(machine) == _where(straight), (passes, actions)


def _prepared(event: str, config: Config = ONE) -> Laptop:
    machine = Laptop(config) if event == "first start" else _connected(config)
    EVENTS[event](machine)
    return machine


def _where(machine: Laptop) -> tuple[object, ...]:
    """Where the laptop has come to rest; indexes and counters aside."""
    seen = machine.snapshot
    phase = machine.phase
    routes = [(str(route.dst), route.link is None, route.metric) for route in seen.routing.routes]
    # A link without addresses is a trial's, which comes and goes with the time.
    up = [(state.link.name, state.link.up, state.digest) for state in seen.tunnels if state.addresses]
    names = (seen.dns.dns.servers if seen.dns.dns is not None else None, seen.dns.astray)
    return (phase, seen.ruleset is None, up, routes, seen.routing.rules, seen.guard, seen.unblocked, names)


# -- every prefix -----------------------------------------------------------------------------------------------------
def test_the_lock_moves_first() -> None:
    """In every plan, the actions stand in the one safe order."""
    for situation in _starts():
        world = situation.world()
        snapshot = world.snapshot
        actions = diff(decide(world.config, world.intent, snapshot), snapshot)
        places = [ORDER.index(type(action)) for action in actions]

        assert places == sorted(places), situation
        assert sum(isinstance(action, LoadRuleset) for action in actions) <= 1


def test_every_prefix_is_covered() -> None:
    """After every prefix of every plan, the loaded ruleset covers what is there: all that it lets out, the page does.

    Before its first action, the loaded ruleset is the old one and nothing else has changed either.
    """
    cases: list[tuple[str, str, Config]] = [(*case, ONE) for case in product(EVENTS, COMMANDS)]
    cases += [(event, "nothing", IKE) for event in OF_IKE]
    cases += [(event, "nothing", BESIDE) for event in OF_TWO]
    for event, command, config in sampled(cases, 3):
        machine = _prepared(event, config)
        machine.watch = _check_cover
        machine.settle(COMMANDS[command])
        machine.wait(100.0)


def _check_cover(machine: Laptop) -> None:
    """What a laptop's tables must be like after any action."""
    snapshot = machine.snapshot
    table = snapshot.ruleset
    desired = decide(machine.config, machine.intent, snapshot)
    if desired.ruleset is None:
        return
    assert table is not None, "the ruleset is loaded before anything else"
    last = machine.done[-1]
    if isinstance(last, EnsureTunnel) and last.wish.state is LinkWish.UP:
        link = next(link for link in snapshot.links if link.name == last.wish.link_name)
        on_trial = not last.wish.spec.addresses and last.wish.spec.name != _carrier(machine)
        known = _names(table, spec.device_of(link))
        assert known is not on_trial or not link.up, (
            f"{link} was set up and the ruleset does not know it, or knows one on trial"
        )
    for route in snapshot.routing.routes:
        if route.metric == names.TUNNEL_METRIC:
            assert route.link in {state.link.index for state in snapshot.tunnels if state.link.up and _carries(state)}
    granted_in = snapshot if machine.intent.grant is not None else None
    reading = spec.read(spec.World(machine.config, machine.intent, snapshot, granted_in))
    for device in DEVICES[:9]:
        for packet in by_link(LEAVING, None, device):
            if verdict(table, Hook.POSTROUTING, packet, snapshot.now.boot)[0] is Verdict.ACCEPT:
                assert spec.allowed(reading, packet, spec.Way.OUT, snapshot.now.boot), packet


def _carries(state: TunnelState) -> bool:
    """Not beside, where there are no addresses; one of IKE is routed to before it has any, so that packets wait."""
    return bool(state.addresses) or state.backend == IKE_BACKEND


def _carrier(machine: Laptop) -> str:
    """The tunnel that carries; one of IKE has no addresses until it is given some."""
    world = spec.World(machine.config, machine.intent, machine.snapshot)
    chosen = spec.chosen_tunnel(world)
    return chosen.name if chosen is not None else ""


def _names(table: Ruleset, device: Device) -> bool:
    rules = table.chain("postrouting").rules
    return any(rule.match.oif == device and rule.verdict is Verdict.ACCEPT for rule in rules)
