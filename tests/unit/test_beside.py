# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks that are kept out of the tunnel: by which uplink they are reached, and when they stay closed."""

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from aovpnd import names
from aovpnd.core.answers import answer
from aovpnd.core.decide import decide, permitted
from aovpnd.core.permits import Excluded
from aovpnd.destinations import parse
from aovpnd.model import Block, Config, Intent, Origin, Snapshot, Wish
from aovpnd.orders import Explain
from aovpnd.repairs import Failure
from aovpnd.routes import LinkAddress, Route
from aovpnd.ruleset import Device, Network
from aovpnd.sockets import Socket, Transport
from aovpnd.users import User
from tests.unit.small_world import DEFAULT4, DEFAULT6, HOME, SERVER4, TUNNEL_ADDRESS4, WORK
from tests.unit.test_decide import HOME_NET, NO_NET, ONE, SHAKEN, SHOOK
from tests.unit.test_explain import OFFICE, data_of, laptop, picture

FOUR, SIX = ip_network("203.0.113.0/24"), ip_network("2001:db8:80::/48")
BOTH = replace(ONE, exclude=(FOUR, SIX))
WLAN, ETH = Device(2, "wlan0"), Device(3, "eth0")
ROUTER4, ROUTER6 = ip_address("192.168.1.1"), ip_address("fe80::1")
DUAL = replace(HOME_NET, main=(*HOME_NET.main, Route(DEFAULT6, 2, ROUTER6, 1024)))
TWO_CARDS = replace(
    DUAL,
    main=(*DUAL.main, Route(DEFAULT4, 3, ip_address("10.0.0.1"), 100), Route(DEFAULT6, 3, ip_address("fe80::9"), 2000)),
)
DIALLED = replace(HOME_NET, main=(Route(DEFAULT4, 2, None, 50),))


def opened(config: Config, snapshot: Snapshot, intent: Intent | None = None) -> dict[str, tuple[Network, ...]]:
    """What is reached by which link."""
    found = permitted(config, intent or Intent(), snapshot)
    return {each.device.name or "": each.networks for each in found if isinstance(each, Excluded)}


def routes(config: Config, snapshot: Snapshot, *dst: Network) -> list[str]:
    """Our routes there."""
    routing = decide(config, Intent(), snapshot).routing
    assert routing is not None
    return [f"{r.dst} via {r.gateway} dev {r.link} {r.metric}" for r in routing.routes if r.dst in dst]


def said(config: Config, snapshot: Snapshot = HOME_NET) -> list[str]:
    """What status says of it."""
    found = decide(config, Intent(), snapshot).problems
    return [problem.text for problem in found if problem.code == "exclude-closed"]


@pytest.mark.parametrize(
    ("snapshot", "expected"),
    [
        pytest.param(HOME_NET, {"wlan0": (FOUR,)}, id="IPv4 alone"),
        pytest.param(DUAL, {"wlan0": (FOUR, SIX)}, id="both families"),
        pytest.param(TWO_CARDS, {"eth0": (FOUR,), "wlan0": (SIX,)}, id="the best of each family"),
        pytest.param(DIALLED, {"wlan0": (FOUR,)}, id="no gateway"),
        pytest.param(NO_NET, {}, id="no uplink"),
    ],
)
def test_by_which_link(snapshot: Snapshot, expected: dict[str, tuple[Network, ...]]) -> None:
    """By the uplink whose default route of that family is the best, and by no other; in every phase with a table."""
    for config in (BOTH, replace(BOTH, tunnels=())):
        for intent in (Intent(), Intent(wish=Wish.DISCONNECT)):
            assert opened(config, snapshot, intent) == expected
    assert opened(ONE, snapshot) == {}
    assert opened(BOTH, snapshot, Intent(block=Block.OFF)) == {}


def test_connected_as_well() -> None:
    """A tunnel that carries everything leaves them out."""
    assert opened(BOTH, SHAKEN, SHOOK) == {"wlan0": (FOUR,)}


@pytest.mark.parametrize(
    ("snapshot", "expected"),
    [
        pytest.param(
            TWO_CARDS,
            [
                f"{FOUR} via 10.0.0.1 dev 3 {names.TUNNEL_METRIC + 3}",
                f"{SIX} via {ROUTER6} dev 2 {names.TUNNEL_METRIC + 2}",
            ],
            id="as the default routes lead",
        ),
        pytest.param(
            replace(HOME_NET, main=(*HOME_NET.main, Route(DEFAULT4, 2, ip_address("192.168.1.254"), 9))),
            [f"{FOUR} via 192.168.1.254 dev 2 {names.TUNNEL_METRIC + 2}"],
            id="two routers, the better one",
        ),
        pytest.param(DIALLED, [f"{FOUR} via None dev 2 {names.TUNNEL_METRIC + 2}"], id="no gateway"),
        pytest.param(
            replace(HOME_NET, addresses=(LinkAddress(2, ip_interface("203.0.113.9/24")),)),
            [f"{FOUR} via None dev 2 {names.TUNNEL_METRIC + 2}"],
            id="on the link",
        ),
        pytest.param(
            replace(HOME_NET, addresses=(LinkAddress(2, ip_interface("203.0.113.9/28")),)),
            [f"{FOUR} via {ROUTER4} dev 2 {names.TUNNEL_METRIC + 2}"],
            id="a part of it on the link",
        ),
        pytest.param(
            replace(DUAL, ipv6=False), [f"{FOUR} via {ROUTER4} dev 2 {names.TUNNEL_METRIC + 2}"], id="no IPv6"
        ),
        pytest.param(NO_NET, [], id="no uplink"),
    ],
)
def test_routes(snapshot: Snapshot, expected: list[str]) -> None:
    """In our own table, for the main one is not asked; to the router that the main one has."""
    assert routes(BOTH, snapshot, FOUR, SIX) == expected


