# SPDX-License-Identifier: GPL-3.0-or-later
"""From what is to what should be: which actions, in which order, and which of them may wait for which."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, ip_interface
from typing import Final

import pytest

from aovpnd.confirmation import GIVEN, NEVER, awaited
from aovpnd.core.decide import decide
from aovpnd.core.plan import diff, due
from aovpnd.dns import DnsState, Mechanism
from aovpnd.model import Block, Copies, Desired, GuardState, Intent, LinkWish, PeerState, Snapshot, Wish
from aovpnd.orders import (
    Action,
    CloseSockets,
    EnsureCopies,
    EnsureGuard,
    EnsureRouting,
    EnsureTunnel,
    KeepConfirmation,
    LoadRuleset,
    MarkUnblocked,
    RemoveTunnel,
)
from aovpnd.repairs import Failure
from aovpnd.routes import Route, Routing
from aovpnd.sockets import Sweep
from aovpnd.tunnel import Endpoint
from tests.unit.small_world import AOVPN, DEFAULT4, HOME, NOW, WORK, state_of
from tests.unit.test_decide import HOME_NET, ONE, SHAKEN, SHOOK, UP

OPEN: Final = Intent(block=Block.OFF)
OWN4: Final = tuple(address.ip for address in WORK.addresses if isinstance(address, IPv4Interface))


def settled(intent: Intent, snapshot: Snapshot) -> tuple[Desired, Snapshot]:
    """What should be, and the same world in which it is."""
    desired = replace(decide(ONE, intent, snapshot), sweep=None)  # as long as nothing moves
    there = replace(
        snapshot,
        ruleset=desired.ruleset,
        table_present=desired.ruleset is not None,
        routing=desired.routing or Routing((), ()),
        guard=desired.guard,
        copies=Copies.CURRENT if desired.guard is GuardState.HELD else Copies.ABSENT,
        unannounced=OWN4 if desired.tunnels else (),
        unblocked=desired.unblocked,
        dns=DnsState((Mechanism.FILE,), desired.dns),
    )
    return desired, there


def words(desired: Desired, snapshot: Snapshot) -> list[str]:
    """The actions as the log has them."""
    return [action.describe() for action in diff(desired, snapshot)]


DESIRED, THERE = settled(SHOOK, SHAKEN)


@pytest.mark.parametrize(
    ("snapshot", "actions"),
    [
        pytest.param(THERE, [], id="nothing to do"),
        pytest.param(
            replace(THERE, ruleset=None, table_present=False),
            ["load ruleset: connected; there was none"],
            id="flushed",
        ),
        pytest.param(
            replace(THERE, ruleset=None, culprit="ufw[9]"), ["load ruleset: connected; ufw[9] changed it"], id="altered"
        ),
        pytest.param(replace(THERE, ruleset=None), ["load ruleset: connected"], id="not known to be ours"),
        pytest.param(
            replace(THERE, tunnels=(*THERE.tunnels, state_of(HOME, replace(AOVPN, index=10, name="aovpn1")))),
            ["remove tunnel link aovpn1"],
            id="one tunnel too many",
        ),
        pytest.param(replace(THERE, tunnels=()), ["tunnel work on aovpn0: create"], id="no link"),
        pytest.param(
            replace(THERE, tunnels=(replace(THERE.tunnels[0], digest="other"),)),
            ["tunnel work on aovpn0: configure"],
            id="another key",
        ),
        pytest.param(
            replace(THERE, tunnels=(replace(THERE.tunnels[0], fwmark=0),)),
            ["tunnel work on aovpn0: configure"],
            id="no mark",
        ),
        pytest.param(
            replace(THERE, tunnels=(replace(THERE.tunnels[0], addresses=()),)),
            ["tunnel work on aovpn0: configure"],
            id="no addresses",
        ),
        pytest.param(
            replace(THERE, tunnels=(replace(THERE.tunnels[0], link=replace(AOVPN, up=False)),)),
            ["tunnel work on aovpn0: set up"],
            id="link down",
        ),
        pytest.param(
            replace(THERE, tunnels=(replace(THERE.tunnels[0], peers=(PeerState("work-peer0", None, 1, 0, 0),)),)),
            ["tunnel work on aovpn0: endpoint was moved"],
            id="endpoint gone",
        ),
        pytest.param(
            replace(THERE, tunnels=(replace(THERE.tunnels[0], peers=(PeerState("work-peer9", None, 1, 0, 0),)),)),
            [],
            id="a peer without an endpoint in the file may roam",
        ),
        pytest.param(replace(THERE, routing=Routing((4,), ())), ["routing: 2 rules, 4 routes"], id="routes gone"),
        pytest.param(replace(THERE, guard=GuardState.MISSING), ["start the guard"], id="guard dead"),
        pytest.param(replace(THERE, guard=GuardState.STARTING), [], id="guard starting"),
        pytest.param(replace(THERE, guard=GuardState.FAILING), [], id="guard failing"),
        pytest.param(replace(THERE, unblocked=True), ["remember that the block is on"], id="the marker is there"),
    ],
)
def test_what_to_do(snapshot: Snapshot, actions: list[str]) -> None:
    """One deviation, one action; none for what moves by itself."""
    assert words(DESIRED, snapshot) == actions


@pytest.mark.parametrize("copies", [Copies.STALE, Copies.ABSENT])
def test_copies_follow_the_links(copies: Copies) -> None:
    """Our own copies of the guard's tables are mended by themselves, while everything else is as it should be."""
    desired, there = settled(Intent(wish=Wish.DISCONNECT), replace(THERE, tunnels=()))

    assert words(desired, replace(there, copies=copies)) == ["attach egress"]


