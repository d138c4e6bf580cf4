# SPDX-License-Identifier: GPL-3.0-or-later
"""A tunnel on demand: when it rests, what ends its rest, and that nothing of ours is sent meanwhile."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from aovpnd import destinations
from aovpnd.adapters.publish import Runtime
from aovpnd.backends import ikegiven
from aovpnd.core.answers import answer
from aovpnd.core.decide import decide, permitted
from aovpnd.core.picture import Picture
from aovpnd.doors import WhileConnected
from aovpnd.errors import ToolError
from aovpnd.gateways import Gateways, Left, Rest, Why
from aovpnd.inquiries import Host
from aovpnd.ipsec import Given, Lease
from aovpnd.model import Config, Intent, Phase, TemporaryAccessPolicy
from aovpnd.orders import AllowTemporary, Connect, Disconnect, EnsureTunnel, Explain, SignedIn
from aovpnd.resting import Queue, Rested, Shake
from aovpnd.tunnel import HostPort
from aovpnd.wake import Wake
from tests.unit.small_world import CORP, GIVEN, GIVEN_ANEW, HOME, NOW, WORK
from tests.unit.world import Laptop

REST_S: Final = 60
CONFIGS: Final = {
    "wireguard": Config((WORK,), on_demand=("work",), rest_after_s=REST_S),
    "ike": Config((CORP,), on_demand=("corp",), rest_after_s=REST_S),
}


def at(machine: Laptop) -> Phase:
    """The phase now; a function, so that nobody takes it for what it was before."""
    return machine.phase


def connected(config: Config) -> Laptop:
    """A laptop that is connected at home, whose programs have just gone silent."""
    machine = Laptop(config)
    machine.join("home")
    machine.wait(5.0)
    assert at(machine) is Phase.CONNECTED
    machine.busy = False
    return machine


def asleep(config: Config) -> Laptop:
    """The same, at rest."""
    machine = connected(config)
    machine.wait(2.0 * REST_S)
    assert at(machine) is Phase.RESTING
    machine.done.clear()
    return machine


@pytest.fixture(params=CONFIGS)
def machine(request: pytest.FixtureRequest) -> Laptop:
    """A laptop whose tunnel, of either kind, rests."""
    return asleep(CONFIGS[request.param])


def send(machine: Laptop) -> None:
    """A program puts a packet into the tunnel's link."""
    tunnels = tuple(replace(state, tries=state.tries + 1) for state in machine.snapshot.tunnels)
    machine.snapshot = replace(machine.snapshot, tunnels=tunnels)


def shakes(machine: Laptop) -> list[Shake]:
    """What was asked of the tunnel since."""
    actions = (action for action in machine.done if isinstance(action, EnsureTunnel) and action.wish.path is not None)
    return [action.wish.shake for action in actions]


# -- when it rests -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", CONFIGS)
def test_rests_when_nobody_sends(name: str) -> None:
    """Not before its time, which begins with the last packet; then its session is given up, once."""
    machine = connected(CONFIGS[name])
    machine.done.clear()
    machine.wait(REST_S - 10.0)
    assert (at(machine), shakes(machine)) == (Phase.CONNECTED, [])
    send(machine)
    machine.wait(REST_S - 10.0)
    assert at(machine) is Phase.CONNECTED
    machine.wait(50.0)
    assert (at(machine), shakes(machine)) == (Phase.RESTING, [Shake.WANTED])


def test_does_not_rest_while_programs_send() -> None:
    """Whoever sends keeps it up, and so does whoever is sent to."""
    machine = connected(CONFIGS["wireguard"])
    machine.busy = True
    machine.wait(10.0 * REST_S)
    assert at(machine) is Phase.CONNECTED
    machine.busy = False
    for _ in range(20):
        machine.wait(REST_S / 4)
        tunnels = tuple(replace(state, got_bytes=state.got_bytes + 100) for state in machine.snapshot.tunnels)
        machine.snapshot = replace(machine.snapshot, tunnels=tunnels)
        machine.settle()
    assert at(machine) is Phase.CONNECTED


