# SPDX-License-Identifier: GPL-3.0-or-later
"""What if …? One row per case: the situation in words, and all that follows from it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Final

import pytest

from aovpnd import names
from aovpnd.core.decide import decide
from aovpnd.gateways import Heard, Path, Provoked
from aovpnd.links import Link
from aovpnd.model import (
    Block,
    Config,
    Desired,
    Grant,
    GrantKind,
    GuardState,
    Intent,
    Lan,
    Problem,
    Severity,
    Snapshot,
    Wish,
)
from aovpnd.repairs import Failure, RuleAhead
from aovpnd.rollback import Outcome, RolledBack
from aovpnd.routes import LinkAddress, Route
from aovpnd.ruleset import L4, Device
from aovpnd.trace import Packet
from tests.unit.packets import packet
from tests.unit.small_world import (
    AOVPN,
    CLOCK,
    DEFAULT4,
    DEFAULT6,
    DOCKER,
    ENDPOINT4,
    ETH,
    HOME,
    LO,
    NOW,
    VETH,
    WLAN,
    WORK,
    state_of,
)
from tests.unit.world import leaves

# -- situations -------------------------------------------------------------------------------------------------------
NETWORK: Final = "1 192.168.1.1 192.168.1.0/24"
ONE: Final = Config((WORK,))
TWO: Final = Config((WORK, HOME))
HOME_NET: Final = Snapshot(
    CLOCK,
    links=(LO, WLAN, ETH),
    addresses=(LinkAddress(2, ip_interface("192.168.1.23/24")), LinkAddress(2, ip_interface("fe80::23/64"))),
    main=(Route(DEFAULT4, 2, ip_address("192.168.1.1"), 600),),
    guard=GuardState.HELD,
    resolvers=(ip_address("192.168.1.53"),),
)
NO_NET: Final = replace(HOME_NET, addresses=(), main=())
PATH: Final = Path("work", WORK.digest(), WORK.endpoints, AOVPN.index, (f"2 {NETWORK}",))
SHOOK: Final = Intent(provoked=Provoked(PATH, NOW - 60))
GRANT: Final = Grant(GrantKind.ACCESS, 2, "wlan0", NETWORK, NOW - 20, NOW + 160, "root")
OPEN: Final = Intent(grant=GRANT)


def with_tunnel(snapshot: Snapshot, *, up: bool = True, handshake: int | None = None) -> Snapshot:
    """The same with the tunnel's link."""
    state = state_of(WORK, replace(AOVPN, up=up), handshake)
    return replace(snapshot, links=(*snapshot.links, state.link), tunnels=(state,))


UP: Final = with_tunnel(HOME_NET)
SENT: Final = replace(
    UP,
    tunnels=tuple(replace(s, peers=tuple(replace(peer, tx_bytes=148) for peer in s.peers)) for s in UP.tunnels),
)
SHAKEN: Final = with_tunnel(HOME_NET, handshake=1_699_999_990)
DOCKERED: Final = replace(
    HOME_NET,
    links=(*HOME_NET.links, DOCKER, VETH),
    addresses=(*HOME_NET.addresses, LinkAddress(5, ip_interface("172.17.0.1/16"))),
)

# -- what is asked ----------------------------------------------------------------------------------------------------
WLAN0, ETH0, AOVPN0, DOCKER0 = (
    Device(2, "wlan0"),
    Device(3, "eth0"),
    Device(9, "aovpn0", "wireguard"),
    Device(5, "docker0"),
)
PROBES: Final[dict[str, Packet]] = {
    "shake": packet(str(ENDPOINT4.addr), L4.UDP, ENDPOINT4.port, oif=WLAN0, mark=names.FWMARK),
    "tunnel": packet("203.0.113.80", L4.TCP, 443, oif=AOVPN0),
    "web": packet("203.0.113.80", L4.TCP, 443, oif=WLAN0),
    "web-eth0": packet("203.0.113.80", L4.TCP, 443, oif=ETH0),
    "dns": packet("192.168.1.53", L4.UDP, 53, oif=WLAN0),
    "dns-else": packet("9.9.9.9", L4.UDP, 53, oif=WLAN0),
    "lan": packet("192.168.1.7", L4.TCP, 445, oif=WLAN0),
    "guest": packet("172.17.0.2", L4.TCP, 80, oif=DOCKER0),
}