def test_no_neighbour_is_told_the_tunnels_address() -> None:
    """It is kept out of ARP before its link gets it, for as long as a link has it, whatever its file says meanwhile,
    and no longer.
    """
    fresh = replace(THERE, tunnels=(), unannounced=())
    moved = replace(THERE.tunnels[0], addresses=(ip_interface("10.99.0.9/32"),))
    for snapshot, own in ((fresh, OWN4), (replace(THERE, tunnels=(moved,)), (*OWN4, IPv4Address("10.99.0.9")))):
        first, second = diff(DESIRED, snapshot)[:2]
        assert first == EnsureCopies(snapshot.links, own)
        assert isinstance(second, EnsureTunnel)

    idle, there = settled(Intent(wish=Wish.DISCONNECT), replace(THERE, tunnels=()))
    assert diff(idle, replace(there, tunnels=THERE.tunnels, unannounced=OWN4)) == (RemoveTunnel(AOVPN),)
    assert diff(idle, replace(there, unannounced=OWN4)) == (EnsureCopies(there.links),)


def test_the_block_is_remembered_before_it_is_put_on() -> None:
    """Who is killed while putting the block on comes back blocked."""
    desired, there = settled(Intent(wish=Wish.DISCONNECT), replace(THERE, tunnels=()))

    actions = words(desired, replace(there, unblocked=True, table_present=False, ruleset=None))

    assert actions == ["remember that the block is on", "load ruleset: blocked; there was none"]


def test_taking_the_block_off() -> None:
    """Everything of ours goes, the ruleset first, the marker last; and then there is nothing left to do."""
    desired, there = settled(OPEN, replace(SHAKEN, tunnels=()))

    assert words(desired, THERE) == [
        "remove ruleset",
        "detach egress",
        "remove tunnel link aovpn0",
        "remove our rule and routes",
        "stop the guard",
        "remember that the block is off",
        "names: as the network has them",
    ]
    assert words(desired, there) == []
    assert words(desired, replace(there, guard=GuardState.STARTING)) == ["stop the guard"]
    assert words(desired, replace(there, table_present=True)) == ["remove ruleset"]