@pytest.mark.parametrize(
    "config",
    [
        replace(CONFIGS["wireguard"], on_demand=()),
        replace(CONFIGS["wireguard"], on_demand=("home",)),
        replace(
            CONFIGS["wireguard"],
            tunnels=(replace(WORK, peers=tuple(replace(peer, keepalive_s=25) for peer in WORK.peers)),),
        ),
    ],
    ids=["nobody asked for it", "another one is on demand", "a keepalive never rests"],
)
def test_never_rests(config: Config) -> None:
    """Only what is on demand, and can be."""
    machine = connected(config)
    machine.wait(10.0 * REST_S)
    assert at(machine) is Phase.CONNECTED


def test_contradiction_is_told() -> None:
    """One that can never rest, and one that stands beside, are problems; one that is not there is the order's."""
    kept = replace(WORK, peers=tuple(replace(peer, keepalive_s=25) for peer in WORK.peers))
    narrow = replace(HOME, addresses=(), peers=(replace(HOME.peers[0], allowed=()),))
    config = Config((kept, narrow), prefer=("work",), companions=("home",), on_demand=("work", "home", "gone"))
    machine = connected(config)
    found = [(p.code, p.severity) for p in machine.settle().problems if p.code == "never-rests"]
    assert found == [("never-rests", "warning"), ("never-rests", "info")]


def test_is_known_to_work_before_it_rests() -> None:
    """Without an answer there is no rest, however long nobody sends: it is tried as any other."""
    machine = Laptop(CONFIGS["ike"], answers=False, busy=False)
    machine.join("home")
    machine.wait(10.0 * REST_S)
    assert at(machine) is Phase.CONNECTING
    machine.answers = True
    while at(machine) is not Phase.CONNECTED:
        machine.wait(1.0)
    machine.wait(REST_S - 10.0)
    assert at(machine) is Phase.CONNECTED  # a rest begins with the last packet or the connection, not before


@pytest.mark.parametrize("name", CONFIGS)
def test_does_not_rest_in_a_pause(name: str) -> None:
    """Who has paused the tunnel finds it as it was."""
    access = TemporaryAccessPolicy(while_connected=WhileConnected.PAUSE)
    machine = connected(replace(CONFIGS[name], temporary_access=access))
    machine.settle(AllowTemporary(600))
    machine.done.clear()
    machine.wait(5.0 * REST_S)
    assert (at(machine), machine.intent.rest, shakes(machine)) == (Phase.TEMPORARY_ACCESS, None, [])


# -- at rest -----------------------------------------------------------------------------------------------------------
def test_nothing_is_asked_at_rest(machine: Laptop) -> None:
    """Hours long, with a gateway that is off by then: no handshake, probe, look-up, measurement, and no problem."""
    machine.answers = False
    before = (list(machine.asked), list(machine.measured), list(machine.looked_up))
    desired = machine.wait(6 * 3600.0)

    assert (at(machine), machine.done) == (Phase.RESTING, [])
    assert (machine.asked, machine.measured, machine.looked_up) == before
    assert desired.problems == ()
    assert desired.wake_at is None
    assert desired.rouse is not None


@pytest.mark.parametrize("name", CONFIGS)
def test_the_same_may_pass_as_when_connected(name: str) -> None:
    """Ruleset, routes, name servers, the link with its addresses: a rest changes none of it."""
    machine = connected(CONFIGS[name])
    before, allowed = machine.settle(), permitted(machine.config, machine.intent, machine.snapshot)
    machine.wait(2.0 * REST_S)
    after = machine.settle()

    assert (before.phase, after.phase) == (Phase.CONNECTED, Phase.RESTING)
    assert permitted(machine.config, machine.intent, machine.snapshot) == allowed
    assert (after.ruleset, after.routing, after.dns, after.sweep) == (before.ruleset, before.routing, before.dns, None)
    assert after.tunnels == before.tunnels


def test_roaming_sends_nothing(machine: Laptop) -> None:
    """The new path is noted, and nobody shakes hands over it; nor while there was no network."""
    for site in ("cafe", "home"):
        machine.leave()
        machine.settle()
        assert at(machine) is Phase.OFFLINE
        machine.wait(20.0)
        machine.join(site)
        machine.wait(20.0)
        assert at(machine) is Phase.RESTING
    assert shakes(machine) == [Shake.WANTED] * 2