def opened(desired: Desired, at: float = NOW) -> str:
    """Names of the probes that may leave."""
    return " ".join(name for name, probe in PROBES.items() if leaves(desired.ruleset, at, probe))


def ends(desired: Desired) -> str:
    """Where a look-up for any address ends: in the tunnel, nowhere, or in the main table."""
    assert desired.routing is not None
    routes = sorted((route.metric, route.link) for route in desired.routing.routes if route.dst == DEFAULT4)
    if not routes:
        return "main"
    return "closed" if routes[0][1] is None else "tunnel"


def tunnels(desired: Desired) -> str:
    """How the tunnels are wished."""
    return " ".join(
        f"{wish.spec.name}:{wish.link_name}:{wish.state}{':shake' if wish.path else ''}" for wish in desired.tunnels
    )


# -- what if … --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Case:
    """A situation, and in words what should be: phase, probes that may leave, where look-ups end, tunnels, problems."""

    config: Config
    intent: Intent
    snapshot: Snapshot
    phase: str
    opens: str
    ends: str = "closed"
    tunnels: str = ""
    problems: str = ""


def _failed(action: str, at: float = NOW + 1) -> Intent:
    return Intent(failures=(Failure(action, 1, at, f"{action} failed"),))


CAFE: Final = replace(
    HOME_NET,
    links=(LO, replace(WLAN, carrier_ups=2), ETH),
)
"""Another network with the same addresses: the carrier was gone in between."""