@pytest.mark.parametrize("left", [Routing((4,), ()), Routing((), (Route(DEFAULT4, None),)), Routing((), (), (), (6,))])
def test_leftovers_of_routing_go(left: Routing) -> None:
    """A rule or a route of ours alone is removed too; sysctls may stay."""
    desired, there = settled(OPEN, replace(SHAKEN, tunnels=()))

    assert words(desired, replace(there, routing=left)) == ["remove our rule and routes"]
    assert words(desired, replace(there, routing=Routing((), (), (("net/x", 1),)))) == []


def test_endpoint_that_roamed_is_put_back() -> None:
    """A gateway that answered from elsewhere does not move our endpoint: the permit is for the one in the file."""
    moved = replace(THERE.tunnels[0].peers[0], endpoint=Endpoint(WORK.endpoints[1].addr, 9))
    state = replace(THERE.tunnels[0], peers=(moved, *THERE.tunnels[0].peers[1:]))

    assert words(DESIRED, replace(THERE, tunnels=(state,))) == ["tunnel work on aovpn0: endpoint was moved"]


# -- what may be done now ----------------------------------------------------------------------------------------------
LOAD: Final = LoadRuleset(DESIRED.ruleset)
SHUT: Final = EnsureRouting(Routing((4,), (Route(DEFAULT4, None),)))
UNSHUT: Final = EnsureRouting(Routing((4,), ()))
TUNNEL_UP: Final = EnsureTunnel(decide(ONE, SHOOK, UP).tunnels[0])
TUNNEL_DOWN: Final = EnsureTunnel(replace(TUNNEL_UP.wish, state=LinkWish.DOWN))
LOOSENS: Final[tuple[Action, ...]] = (
    TUNNEL_UP,
    UNSHUT,
    EnsureRouting(None),
    EnsureCopies(None),
    EnsureGuard(GuardState.MISSING),
    MarkUnblocked(Block.OFF),
    KeepConfirmation(NEVER),
)
TIGHTENS: Final[tuple[Action, ...]] = (
    RemoveTunnel(AOVPN),
    TUNNEL_DOWN,
    CloseSockets(Sweep((), frozenset(), frozenset())),
    SHUT,
    EnsureCopies(()),
    EnsureGuard(GuardState.HELD),
    MarkUnblocked(Block.ON),
    KeepConfirmation(GIVEN),
    KeepConfirmation(awaited(NOW)),
)


def waiting(action: str, at: float = NOW + 1) -> tuple[Failure, ...]:
    """The memory of an action that failed and is tried again ``at``."""
    return (Failure(action, 1, at, "no"),)


def test_while_the_ruleset_waits_nothing_loosens() -> None:
    """As long as the ruleset cannot be loaded, only what shuts something may go on."""
    actions = (LOAD, *LOOSENS, *TIGHTENS)

    assert due(actions, (), NOW) == actions
    assert due(actions, waiting("LoadRuleset"), NOW) == TIGHTENS
    assert due(actions, waiting("LoadRuleset", NOW), NOW) == actions
    assert due((*LOOSENS, *TIGHTENS), waiting("LoadRuleset"), NOW) == (*LOOSENS, *TIGHTENS)


def test_what_failed_waits_alone() -> None:
    """Another action's failure holds up no other."""
    assert due((LOAD, TUNNEL_UP, SHUT), waiting("EnsureTunnel"), NOW) == (LOAD, SHUT)
    assert due((LOAD, TUNNEL_UP, SHUT), waiting("EnsureTunnel", NOW), NOW) == (LOAD, TUNNEL_UP, SHUT)


def test_a_new_path_is_shaken() -> None:
    """A tunnel that is as it should be, on a path that nothing proves, shakes hands."""
    desired, there = settled(Intent(), SHAKEN)

    assert words(desired, there) == ["tunnel work on aovpn0: new handshake"]


def test_home_without_anything() -> None:
    """From nothing: the lock, a link that is down, closed routes, the guard."""
    assert words(decide(ONE, Intent(), HOME_NET), replace(HOME_NET, guard=GuardState.MISSING)) == [
        "load ruleset: connecting; there was none",
        "attach egress",
        "tunnel work on aovpn0: create",
        "routing: 2 rules, 2 routes",
        "close old sockets",
        "start the guard",
    ]