CARRIES_SOME = replace(HOME, peers=(replace(HOME.peers[0], allowed=(ip_network("203.0.113.80/32"), SIX)),))


@pytest.mark.parametrize(
    ("exclude", "taken"),
    [
        pytest.param(ip_network("10.64.0.0/16"), f"{TUNNEL_ADDRESS4}/32", id="its address"),
        pytest.param(ip_network(f"{SERVER4}/32"), f"{SERVER4}/32", id="its name server"),
        pytest.param(FOUR, "", id="less than it carries"),
    ],
)
def test_what_the_tunnel_has_itself(exclude: Network, taken: str) -> None:
    """It would go in clear whenever the tunnel is not up: it stays closed, is not routed, and is said."""
    config = replace(ONE, exclude=(exclude,))

    assert opened(config, HOME_NET) == ({} if taken else {"wlan0": (exclude,)})
    assert bool(routes(config, HOME_NET, exclude)) is not bool(taken)
    assert said(config) == ([f"{exclude} stays closed: {taken} of the tunnel work lies in it"] if taken else [])


@pytest.mark.parametrize("intent", [Intent(), Intent(chosen="home"), Intent(wish=Wish.DISCONNECT)])
def test_what_any_tunnel_carries(intent: Intent) -> None:
    """Also of tunnels that are not chosen now, and may be soon."""
    config = Config((WORK, CARRIES_SOME), prefer=("work",), exclude=(FOUR, SIX, ip_network("198.18.0.0/15")))

    assert opened(config, DUAL, intent) == {"wlan0": (ip_network("198.18.0.0/15"),)}
    assert said(config) == [
        f"{FOUR} stays closed: 203.0.113.80/32 of the tunnel home lies in it",
        f"{SIX} stays closed: {SIX} of the tunnel home lies in it",
    ]


def test_beside_a_file_that_cannot_be_used() -> None:
    """Nobody knows what is meant for that tunnel."""
    config = replace(BOTH, broken=frozenset({"home"}))

    assert opened(config, DUAL, Intent(chosen="work")) == {}
    assert said(config) == ["excluded networks stay closed while home cannot be used"]
    assert said(replace(ONE, broken=frozenset({"home"}))) == []


OFFICE_TOO = replace(HOME, peers=(replace(HOME.peers[0], allowed=(FOUR, SIX)),))
CARRIES_MORE = replace(
    HOME,
    addresses=(ip_interface("10.99.0.2/32"),),
    dns=(),
    peers=(replace(HOME.peers[0], allowed=(ip_network("203.0.0.0/16"),)),),
)
FROM_WORK = Config((WORK, OFFICE_TOO), prefer=("work",), exclude_from=(("work", (FOUR, SIX)),))


@pytest.mark.parametrize(
    ("config", "intent", "expected"),
    [
        pytest.param(FROM_WORK, Intent(), {"wlan0": (FOUR, SIX)}, id="the one that would carry, whatever others carry"),
        pytest.param(FROM_WORK, Intent(chosen="home"), {}, id="another one"),
        pytest.param(FROM_WORK, Intent(wish=Wish.DISCONNECT), {}, id="none"),
        pytest.param(replace(FROM_WORK, companions=("home",)), Intent(), {}, id="a companion carries it"),
        pytest.param(
            replace(FROM_WORK, tunnels=(WORK, CARRIES_MORE), companions=("home",)),
            Intent(),
            {"wlan0": (SIX,)},
            id="a companion carries more",
        ),
        pytest.param(
            replace(FROM_WORK, companions=("work",)), Intent(), {"wlan0": (FOUR, SIX)}, id="it is a companion itself"
        ),
        pytest.param(
            replace(FROM_WORK, users=(User("alice", 1000, only="home"),)), Intent(), {}, id="somebody's own carries it"
        ),
        pytest.param(replace(FROM_WORK, broken=frozenset({"x"})), Intent(), {}, id="a file cannot be used"),
    ],
)
def test_from_one_tunnel(config: Config, intent: Intent, expected: dict[str, tuple[Network, ...]]) -> None:
    """What is kept out of one tunnel alone goes beside while that one carries, or would if it were up."""
    assert opened(config, DUAL, intent) == expected
    routing = decide(config, intent, DUAL).routing
    assert routing is not None
    beside = {route.dst for route in routing.routes if route.link == WLAN.index}
    assert beside.intersection((FOUR, SIX)) == {network for networks in expected.values() for network in networks}