def test_sleep_wakes_nothing(machine: Laptop) -> None:
    """A machine that wakes finds its tunnel at rest."""
    now = machine.snapshot.now
    machine.snapshot = replace(machine.snapshot, now=replace(now, boot=now.boot + 9000, slept_s=now.slept_s + 9000))
    machine.wait(20.0)
    assert (at(machine), shakes(machine)) == (Phase.RESTING, [])


def test_no_fail_over_at_rest() -> None:
    """No better tunnel is tried, none is left, and none that this network does not lead to."""
    order = Config((WORK, HOME), prefer=("home", "work"), on_demand=("work",), rest_after_s=REST_S)
    machine = Laptop(order, silent={"home"})
    machine.join("home")
    machine.wait(30.0)
    assert (at(machine), machine.intent.gateways.carrier) == (Phase.CONNECTED, "work")
    machine.busy = False
    machine.wait(4.0 * REST_S)
    assert at(machine) is Phase.RESTING
    machine.done.clear()
    machine.wait(4 * 3600.0)
    assert (at(machine), machine.done) == (Phase.RESTING, [])
    machine.busy = True
    machine.silent = set()
    machine.wait(30.0)
    assert (at(machine), machine.intent.gateways.carrier) == (Phase.CONNECTED, "home")


def test_no_name_is_looked_up_at_rest() -> None:
    """Not even on another network, where the known address may not be right: the next packet is soon enough."""
    named = replace(WORK, peers=(replace(WORK.peers[0], endpoint=None, host=HostPort("vpn.example.org", 51820)),))
    machine = Laptop(replace(CONFIGS["wireguard"], tunnels=(named,)))
    machine.names = {"vpn.example.org": (WORK.peers[0].endpoint.addr,)} if WORK.peers[0].endpoint else {}
    machine.join("home")
    machine.wait(5.0)
    machine.busy = False
    machine.wait(2.0 * REST_S)
    assert at(machine) is Phase.RESTING
    asked = len(machine.looked_up)
    machine.leave()
    machine.settle()
    machine.join("cafe")
    machine.intent = replace(machine.intent, hosts=(Host("vpn.example.org"),))
    machine.wait(60.0)
    assert (at(machine), len(machine.looked_up)) == (Phase.RESTING, asked)


# -- what ends it ------------------------------------------------------------------------------------------------------
def test_a_packet_wakes_it(machine: Laptop) -> None:
    """It is connected again as soon as somebody looks, and what it could not take counts as well."""
    send(machine)
    machine.wait(3.0)
    assert at(machine) is Phase.CONNECTED
    # WireGuard has shaken hands by itself, and is not asked to forget the packet that waits.
    assert shakes(machine) == ([] if machine.config is CONFIGS["wireguard"] else [Shake.NOW])


def test_what_waited_is_let_go() -> None:
    """What an IKE tunnel is sent at rest waits, and goes as soon as there is an SA for it; not before, and once."""
    machine = asleep(CONFIGS["ike"])
    (state,) = machine.snapshot.tunnels
    assert state.queue is Queue.HELD
    machine.answers = False
    send(machine)
    machine.wait(3.0)
    reasons = [action.reason for action in machine.done if isinstance(action, EnsureTunnel)]
    assert "let go what waited" not in reasons
    machine.answers = True
    machine.wait(10.0)
    reasons = [action.reason for action in machine.done if isinstance(action, EnsureTunnel)]
    assert reasons.count("let go what waited") == 1
    (state,) = machine.snapshot.tunnels
    assert (state.queue, at(machine)) == (Queue.OPEN, Phase.CONNECTED)


def test_a_packet_after_a_roam_wakes_it(machine: Laptop) -> None:
    """On the new path as on the old one."""
    machine.leave()
    machine.settle()
    machine.join("cafe")
    machine.wait(5.0)
    send(machine)
    machine.wait(3.0)
    assert at(machine) is Phase.CONNECTED
    assert shakes(machine).count(Shake.NOW) == (0 if machine.config is CONFIGS["wireguard"] else 1)


