# SPDX-License-Identifier: GPL-3.0-or-later
"""The size of packets inside the tunnel: what is believed, when it is measured, and what becomes of the answer."""

from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Final

import pytest

from aovpnd.clock import Clock
from aovpnd.core import intent as memory
from aovpnd.core import mtu
from aovpnd.core.decide import decide
from aovpnd.core.mtu import Fit
from aovpnd.gateways import PathMtu, Provoked
from aovpnd.inquiries import Measured, MeasurePath, Unanswered
from aovpnd.model import Config, Intent, Phase, Severity, Snapshot, TunnelState
from aovpnd.orders import EnsureTunnel, LoadRuleset
from aovpnd.routes import Route
from aovpnd.ruleset import Hook
from aovpnd.tunnel import Endpoint, WireGuard
from tests.unit.small_world import DEFAULT4, DEFAULT6, ENDPOINT4, ENDPOINT6, NOW, SERVER4, SERVER6, WLAN, WORK, tunnel
from tests.unit.test_decide import HOME_NET, NO_NET, PATH, SHAKEN, SHOOK
from tests.unit.world import Laptop

(STATE,) = SHAKEN.tunnels
ONE: Final = tunnel("one", ENDPOINT4)
FOUR: Final = replace(
    WORK,
    addresses=WORK.addresses[:1],
    dns=(SERVER4,),
    peers=(replace(WORK.peers[0], allowed=(DEFAULT4,)), *WORK.peers[1:]),
)
"""The same without IPv6."""


def found(inner: int | None, *, lost: bool = True) -> Intent:
    """The memory of a path that was measured."""
    return replace(SHOOK, path_mtu=PathMtu(PATH.fingerprint(), NOW - 10, 0, inner, lost=lost, wait_s=600.0))


def told(*sizes: int | None) -> TunnelState:
    """The link with what the kernel knows of the ways to its peers' endpoints, IPv4's and IPv6's."""
    peers = tuple(replace(peer, path_mtu=size) for peer, size in zip(STATE.peers, sizes, strict=True))
    return replace(STATE, peers=peers)


def uplink(size: int, *routes: int | None) -> Snapshot:
    """A network whose card carries ``size``, with default routes that say something of it, or not."""
    gateways = ip_address("192.168.1.1"), ip_address("fe80::1")
    main = tuple(
        Route(default, 2, gateway, 600, route)
        for default, gateway, route in zip((DEFAULT4, DEFAULT6), gateways, routes, strict=False)
    )
    links = tuple(replace(link, mtu=size) if link == WLAN else link for link in SHAKEN.links)
    return replace(SHAKEN, links=links, main=main)


# -- what is believed --------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Case:
    """A situation, and what follows."""

    snapshot: Snapshot
    fit: Fit
    spec: WireGuard = WORK
    intent: Intent = SHOOK
    state: TunnelState = STATE