CASES: Final = {
    # no tunnel
    "nothing configured, no network": Case(Config(), Intent(), NO_NET, "offline", "", problems="no-tunnel"),
    "nothing configured": Case(Config(), Intent(), HOME_NET, "blocked", "", problems="no-tunnel"),
    "two tunnels, none preferred": Case(TWO, Intent(), HOME_NET, "blocked", "", problems="tunnel-not-chosen"),
    "one tunnel, and a file that is broken": Case(
        replace(ONE, broken=frozenset({"home"})), Intent(), HOME_NET, "blocked", "", problems="tunnel-not-chosen"
    ),
    "policy prefers one, the other one is named": Case(
        replace(TWO, prefer=("work",), locked=frozenset({"tunnel.prefer"})),
        Intent(chosen="home"),
        HOME_NET,
        "connecting",
        "shake",
        tunnels="work:aovpn0:down",
    ),
    "a tunnel is named that is gone": Case(
        ONE, Intent(chosen="gone"), HOME_NET, "blocked", "", problems="tunnel-unknown"
    ),
    "a tunnel is preferred that is gone": Case(
        replace(ONE, prefer=("gone",)), Intent(), HOME_NET, "blocked", "", problems="tunnel-unknown"
    ),
    "disconnected": Case(ONE, Intent(wish=Wish.DISCONNECT), HOME_NET, "blocked", ""),
    "disconnected, its link still up": Case(ONE, Intent(wish=Wish.DISCONNECT), SHAKEN, "blocked", ""),
    # towards the tunnel
    "no network": Case(ONE, Intent(), NO_NET, "offline", "shake", tunnels="work:aovpn0:down"),
    "a network appears": Case(ONE, Intent(), HOME_NET, "connecting", "shake", tunnels="work:aovpn0:down"),
    "the preferred of two": Case(
        replace(TWO, prefer=("work",)), Intent(), HOME_NET, "connecting", "shake", tunnels="work:aovpn0:down"
    ),
    "the other one is named": Case(
        replace(TWO, prefer=("work",)), Intent(chosen="home"), HOME_NET, "connecting", "", tunnels="home:aovpn0:down"
    ),
    "its link is made, down": Case(
        ONE,
        Intent(),
        with_tunnel(HOME_NET, up=False),
        "connecting",
        "shake tunnel",
        tunnels="work:aovpn0:up",
    ),
    "its link is up": Case(ONE, Intent(), UP, "connecting", "shake tunnel", "tunnel", "work:aovpn0:up:shake"),
    "shaken before this network": Case(
        ONE, Intent(), SHAKEN, "connecting", "shake tunnel", "tunnel", "work:aovpn0:up:shake"
    ),
    "connected": Case(ONE, SHOOK, SHAKEN, "connected", "shake tunnel", "tunnel", "work:aovpn0:up"),
    "connected, then the network goes": Case(
        ONE, SHOOK, replace(SHAKEN, main=()), "offline", "shake tunnel", "tunnel", "work:aovpn0:up"
    ),
    "connected, then another network with the same addresses": Case(
        ONE,
        SHOOK,
        replace(SHAKEN, links=(*CAFE.links, AOVPN)),
        "connecting",
        "shake tunnel",
        "tunnel",
        "work:aovpn0:up:shake",
    ),
    "connected, then a second network": Case(
        ONE,
        SHOOK,
        replace(SHAKEN, main=(*SHAKEN.main, Route(DEFAULT4, 3, ip_address("10.0.0.1"), 100))),
        "connecting",
        "shake tunnel",
        "tunnel",
        "work:aovpn0:up:shake",
    ),
    "connected, then silence": Case(
        ONE,
        replace(SHOOK, heard=Heard(NOW - 60, 0, -1000, 1_699_999_990)),
        SHAKEN,
        "connecting",
        "shake tunnel",
        "tunnel",
        "work:aovpn0:up:shake",
    ),
    "provoked a moment ago": Case(
        ONE,
        Intent(provoked=Provoked(PATH, NOW - 1)),
        SENT,
        "connecting",
        "shake tunnel",
        "tunnel",
        "work:aovpn0:up",
    ),
    "provoked thrice in vain": Case(
        ONE,
        Intent(provoked=Provoked(PATH, NOW - 25, attempts=3)),
        SENT,
        "connecting",
        "shake tunnel",
        "tunnel",
        "work:aovpn0:up:shake",
        "no-handshake",
    ),
    "provoked, and nothing was sent": Case(
        ONE,
        Intent(provoked=Provoked(PATH, NOW - 1)),
        UP,
        "connecting",
        "shake tunnel",
        "tunnel",
        "work:aovpn0:up",
        "nothing-sent",
    ),
    # the link is not what it should be
    "its link has another key": Case(
        ONE,
        SHOOK,
        replace(SHAKEN, tunnels=(state_of(HOME),)),
        "connecting",
        "shake",
        tunnels="work:aovpn0:down",
    ),
    "its link has lost its mark": Case(
        ONE,
        SHOOK,
        replace(SHAKEN, tunnels=(replace(state_of(WORK), fwmark=0),)),
        "connecting",
        "shake",
        tunnels="work:aovpn0:down",
    ),
    "a foreign link has its name": Case(
        ONE,
        Intent(),
        replace(HOME_NET, links=(*HOME_NET.links, Link(40, "aovpn0", "dummy"), Link(41, "aovpn1"))),
        "connecting",
        "shake",
        tunnels="work:aovpn2:down",
    ),
    "the default route is by the tunnel's link": Case(
        ONE, Intent(), replace(UP, main=(Route(DEFAULT4, 9),)), "offline", "shake tunnel", "tunnel", "work:aovpn0:up"
    ),
    "the default route is by a link without carrier": Case(
        ONE,
        Intent(),
        replace(HOME_NET, links=(LO, replace(WLAN, carrier=False))),
        "offline",
        "shake",
        tunnels="work:aovpn0:down",
    ),
    "the default route is by a link with an evil name": Case(
        Config(),
        Intent(),
        replace(HOME_NET, links=(LO, replace(WLAN, name='w";drop'))),
        "offline",
        "",
        problems="no-tunnel link-unnameable",
    ),
    "somebody else's routing rule before ours": Case(
        ONE,
        Intent(),
        replace(HOME_NET, ahead=(RuleAhead(5, "lookup main"),)),
        "connecting",
        "shake",
        tunnels="work:aovpn0:down",
        problems="rule-ahead",
    ),
    "a version that broke the tunnel has gone": Case(
        ONE,
        Intent(),
        replace(HOME_NET, rolled_back=RolledBack("2.0-1", "1.0-1", Outcome.CONNECTED)),
        "connecting",
        "shake",
        tunnels="work:aovpn0:down",
        problems="rolled-back",
    ),
    # temporary access
    "a grant": Case(Config(), OPEN, HOME_NET, "temporary-access", "shake web dns lan", "main", problems="no-tunnel"),
    "a grant, and a tunnel that is up": Case(
        ONE, OPEN, UP, "temporary-access", "shake tunnel web dns lan", "main", "work:aovpn0:up:shake"
    ),
    "a grant, and no resolvers from the lease": Case(
        Config(),
        OPEN,
        replace(HOME_NET, resolvers=()),
        "temporary-access",
        "shake web lan",
        "main",
        problems="no-tunnel",
    ),
    "a grant whose time is over": Case(
        ONE,
        Intent(grant=replace(GRANT, expires_at=NOW)),
        HOME_NET,
        "connecting",
        "shake",
        tunnels="work:aovpn0:down",
    ),
    "a grant for another network with the same addresses": Case(
        Config(), OPEN, CAFE, "blocked", "", problems="no-tunnel"
    ),
    "a grant, and the network is gone": Case(Config(), OPEN, NO_NET, "offline", "", problems="no-tunnel"),
    "a grant, and its link has another name": Case(
        Config(),
        OPEN,
        replace(HOME_NET, links=(LO, replace(WLAN, name="wlan7"))),
        "blocked",
        "",
        problems="no-tunnel",
    ),
    # beside the tunnel
    "the LAN is allowed": Case(
        replace(ONE, lan=Lan.ALLOW), SHOOK, SHAKEN, "connected", "shake tunnel lan", "tunnel", "work:aovpn0:up"
    ),
    "the LAN is allowed, and public": Case(
        Config(lan=Lan.ALLOW),
        Intent(),
        replace(HOME_NET, addresses=(LinkAddress(2, ip_interface("203.0.113.23/24")),)),
        "blocked",
        "",
        problems="no-tunnel",
    ),
    "containers": Case(Config(), Intent(), DOCKERED, "blocked", "guest", problems="no-tunnel"),
    "containers, and a card in their bridge": Case(
        Config(),
        Intent(),
        replace(DOCKERED, links=(*DOCKERED.links, Link(20, "eth1", master=5))),
        "blocked",
        "",
        problems="no-tunnel",
    ),
    # trouble
    "the guard is missing": Case(
        Config(),
        Intent(),
        replace(HOME_NET, guard=GuardState.MISSING),
        "blocked",
        "",
        problems="no-tunnel guard-missing",
    ),
    "the guard is starting": Case(
        Config(), Intent(), replace(HOME_NET, guard=GuardState.STARTING), "blocked", "", problems="no-tunnel"
    ),
    "the guard does not come up": Case(
        Config(),
        Intent(),
        replace(HOME_NET, guard=GuardState.FAILING),
        "blocked",
        "",
        problems="no-tunnel guard-missing",
    ),
    "somebody removed our table": Case(
        Config(),
        Intent(removed_by="nft[7]", removed_at=NOW - 599),
        HOME_NET,
        "blocked",
        "",
        problems="no-tunnel ruleset-changed",
    ),
    "somebody removed our table long ago": Case(
        Config(), Intent(removed_by="nft[7]", removed_at=NOW - 601), HOME_NET, "blocked", "", problems="no-tunnel"
    ),
    "the ruleset cannot be loaded, and none is there": Case(
        ONE,
        replace(_failed("LoadRuleset"), provoked=SHOOK.provoked, grant=GRANT),
        SHAKEN,
        "connected",
        "shake tunnel",
        tunnels="work:aovpn0:down",
        problems="action-failed",
    ),
    "the ruleset cannot be loaded, and one is there": Case(
        ONE,
        replace(_failed("LoadRuleset"), provoked=SHOOK.provoked),
        replace(SHAKEN, table_present=True),
        "connected",
        "shake tunnel",
        "tunnel",
        "work:aovpn0:up",
        "action-failed",
    ),
    "the configuration is broken": Case(
        replace(ONE, problems=(Problem("config", Severity.ERROR, "aovpnd.toml:3: …"),)),
        Intent(),
        HOME_NET,
        "connecting",
        "shake",
        tunnels="work:aovpn0:down",
        problems="config",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_if(name: str) -> None:
    """Each row follows from its situation, whole."""
    case = CASES[name]
    desired = decide(case.config, case.intent, case.snapshot)

    assert desired.phase == case.phase
    assert opened(desired) == case.opens
    assert ends(desired) == case.ends
    assert tunnels(desired) == case.tunnels
    assert " ".join(problem.code for problem in desired.problems) == case.problems
    assert desired.guard is GuardState.HELD
    assert not desired.unblocked


def test_unblocked_means_nothing_of_ours() -> None:
    """An administrator who takes the block off gets a machine without us."""
    desired = decide(ONE, Intent(block=Block.OFF, grant=GRANT), SHAKEN)

    assert desired == Desired(
        phase=desired.phase,
        ruleset=None,
        routing=None,
        guard=GuardState.MISSING,
        unblocked=True,
        uplinks=desired.uplinks,
    )
    assert desired.phase == "unblocked"


def test_grant_ends_by_itself() -> None:
    """The table that a grant opens is shut by time alone, and the next look is not later than its end."""
    desired = decide(Config(), OPEN, HOME_NET)

    assert opened(desired, NOW + 159.9) == "shake web dns lan"
    assert opened(desired, NOW + 160.0) == ""
    assert desired.wake_at is not None
    assert NOW < desired.wake_at <= NOW + 160


def test_grant_ends_on_the_wall_as_well() -> None:
    """In whole seconds, not late; and when that clock is set, the window keeps its end on the other one."""
    now = HOME_NET.now
    for wall, ends in ((1.7e9, 1_700_000_160), (1.7e9 + 0.9, 1_700_000_160), (-1e9, 0), (1e11, 9 * 10**9)):
        snapshot = replace(HOME_NET, now=replace(now, wall=wall))
        table = decide(Config(), OPEN, snapshot).ruleset

        assert table is not None
        assert {rule.match.before for chain in table.chains for rule in chain.rules} == {None, ends}
        assert [element.expires_at for element in table.sets[0].elements] == [NOW + 160]


def test_a_narrow_tunnel_is_said() -> None:
    """A tunnel that does not carry everything leaves the rest closed, and status says so."""
    peer = replace(WORK.peers[0], allowed=(ip_interface("10.0.0.0/8").network,))
    desired = decide(Config((replace(WORK, peers=(peer,)),)), Intent(), HOME_NET)

    assert [problem.code for problem in desired.problems] == ["tunnel-is-narrow"]
    assert ends(desired) == "closed"


@pytest.mark.parametrize(
    ("taken", "whose"),
    [
        (str(ENDPOINT4.addr), "gateway"),
        ("10.64.0.1", "name server"),
        (str(WORK.addresses[0].ip), "own address"),
        ("192.0.2.77", ""),
    ],
)
def test_an_address_of_the_tunnels_on_the_uplink_is_said(taken: str, whose: str) -> None:
    """What is for an address that a lease has given to us stays here: status says so, and nothing else changes."""
    spec = replace(WORK, dns=(ip_address("10.64.0.1"),))
    there = replace(HOME_NET, addresses=(*HOME_NET.addresses, LinkAddress(2, ip_interface(f"{taken}/32"))))
    problems = decide(Config((spec,)), Intent(), there).problems

    said = f"the network has given this machine the address {taken}, which is the {whose} of work; nothing reaches it"
    assert [problem.text for problem in problems] == ([f"{said} from here"] if whose else [])
    assert decide(Config(), Intent(), there).ruleset == decide(Config(), Intent(), HOME_NET).ruleset


@pytest.mark.parametrize(
    ("local", "taken"),
    [
        ("10.200.0.23/8", "10.64.0.2/32"),
        ("10.99.0.23/24", "10.99.0.1/32"),
        ("172.20.0.23/16", "172.20.5.0/24"),
        ("10.63.0.23/16", ""),
        ("192.168.1.23/24", ""),
    ],
    ids=["own address", "name server", "prefix", "beside it", "elsewhere"],
)
def test_local_network_over_the_tunnels(local: str, taken: str) -> None:
    """A network that calls local what lies behind the tunnel stays closed, is not routed, and is said."""
    allowed = (ip_network("0.0.0.0/0"), ip_network("::/0"), ip_network("172.20.5.0/24"))
    spec = replace(WORK, peers=(replace(WORK.peers[0], allowed=allowed),), dns=(ip_address("10.99.0.1"),))
    there = replace(HOME_NET, addresses=(LinkAddress(2, ip_interface(local)),))
    config = Config((spec,), lan=Lan.ALLOW)
    desired = decide(config, Intent(), there)
    net = ip_interface(local).network

    said = [problem.text for problem in desired.problems if problem.code == "lan-overlaps-tunnel"]
    text = f"wlan0 is in {net}, in which {taken} of the tunnel lies; that local network stays closed"
    assert said == ([text] if taken else [])
    assert desired.routing is not None
    assert (net in {route.dst for route in desired.routing.routes}) is not bool(taken)
    shut = decide(replace(config, lan=Lan.BLOCK), Intent(), there)
    assert "lan-overlaps-tunnel" not in {problem.code for problem in shut.problems}


def test_routes_stay_in_our_table() -> None:
    """What stays on the host and in an open LAN is looked up in our table; IPv4 only, where the kernel has no more."""
    both = replace(DOCKERED, ipv6=False)
    desired = decide(Config(lan=Lan.ALLOW), Intent(), both)
    assert desired.routing is not None

    assert [(str(r.dst), r.link, r.metric) for r in desired.routing.routes] == [
        ("0.0.0.0/0", None, names.CLOSED_METRIC),
        ("172.17.0.0/16", 5, names.TUNNEL_METRIC + 5),
        ("192.168.1.0/24", 2, names.TUNNEL_METRIC + 2),
    ]
    assert desired.routing.rules == (4,)
    assert desired.routing.shut == ()


@pytest.mark.parametrize(
    ("change", "wake_at"),
    [
        pytest.param(lambda: (ONE, Intent(), NO_NET), None, id="nothing to wait for"),
        pytest.param(lambda: (ONE, _failed("EnsureGuard", NOW + 3), NO_NET), NOW + 3, id="a failure is tried again"),
        pytest.param(lambda: (ONE, _failed("EnsureGuard", NOW - 3), NO_NET), None, id="a failure that is due"),
        pytest.param(
            lambda: (ONE, Intent(), replace(NO_NET, guard=GuardState.STARTING)), NOW + 0.5, id="the guard is starting"
        ),
        pytest.param(lambda: (ONE, SHOOK, SHAKEN), NOW + 30, id="connected"),
        pytest.param(lambda: (ONE, Intent(), UP), NOW + 0.02, id="about to shake hands"),
    ],
)
def test_when_to_look_again(change: Callable[[], tuple[Config, Intent, Snapshot]], wake_at: float | None) -> None:
    """The next look is when time alone would change the answer."""
    assert decide(*change()).wake_at == wake_at


def test_second_family_of_a_default_route() -> None:
    """An IPv6 default route that comes a second after the lease is no other network: nothing shakes hands again."""
    later = replace(
        SHAKEN,
        main=(*SHAKEN.main, Route(DEFAULT6, 2, ip_address("fe80::1"), 1024)),
        addresses=(*SHAKEN.addresses, LinkAddress(2, ip_interface("2001:db8::23/64"))),
    )

    assert tunnels(decide(ONE, SHOOK, later)) == "work:aovpn0:up"