def test_a_gateway_that_is_off_is_noticed_then(machine: Laptop) -> None:
    """It is tried as any other that does not come up, and somebody is told."""
    machine.answers = False
    send(machine)
    machine.wait(60.0)
    assert at(machine) is Phase.CONNECTING
    assert {"no-handshake", "nothing-sent"} & {problem.code for problem in machine.settle().problems}
    assert Shake.NOW in shakes(machine)


@pytest.mark.parametrize("command", [Connect(), AllowTemporary(60), SignedIn("")])
def test_a_command_wakes_it(machine: Laptop, command: Connect | AllowTemporary | SignedIn) -> None:
    """Who asks for the tunnel, or for the network, or signs in, wants it now; and a window ends as it comes up."""
    (spec,) = machine.config.tunnels
    machine.settle(SignedIn(spec.name) if isinstance(command, SignedIn) else command)
    machine.wait(3.0)
    assert (at(machine), machine.intent.grant) == (Phase.CONNECTED, None)


def test_a_window_ends_the_rest(machine: Laptop) -> None:
    """A window may be asked for at rest, as it may while the tunnel is not up: nobody knows whether it would be."""
    machine.answers = False
    machine.settle(AllowTemporary(60))
    machine.wait(5.0)
    assert (at(machine), machine.intent.rest) == (Phase.TEMPORARY_ACCESS, None)
    machine.wait(120.0)
    assert at(machine) is Phase.CONNECTING


def test_what_else_ends_it(machine: Laptop) -> None:
    """A link made anew has to show that it works; who disconnects has no tunnel that could rest."""
    (state,) = machine.snapshot.tunnels
    machine.lose_link(state.link.name)
    machine.wait(5.0)
    assert at(machine) is Phase.CONNECTED
    machine.wait(2.0 * REST_S)
    machine.settle(Disconnect())
    assert (at(machine), machine.intent.rest) == (Phase.BLOCKED, None)


@pytest.mark.parametrize("name", CONFIGS)
def test_configuration_ends_it(name: str) -> None:
    """One that is no longer on demand, and one with another key."""
    machine = asleep(CONFIGS[name])
    machine.config = replace(machine.config, on_demand=())
    machine.wait(5.0)
    assert at(machine) is Phase.CONNECTED


def test_the_gateway_wakes_it() -> None:
    """A handshake that WireGuard's other side has asked for is a session as any other."""
    machine = asleep(CONFIGS["wireguard"])
    machine.lulled.clear()
    machine.wait(5.0)
    assert at(machine) is Phase.CONNECTED


# -- after a crash -----------------------------------------------------------------------------------------------------
def crash(machine: Laptop) -> Rested | None:
    """The daemon dies; returns what it has kept of the rest."""
    rest = machine.intent.rest
    kept = Rested(rest.path.fingerprint(), rest.tries) if rest is not None and rest.path is not None else None
    machine.restart()
    machine.intent = replace(machine.intent, rested=kept)
    machine.done.clear()
    return kept


def test_rests_on_after_a_crash(machine: Laptop) -> None:
    """The next daemon goes on resting; a packet wakes it as ever."""
    assert crash(machine) is not None
    machine.wait(30.0)
    assert (at(machine), shakes(machine), machine.intent.rested) == (Phase.RESTING, [], None)
    send(machine)
    machine.wait(3.0)
    assert at(machine) is Phase.CONNECTED


def test_what_was_sent_meanwhile_wakes_it(machine: Laptop) -> None:
    """A packet while there was no daemon is not forgotten."""
    crash(machine)
    send(machine)
    machine.wait(5.0)
    assert at(machine) is Phase.CONNECTED


@pytest.mark.parametrize("change", ["roamed", "no longer on demand", "nothing was kept"])
def test_another_rest_is_not_taken_over(machine: Laptop, change: str) -> None:
    """On another path, or without the wish for it, the tunnel connects as ever."""
    crash(machine)
    if change == "roamed":
        machine.leave()
        machine.join("cafe")
    elif change == "no longer on demand":
        machine.config = replace(machine.config, on_demand=())
    else:
        machine.intent = replace(machine.intent, rested=None)
    machine.wait(5.0)
    assert at(machine) is Phase.CONNECTED