CASES: Final = {
    "Ethernet": Case(SHAKEN, Fit(1420)),
    "no network": Case(NO_NET, Fit(1420)),
    "a link of which nothing is known": Case(uplink(0, None), Fit(1420)),
    "PPPoE": Case(uplink(1492, None), Fit(1412)),
    "jumbo frames": Case(uplink(9000, None), Fit(8920)),
    "a route says less": Case(uplink(1500, 1450), Fit(1370)),
    "a route says more": Case(uplink(1400, 1500), Fit(1320)),
    "IPv6's route says less": Case(uplink(1500, None, 1450), Fit(1370)),
    "too little for IPv6": Case(uplink(1300, None), Fit(1280, 1216)),
    "enough without IPv6": Case(uplink(1300, None), Fit(1220), spec=FOUR),
    "IPv6's routes alone": Case(uplink(1300, None), Fit(1280, 1216), spec=replace(WORK, addresses=FOUR.addresses)),
    "a machine without IPv6": Case(replace(uplink(1300, None), ipv6=False), Fit(1220)),
    "too little for anything": Case(uplink(600, None), Fit(576, 512), spec=FOUR),
    "a lease that says nearly nothing": Case(uplink(68, None), Fit(1280, 128)),
    "a route that says next to nothing": Case(uplink(1500, 1), Fit(576, 128), spec=FOUR),
    "a link without an end": Case(uplink(2**32 - 1, None), Fit(65455)),
    "the file's word": Case(uplink(1300, None), Fit(1420), spec=replace(WORK, mtu=1420), intent=found(1240)),
    "ICMP over IPv4": Case(SHAKEN, Fit(1340), state=told(1400, None)),
    "ICMP over IPv6": Case(SHAKEN, Fit(1320), state=told(None, 1400)),
    "ICMP on both, the smaller counts": Case(SHAKEN, Fit(1290), state=told(1350, 1400)),
    "the kernel knows of nothing": Case(SHAKEN, Fit(1420), state=told(1500, 1500)),
    "measured": Case(SHAKEN, Fit(1320), intent=found(1320)),
    "measured, and the uplink says less": Case(uplink(1380, None), Fit(1300), intent=found(1320)),
    "measured, and found to be whole": Case(SHAKEN, Fit(1420), intent=found(None, lost=False)),
    "measured, too little for IPv6": Case(SHAKEN, Fit(1280, 1232), intent=found(1240)),
    "jumbo frames, and the kernel knows better": Case(uplink(9000, None), Fit(1420), state=told(1480, 1500)),
    "measured on another path": Case(
        SHAKEN, Fit(1420), intent=replace(SHOOK, path_mtu=PathMtu("other", NOW, 0, 1240, lost=True))
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_believed(name: str) -> None:
    """The smallest of what uplink, kernel and measurement say; never less than a link with IPv6 can be told."""
    case = CASES[name]

    assert mtu.fit(case.spec, case.intent, case.snapshot, case.state, PATH) == case.fit


def test_without_a_link_yet() -> None:
    """A link that is about to be made gets its size at once."""
    assert mtu.fit(WORK, SHOOK, SHAKEN, None, None) == Fit(1420)


# -- the wish and the link ---------------------------------------------------------------------------------------------
def test_the_link_follows_the_uplink() -> None:
    """A link of another size is mended in place, and nothing shakes hands for it."""
    machine = Laptop(Config((WORK,)))
    machine.join("home")
    machine.wait(30)
    machine.done.clear()

    links = tuple(replace(link, mtu=1400) if link.name == "wlan0" else link for link in machine.snapshot.links)
    machine.snapshot = replace(machine.snapshot, links=links)
    machine.settle()

    (action,) = machine.done
    assert isinstance(action, EnsureTunnel)
    assert (action.wish.mtu, action.wish.path, action.reason) == (1320, None, "MTU 1320 instead of 1420")
    assert machine.phase is Phase.CONNECTED


def test_tcp_is_held_to_what_passes() -> None:
    """Where a link cannot be told, handshakes are, both ways and for both families, and guests'; else nothing is."""
    assert not clamps(SHOOK)
    assert clamps(found(1300)) == []
    assert clamps(found(1240)) == [
        *[("input", 1192), ("input", 1172)],
        *[("output", 1192), ("output", 1172), ("postrouting", 1192), ("postrouting", 1172)],
    ]


def clamps(intent: Intent) -> list[tuple[str, int]]:
    """Where the ruleset lowers segments to a number."""
    desired = decide(Config((WORK,)), intent, SHAKEN)
    assert desired.ruleset is not None
    return [
        (chain.name, rule.clamp_mss)
        for chain in desired.ruleset.chains
        for rule in chain.rules
        if isinstance(rule.clamp_mss, int)
    ]


def test_a_clamp_stands_before_the_verdict() -> None:
    """What is accepted is looked at no more."""
    desired = decide(Config((WORK,)), found(1240), SHAKEN)
    assert desired.ruleset is not None
    for hook in (Hook.INPUT, Hook.OUTPUT, Hook.POSTROUTING):
        (chain,) = (chain for chain in desired.ruleset.chains if chain.hook is hook)
        last = max(number for number, rule in enumerate(chain.rules) if rule.clamp_mss is not None)
        assert chain.rules[last + 1].comment.startswith("the verified tunnel")


# -- when it is measured -----------------------------------------------------------------------------------------------
def sent(count: int, *, after: float = 5.0, keepalive_s: int = 0) -> tuple[TunnelState, Clock]:
    """The link after programs, and WireGuard itself, have sent so much, and the time then."""
    peers = (replace(STATE.peers[0], tx_bytes=count, keepalive_s=keepalive_s), STATE.peers[1])
    return replace(STATE, peers=peers), Clock(NOW + after, 0.0)


FRESH: Final = PathMtu(PATH.fingerprint(), NOW, 0)


@pytest.mark.parametrize(
    ("known", "state", "measures"),
    [
        pytest.param(None, sent(10_000), False, id="a path of which nothing is remembered yet"),
        pytest.param(FRESH, sent(0), False, id="nothing was sent"),
        pytest.param(FRESH, sent(148 + 32), False, id="a handshake and a keepalive"),
        pytest.param(FRESH, sent(3000), True, id="a program spoke"),
        pytest.param(replace(FRESH, tx_bytes=2500), sent(3000), False, id="it spoke before"),
        pytest.param(replace(FRESH, since=None), sent(10_000), False, id="an answer of this moment"),
        pytest.param(replace(FRESH, wait_s=600.0), sent(10_000), False, id="measured a moment ago"),
        pytest.param(replace(FRESH, wait_s=600.0), sent(100_000, after=601), True, id="measured long ago"),
        pytest.param(FRESH, sent(32 * 3600 + 148 * 30, after=3600, keepalive_s=1), False, id="an hour of keepalives"),
        pytest.param(FRESH, sent(32 * 360 + 148 * 30, after=3600), False, id="an hour of answers"),
    ],
)
def test_only_when_programs_send(known: PathMtu | None, state: tuple[TunnelState, Clock], *, measures: bool) -> None:
    """Handshakes and keepalives are no reason; a program is one, once, and then again after a while."""
    assert mtu.must_measure(known, *state) is measures


def test_what_is_asked() -> None:
    """The full size first, then ever smaller ones; the file's name servers, by the tunnel's link."""
    state, now = sent(10_000)
    snapshot = replace(SHAKEN, now=Clock(now.boot, SHAKEN.now.wall), tunnels=(state,))
    fresh = replace(SHOOK, path_mtu=FRESH)

    (asked,) = decide(Config((WORK,)), fresh, snapshot).inquiries

    assert isinstance(asked, MeasurePath)
    assert (asked.link, asked.link_name, asked.path) == (9, "aovpn0", PATH.fingerprint())
    assert asked.targets == (SERVER4, SERVER6)
    assert asked.sizes[:3] == (1420, 1408, 1392)
    assert asked.sizes[-1] == 576
    assert "measure" in asked.describe()
    assert not decide(Config((replace(WORK, mtu=1420),)), fresh, snapshot).inquiries
    assert not decide(Config((WORK,)), replace(fresh, provoked=Provoked(PATH, NOW, 1)), NO_NET).inquiries


@pytest.mark.parametrize(
    ("spec", "probe", "targets"),
    [
        pytest.param(WORK, (), (SERVER4, SERVER6), id="the file's servers"),
        pytest.param(FOUR, (), (SERVER4,), id="of the tunnel's own families"),
        pytest.param(replace(WORK, dns=(SERVER6,), addresses=FOUR.addresses), (), (), id="of no family of its own"),
        pytest.param(replace(WORK, dns=()), (), (), id="nobody"),
        pytest.param(replace(WORK, dns=()), (Endpoint(SERVER4, 80),), (SERVER4,), id="whom the configuration names"),
        pytest.param(
            replace(WORK, peers=(replace(WORK.peers[0], allowed=(ip_network("10.0.0.0/8"), DEFAULT6)),)),
            (),
            (SERVER4, SERVER6),
            id="what the tunnel carries",
        ),
        pytest.param(
            replace(WORK, peers=(replace(WORK.peers[0], allowed=(ip_network("10.0.0.0/16"),)),)),
            (),
            (),
            id="and nothing beside it",
        ),
    ],
)
def test_who_is_asked(spec: WireGuard, probe: tuple[Endpoint, ...], targets: tuple[object, ...]) -> None:
    """Only who is behind the tunnel."""
    assert mtu.targets_of(Config((spec,), probe=probe), spec) == targets


@pytest.mark.parametrize(
    ("known", "at"),
    [
        pytest.param(FRESH, NOW + 0.3, id="soon"),
        pytest.param(replace(FRESH, since=NOW - 8), NOW + 2, id="less and less often"),
        pytest.param(replace(FRESH, since=NOW - 8000), NOW + 60, id="every minute"),
        pytest.param(replace(FRESH, wait_s=600.0), NOW + 600, id="when the next one may be due"),
        pytest.param(replace(FRESH, since=None), None, id="not while an answer is taken in"),
        pytest.param(None, None, id="not without a path"),
    ],
)
def test_when_to_look(known: PathMtu | None, at: float | None) -> None:
    """Nobody tells us that a program begins to send."""
    assert mtu.next_look(replace(SHOOK, path_mtu=known), PATH, SHAKEN.now) == at


# -- what becomes of the answer ----------------------------------------------------------------------------------------
ASKED: Final = MeasurePath(9, "aovpn0", PATH.fingerprint(), (SERVER4,), (1420, 1400, 1320, 1240))


@pytest.mark.parametrize(
    ("before", "finding", "after"),
    [
        pytest.param(FRESH, Measured(ASKED, 1420), replace(FRESH, since=None, wait_s=600.0), id="whole"),
        pytest.param(
            FRESH,
            Measured(ASKED, 1320),
            replace(FRESH, since=None, wait_s=600.0, inner=1320, lost=True),
            id="a black hole",
        ),
        pytest.param(
            replace(FRESH, inner=1240, lost=True),
            Measured(ASKED, 1320),
            replace(FRESH, since=None, wait_s=600.0, inner=1240, lost=True),
            id="never more than is known already",
        ),
        pytest.param(FRESH, Unanswered(ASKED, ""), replace(FRESH, since=None, wait_s=30.0), id="nobody"),
        pytest.param(
            replace(FRESH, wait_s=30.0), Unanswered(ASKED, ""), replace(FRESH, since=None, wait_s=60.0), id="again"
        ),
        pytest.param(
            replace(FRESH, wait_s=480.0), Unanswered(ASKED, ""), replace(FRESH, since=None, wait_s=600.0), id="at most"
        ),
        pytest.param(replace(FRESH, path="other"), Measured(ASKED, 1320), replace(FRESH, path="other"), id="too late"),
        pytest.param(None, Measured(ASKED, 1320), None, id="gone"),
    ],
)
def test_learning(before: PathMtu | None, finding: Measured | Unanswered, after: PathMtu | None) -> None:
    """An answer counts for the path that was asked of, and only ever makes packets smaller."""
    assert memory.learn(replace(SHOOK, path_mtu=before), finding).path_mtu == after


def test_what_icmp_told_is_remembered() -> None:
    """The kernel forgets it after ten minutes; the next large packets would be lost anew."""
    small, whole = told(1400, None), told(1500, None)

    known = mtu.settle(SHOOK, SHAKEN, WORK, small, PATH)
    assert known == PathMtu(PATH.fingerprint(), NOW, 0, 1340)
    assert mtu.settle(replace(SHOOK, path_mtu=known), SHAKEN, WORK, whole, PATH) == known
    assert mtu.settle(SHOOK, SHAKEN, WORK, whole, PATH) == PathMtu(PATH.fingerprint(), NOW, 0)
    assert mtu.settle(replace(SHOOK, path_mtu=known), SHAKEN, WORK, None, PATH) is None
    assert mtu.settle(replace(SHOOK, path_mtu=known), SHAKEN, WORK, whole, None) is None


def test_counting_begins_anew() -> None:
    """With an answer from where the counter is, with a handshake from nothing."""
    state, _ = sent(5000)

    assert mtu.settle(replace(SHOOK, path_mtu=replace(FRESH, since=None)), SHAKEN, WORK, state, PATH) == replace(
        FRESH, tx_bytes=5000
    )
    assert mtu.settle(replace(SHOOK, path_mtu=replace(FRESH, tx_bytes=9000)), SHAKEN, WORK, state, PATH) == FRESH


# -- over time ---------------------------------------------------------------------------------------------------------
def measuring(machine: Laptop, seconds: float, carries: int | None) -> int:
    """Let time pass on a path that carries so much, and nobody answers if None; returns how often was asked."""
    machine.carries = carries
    before = len(machine.measured)
    for _ in range(int(seconds)):
        machine.wait(1.0)
    return len(machine.measured) - before


def test_a_black_hole_over_time() -> None:
    """It is found once programs send, said in words, and forgotten with the network."""
    machine = Laptop(Config((FOUR,)))
    machine.busy = False
    machine.join("home")
    assert measuring(machine, 120, 1300) == 0

    machine.busy = True
    assert measuring(machine, 120, 1300) == 1
    (state,) = machine.snapshot.tunnels
    assert state.link.mtu == 1296
    (problem,) = [problem for problem in machine.settle().problems if problem.code == "path-mtu"]
    assert problem.severity is Severity.INFO
    assert problem.text == "packets of more than 1296 bytes get lost on the way to the gateway, so the tunnel uses 1296"
    assert "ICMP" in problem.hint

    machine.join("cafe")
    assert measuring(machine, 60, 1420) == 1
    (state,) = machine.snapshot.tunnels
    assert state.link.mtu == 1420
    assert "path-mtu" not in {problem.code for problem in machine.settle().problems}


def test_less_than_ipv6_needs_over_time() -> None:
    """The link is told what it can be told, TCP is told the rest, and people are."""
    machine = Laptop(Config((WORK,)))
    machine.join("home")
    assert measuring(machine, 60, 1240) == 1

    assert any(isinstance(action, LoadRuleset) for action in machine.done[-3:])
    (state,) = machine.snapshot.tunnels
    assert state.link.mtu == 1280
    (problem,) = [problem for problem in machine.settle().problems if problem.code == "path-mtu"]
    assert problem.severity is Severity.WARNING
    assert "more than 1232 bytes" in problem.text
    assert "IPv6 needs 1280" in problem.text


@pytest.mark.slow
def test_nobody_answers_over_time() -> None:
    """Asked less and less often, and never while the tunnel is idle."""
    machine = Laptop(Config((WORK,)))
    machine.join("home")
    assert 3 <= measuring(machine, 600, None) <= 5
    machine.busy = False
    machine.wait(1.0)
    assert measuring(machine, 1200, None) <= 1
    (state,) = machine.snapshot.tunnels
    assert state.link.mtu == 1420


def test_addresses_of_one_family() -> None:
    """The tables above hold: the small world's tunnel has both families, and its peers one each."""
    assert [address.version for address in WORK.addresses] == [4, 6]
    assert [peer.endpoint and peer.endpoint.addr.version for peer in WORK.peers] == [4, 6]
    assert ip_interface(f"{FOUR.addresses[0]}").version == 4
    assert ENDPOINT6.addr.version == 6
    assert HOME_NET.main[0].mtu is None
    assert ONE.peers[0].endpoint == ENDPOINT4