def test_who_may_not_use_that_tunnel() -> None:
    """He has no part in what is kept out of it; nor has who has another to himself, whose table leads past it."""
    own = replace(HOME, name="hers", addresses=(ip_interface("10.99.0.2/32"),), dns=())
    users = (User("alice", 1000, only="hers"), User("bob", 1001, never=("work",)))
    config = Config((WORK, own), prefer=("work",), exclude_from=(("work", (FOUR,)),), users=users)

    (found,) = (each for each in permitted(config, Intent(), DUAL) if isinstance(each, Excluded))
    routing = decide(config, Intent(), DUAL).routing
    assert routing is not None
    assert (found.networks, found.barred) == ((FOUR,), (1000, 1001))
    assert FOUR in {route.dst for route in routing.routes}
    assert routing.lanes
    assert not any(route.dst == FOUR for lane in routing.lanes for route in lane.routes)


def test_another_tunnel_is_another_state_of_things() -> None:
    """Connections past one tunnel end when another takes its place."""
    config = replace(FROM_WORK, tunnels=(WORK, replace(WORK, name="home")))
    past = Socket(Transport.TCP, ip_address("192.168.1.23"), 40000, FOUR[80])
    sweeps = [decide(config, Intent(chosen=name), HOME_NET).sweep for name in ("work", "home")]

    assert [sweep is not None and sweep.closes(past) for sweep in sweeps] == [False, True]
    barred = replace(config, users=(User("bob", 1001, never=("work",)),))
    of_all = replace(config, exclude=(FOUR,), exclude_from=())
    first, second, third = (decide(each, Intent(chosen="work"), HOME_NET).sweep for each in (config, barred, of_all))
    assert first is not None
    assert second is not None
    assert third is not None
    assert second.closes(replace(past, uid=1001))
    assert not second.closes(replace(past, uid=1002))
    assert len({first.why, second.why, third.why}) == 3


def test_without_rules_nothing_leads_there() -> None:
    """While the ruleset cannot be loaded, and is not there, nobody would keep names and guests from it."""
    failed = Intent(failures=(Failure("LoadRuleset", 3, 9e9, "why"),))
    for config in (BOTH, FROM_WORK):
        assert routes(config, HOME_NET, FOUR)
        routing = decide(config, failed, replace(HOME_NET, table_present=False)).routing
        assert routing is not None
        assert FOUR not in {route.dst for route in routing.routes}


def test_what_is_said_is_so() -> None:
    """No network is said to stay closed that the tunnel's own list opens; nor lists that would not hold anyhow."""
    both = replace(FROM_WORK, exclude=(FOUR,))
    assert opened(both, DUAL) == {"wlan0": (FOUR, SIX)}
    assert said(both) == []
    assert said(replace(both, companions=("home",))) == [
        f"{FOUR} stays closed: {FOUR} of the tunnel home lies in it",
        f"{SIX} stays closed: {SIX} of the tunnel home lies in it",
    ]
    broken = replace(FROM_WORK, broken=frozenset({"x"}))
    assert said(broken) == ["excluded networks stay closed while x cannot be used"]
    assert said(replace(broken, exclude_from=(("home", (FOUR,)),), prefer=("work",))) == []


def test_connections_are_spared() -> None:
    """Those to excluded networks go on when old sockets are closed, from the uplink's address alone; and another
    exclusion is another state of things.
    """
    sweep = decide(BOTH, Intent(), HOME_NET).sweep
    assert sweep is not None

    def closes(local: str, remote: str) -> bool:
        return sweep.closes(Socket(Transport.TCP, ip_address(local), 40000, ip_address(remote)))

    assert not closes("192.168.1.23", "203.0.113.80")
    assert closes("192.168.1.23", "198.51.100.80")
    assert closes("192.168.9.9", "203.0.113.80")
    plain = decide(ONE, Intent(), HOME_NET).sweep
    assert plain is not None
    assert plain.why != sweep.why


def test_it_is_explained() -> None:
    """Where it goes, that it goes in clear, and which line says so; of DNS there, that it goes nowhere."""
    origin = Origin("exclude.networks", str(FOUR), "/etc/aovpnd/aovpnd.toml", 7)
    seen = picture(laptop(Config((OFFICE,), exclude=(FOUR,), origins=(origin,))))

    web, names_there = (data_of(seen, f"203.0.113.80:{port}") for port in (443, 53))
    assert (web["fate"], web["permit"], web["link"], web["passes"]) == ("excluded", "Excluded networks", "wlan0", True)
    assert [(found["key"], found["line"]) for found in web["origins"]] == [("exclude.networks", 7)]
    assert "in clear" in answer(Explain(parse("203.0.113.80")), seen).text
    assert (names_there["fate"], names_there["permit"]) == ("refused", None)