def test_rest_is_kept_for_the_next_daemon(tmp_path: Path) -> None:
    """One that is killed leaves word, one that ends as it should leaves none, and damage counts as none."""
    rested = Rested("0123456789abcdef0123456789abcdef", 1 << 60)
    first = Runtime(tmp_path)
    assert first.rested() is None
    first.rest(rested)
    first.close()
    second = Runtime(tmp_path)
    assert second.rested() == rested
    second.end()
    third = Runtime(tmp_path)
    assert third.rested() is None
    (tmp_path / "rest").write_text("0123 many", encoding="ascii")
    assert third.rested() is None
    assert not (tmp_path / "rest").exists()
    third.rest(rested)
    third.rest(None)
    assert not (tmp_path / "rest").exists()
    third.close()


def test_what_was_given_is_kept(tmp_path: Path) -> None:
    """What a gateway gave outlives the daemon; what is damaged was never given."""
    place = tmp_path / "kept"
    assert ikegiven.kept(place) is None
    ikegiven.keep(place, "digest", GIVEN)
    assert ikegiven.kept(place) == ("digest", Given(GIVEN.addresses, GIVEN.dns, Lease.OVER))
    place.write_text('{"digest": "digest", "addresses": ["nowhere"], "dns": []}', encoding="ascii")
    assert ikegiven.kept(place) is None
    with pytest.raises(ToolError):
        ikegiven.keep(tmp_path / "kept" / "below", "digest", GIVEN_ANEW)


def test_explain_says_that_it_rests(machine: Laptop) -> None:
    """A packet goes the way that it would go."""
    (spec,) = machine.config.tunnels
    desired = machine.settle()
    seen = Picture(machine.config, machine.intent, machine.snapshot, desired, ())
    said = answer(Explain(destinations.parse("203.0.113.80")), seen)
    assert said.text == (
        f"203.0.113.80:443/tcp leaves through the tunnel {spec.name} (aovpn0), which rests, and connects when something"
        " is sent"
    )


# -- small things ------------------------------------------------------------------------------------------------------
def test_phase_needs_no_consistent_memory() -> None:
    """A rest that is remembered of another tunnel or link ends with the first look."""
    rest = Rest("other", "digest", 1, 1)
    machine = connected(CONFIGS["wireguard"])
    machine.intent = replace(machine.intent, rest=rest)
    machine.wait(3.0)
    assert (at(machine), machine.intent.rest) == (Phase.CONNECTED, None)


def test_left_tunnels_stay_left() -> None:
    """What was found out of others is kept over a rest."""
    left = Left("home", Why.SILENT, NOW, NOW + 9000)
    machine = asleep(CONFIGS["wireguard"])
    machine.intent = replace(machine.intent, gateways=Gateways(left=(left,)))
    machine.wait(60.0)
    assert machine.intent.gateways.left == (left,)


def test_nobody_decides_differently_for_a_restless_memory() -> None:
    """Without a tunnel there is no rest to be seen."""
    intent = Intent(rest=Rest("work", "digest", 1, 1))
    assert decide(Config(), intent, Laptop().snapshot).rouse is None


def test_loop_looks_and_is_woken() -> None:
    """While it waits the loop looks, as often as it was told to, until a look or somebody else ends it."""

    async def waited(answers: list[bool], seconds: float, every_s: float | None) -> tuple[int, str]:
        wake, looks = Wake(), 0

        async def look() -> bool:
            nonlocal looks
            looks += 1
            return answers[min(looks, len(answers)) - 1]

        await wake.wait(seconds, every_s, look)
        return looks, wake.take()

    assert asyncio.run(waited([False, False, True], 5.0, 0.01)) == (3, "traffic")
    assert asyncio.run(waited([True], 0.02, None)) == (0, "time")
    looks, reason = asyncio.run(waited([False], 0.1, 0.03))
    assert (2 <= looks <= 4, reason) == (True, "time")
