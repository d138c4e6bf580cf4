# SPDX-License-Identifier: GPL-3.0-or-later
"""Users with tunnels to themselves: which of them stand, where packets are led, who is kept out, who is asked names."""

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any, Final

import pytest

from aovpnd import names
from aovpnd.core.answers import answer
from aovpnd.core.decide import decide
from aovpnd.core.picture import Picture
from aovpnd.destinations import parse
from aovpnd.dns import DnsState, Mechanism
from aovpnd.filters import Direction, Filter
from aovpnd.gateways import Gateways, Role
from aovpnd.model import Block, Config, Origin, Phase
from aovpnd.orders import AllowTemporary, Explain, SetBlock
from aovpnd.render import render
from aovpnd.routes import Lane
from aovpnd.ruleset import L4, Device, Hook, Owner, Users, Verdict
from aovpnd.sockets import Socket, Transport
from aovpnd.trace import verdict
from aovpnd.users import User, When
from tests.unit.packets import packet
from tests.unit.small_companions import MGMT
from tests.unit.small_users import ALICE, BOB, OWN, SERVER_M
from tests.unit.small_world import WORK, filtered
from tests.unit.test_companions import connected, problems, routes, tunnels
from tests.unit.world import Laptop

ALONE: Final = User("alice", ALICE, only="mgmt")
ANYBODY: Final = str(Owner.ANYBODY)
ONE: Final = Config((OWN, WORK), prefer=("work",), users=(ALONE,))


def lanes(machine: Laptop) -> dict[int, Lane]:
    """Tables of users' own, by IP version."""
    return {lane.family: lane for lane in machine.snapshot.routing.lanes}


def ways(machine: Laptop, lane: Lane) -> dict[str, str | None]:
    """Where a table leads: destination to link; None is closed."""
    links = {link.index: link.name for link in machine.snapshot.links}
    found = sorted(lane.routes, key=lambda route: -route.metric)
    return {str(r.dst): None if r.link is None else links[r.link] for r in found}


def problems_of(machine: Laptop) -> dict[str, str]:
    """What is wrong now, by code."""
    found = decide(machine.config, machine.intent, machine.snapshot).problems
    return {problem.code: problem.text for problem in found}


def rules(machine: Laptop) -> list[str]:
    """The lines of our table that are about users."""
    assert machine.snapshot.ruleset is not None
    return [
        line.strip() for line in render(machine.snapshot.ruleset).split("\n") if "skuid" in line and ANYBODY not in line
    ]


# -- side by side -----------------------------------------------------------------------------------------------------
def test_alice_has_a_tunnel_to_herself() -> None:
    """It stands beside the one that carries although it carries everything, in a table of her own; ours knows nothing
    of it.
    """
    machine = connected(ONE)
    found = tunnels(machine)

    assert machine.phase is Phase.CONNECTED
    assert (found["mgmt"]["role"], found["mgmt"]["state"], found["mgmt"]["users"]) == (
        "companion",
        "connected",
        ["alice"],
    )
    assert found["work"]["users"] == []
    assert routes(machine) == {"0.0.0.0/0": "aovpn0", "::/0": "aovpn0"}
    four, six = lanes(machine)[4], lanes(machine)[6]
    assert (four.table, four.users, four.link_name) == (names.LANE_TABLES[0], (ALICE,), "aovpn1")
    assert (list(map(str, four.sources)), list(map(str, six.sources))) == (["10.99.0.2"], ["fd99::2"])
    assert (ways(machine, four), ways(machine, six)) == ({"0.0.0.0/0": "aovpn1"}, {"::/0": "aovpn1"})
    assert set(problems(machine)) == {"user-names"}  # this machine's programs ask by themselves


def test_who_is_kept_out() -> None:
    """Nobody else leaves by her link, and she by no other; its name servers anybody may ask. Guests have no user."""
    machine = connected(ONE)
    hers = [line for line in rules(machine) if '"aovpn1"' in line]
    theirs = [line for line in rules(machine) if '"aovpn0"' in line]

    assert all(f"meta skuid != {{ 0, {ALICE} }}" in line for line in hers)
    assert all(f"meta skuid {ALICE}" in line for line in theirs)
    assert (len(hers), len(theirs)) == (2, 2)  # at output and at the last look
    assert machine.snapshot.ruleset is not None
    forward = machine.snapshot.ruleset.chain("forward").rules
    assert {rule.match.oif.name for rule in forward if rule.match.oif is not None} <= {"aovpn0", "docker0", "virbr0"}


def test_what_is_nobodys_begins_nothing() -> None:
    """A socket that the kernel has made for a program names nobody: it opens no connection by a tunnel that is not for
    all, and sends no UDP by somebody's own. What goes on, such as the end of a connection, is let through with the
    tunnel's own address alone: one that began beside it goes not there.
    """
    machine = connected(replace(ONE, users=(ALONE, User("bob", BOB, never=("work",)))))
    table = machine.snapshot.ruleset
    assert table is not None

    def passes(link: str, **more: Any) -> bool:
        index = next(link_.index for link_ in machine.snapshot.links if link_.name == link)
        own = ip_address("10.64.0.2" if link == "aovpn0" else "10.99.0.2")
        sent = packet("203.0.113.80", dport=443, oif=Device(index, link, "wireguard"), **{"saddr": own, **more})
        return verdict(table, Hook.OUTPUT, sent)[0] is Verdict.ACCEPT

    for link, owner in (("aovpn0", 1003), ("aovpn1", ALICE)):
        assert passes(link, l4=L4.TCP, begins=True, owner=owner)
        assert passes(link, l4=L4.TCP)
        assert not passes(link, l4=L4.TCP, saddr=ip_address("192.168.1.23"))
        assert passes(link, l4=L4.TCP, saddr=ip_address("192.168.1.23"), owner=owner)
        assert not passes(link, l4=L4.TCP, begins=True)
        assert not passes(link, l4=L4.TCP, begins=True, mark=names.STAMP)
    assert passes("aovpn0", l4=L4.UDP)
    assert not passes("aovpn1", l4=L4.UDP)
    free = connected(Config((OWN, WORK), prefer=("work",)))
    assert free.snapshot.ruleset is not None
    assert not any(rule.match.begins for rule in free.snapshot.ruleset.chain("output").rules)


def test_names_as_far_as_filters_let_them() -> None:
    """Others may ask her name servers no more than she."""
    ask = Filter(Direction.OUT, (ip_network(SERVER_M),), (L4.UDP,), (53,))
    machine = connected(filtered(ONE, "mgmt", (ask,)))
    assert machine.snapshot.ruleset is not None
    lines = [line for line in render(machine.snapshot.ruleset).split("\n") if "whoever asks" in line]

    assert len(lines) == 2  # at output and at the last look
    assert all("ip daddr 10.99.0.1 udp dport 53 " in line and " accept " in line for line in lines)


def test_who_is_kept_out_while_another_is_left() -> None:
    """The link that carried the one is not taken along by those who may use the other alone: until it is given the new
    configuration, it leads to the old one's end.
    """
    bob = User("bob", BOB, never=("work",))
    machine = connected(Config((OWN, WORK), prefer=("work", "mgmt"), users=(bob,)))
    assert rules(machine)
    moved = replace(machine.intent, gateways=replace(machine.intent.gateways, carrier="mgmt"))

    for users, taken in (((bob,), False), ((replace(bob, never=("work", "mgmt")),), True)):
        config = replace(machine.config, users=users)
        table = decide(config, moved, machine.snapshot).ruleset
        assert table is not None
        assert any(rule.match.oif and rule.match.oif.name == "aovpn0" for rule in table.chain("output").rules) is taken


def test_others_connections_by_her_tunnel_are_closed() -> None:
    """Those from when it carried for everybody: what is left of one that its program closes would be nobody's. Hers and
    root's stay.
    """
    machine = connected(replace(ONE, prefer=("mgmt", "work")))
    was = machine.intent.swept
    machine.config = ONE
    desired = decide(ONE, replace(machine.intent, gateways=Gateways()), machine.snapshot)
    assert desired.sweep is not None
    assert desired.sweep.why != was

    own = OWN.addresses[0].ip
    for uid, closed in ((ALICE, False), (BOB, True), (0, False)):
        there = Socket(Transport.TCP, own, 40000, ip_address("203.0.113.80"), uid=uid)
        assert desired.sweep.closes(there) is closed
    assert not desired.sweep.closes(Socket(Transport.TCP, own, 40000, own, uid=BOB))


def test_behind_it_nothing() -> None:
    """While her tunnel is not up she goes nowhere; what a table of hers does not answer is closed."""
    machine = connected(ONE, "mgmt")
    machine.silent = {"mgmt"}
    lane = lanes(machine)[4]

    assert [(str(r.dst), r.metric) for r in lane.routes if r.link is None] == [("0.0.0.0/0", names.CLOSED_METRIC)]
    assert "companion-silent" in problems(machine)


def test_in_a_window() -> None:
    """She sees the portal as everybody does: nothing leads her past it."""
    machine = connected(ONE, "mgmt", "work")
    assert lanes(machine)
    machine.settle(AllowTemporary(user="alice"))

    assert machine.phase is Phase.TEMPORARY_ACCESS
    assert lanes(machine) == {}
    assert any('"aovpn0"' in line and f"skuid {ALICE}" in line for line in rules(machine))


def test_unblocked() -> None:
    """Nothing of it stays."""
    machine = connected(ONE)
    machine.settle(SetBlock(Block.OFF))

    assert lanes(machine) == {}
    assert machine.snapshot.ruleset is None


# -- which stand ------------------------------------------------------------------------------------------------------
def test_only_while_she_is_logged_in() -> None:
    """It comes with her login and goes with her last logout; she is kept from the others all the time."""
    config = replace(ONE, users=(replace(ALONE, when=When.LOGGED_IN),))
    machine = connected(config)
    assert tunnels(machine)["mgmt"]["state"] == "down"
    assert any(f"skuid {ALICE}" in line for line in rules(machine))

    machine.snapshot = replace(machine.snapshot, people=frozenset({BOB, ALICE}))
    machine.wait(10.0)
    assert tunnels(machine)["mgmt"]["state"] == "connected"

    machine.snapshot = replace(machine.snapshot, people=frozenset({BOB}))
    machine.settle()
    assert tunnels(machine)["mgmt"]["state"] == "down"
    assert lanes(machine) == {}
    assert any(f"skuid {ALICE}" in line for line in rules(machine))


def test_two_people_with_a_tunnel_each() -> None:
    """Each uses only his own; with two, and no tunnel for everybody, names are asked of neither."""
    config = Config((OWN, WORK), users=(ALONE, User("bob", BOB, only="work")))
    machine = connected(config)
    machine.settle()

    both = {lane.users: lane.link_name for lane in machine.snapshot.routing.lanes}
    assert set(both) == {(ALICE,), (BOB,)}
    assert len(set(both.values())) == 2
    assert machine.phase is Phase.BLOCKED
    assert machine.settle().dns is None
    assert {lane.table for lane in machine.snapshot.routing.lanes} == {*names.LANE_TABLES[:2]}
    assert "tunnel-not-chosen" not in problems(machine)


def test_her_tunnel_carries_or_stands_for_everybody() -> None:
    """Then it is nobody's alone, and needs no table; she is kept from the others as before."""
    carries = connected(replace(ONE, prefer=("mgmt",)))
    assert (lanes(carries), rules(carries)) == ({}, [])
    machine = connected(replace(ONE, tunnels=(MGMT, WORK), companions=("mgmt",)))
    assert lanes(machine) == {}
    assert not any("!=" in line for line in rules(machine))
    assert any(f"skuid {ALICE}" in line and '"aovpn0"' in line for line in rules(machine))


def test_never() -> None:
    """Who may not use a tunnel is kept from it and led nowhere else."""
    machine = connected(replace(ONE, users=(User("bob", BOB, never=("work",)),)))

    assert rules(machine)
    assert all(f"skuid {BOB}" in line and '"aovpn0"' in line for line in rules(machine))
    assert lanes(machine) == {}


@pytest.mark.parametrize(
    ("config", "code", "text"),
    [
        (replace(ONE, tunnels=(WORK,)), "tunnel-unknown", "there is no tunnel called mgmt"),
        (
            replace(ONE, tunnels=(replace(OWN, addresses=WORK.addresses), WORK)),
            "companion-unfit",
            "mgmt cannot stand beside another tunnel: work has its address",
        ),
    ],
)
def test_what_is_wrong(config: Config, code: str, text: str) -> None:
    """She has none then, and is told why."""
    machine = connected(config)

    assert problems(machine)[code].startswith(text)
    assert lanes(machine) == {}


# -- names ------------------------------------------------------------------------------------------------------------
def test_names_of_the_only_tunnel() -> None:
    """Where nothing carries for everybody, and one user has a tunnel, all names are asked of its servers."""
    machine = connected(replace(ONE, prefer=(), users=(ALONE,)))
    machine.snapshot = replace(machine.snapshot, dns=DnsState(by=(Mechanism.RESOLVED,)))
    dns = decide(machine.config, machine.intent, machine.snapshot).dns

    assert dns is not None
    assert (dns.link_name, dns.servers, dns.beside) == ("aovpn1", OWN.dns, ())


def test_names_go_with_the_one_that_carries() -> None:
    """Where one does, it is asked: names have a program of their own, which is no user's."""
    machine = connected(ONE)
    dns = machine.settle().dns

    assert dns is not None
    assert dns.link_name == "aovpn0"


def test_wishes_are_companions() -> None:
    """A failure of hers holds up nobody else."""
    machine = connected(ONE)
    wishes: Any = {wish.spec.name: wish.role for wish in machine.settle().tunnels}

    assert wishes == {"work": Role.CARRIES, "mgmt": Role.COMPANION}


def test_names_of_those_who_may_not_ask() -> None:
    """Where programs ask by themselves, those of users who are kept from the tunnel that is asked find no names."""
    machine = connected(replace(ONE, users=(ALONE, User("bob", BOB, never=("work",)))))
    for by, is_told in (((Mechanism.FILE,), True), ((Mechanism.RESOLVED,), False), ((), False)):
        machine.snapshot = replace(machine.snapshot, dns=DnsState(by=by))
        assert ("user-names" in problems_of(machine)) is is_told
    machine.snapshot = replace(machine.snapshot, dns=DnsState(by=(Mechanism.FILE,)))
    text = problems_of(machine)["user-names"]
    assert text == "programs of alice, bob find no names: they ask work's servers, and that tunnel is not for them"
    machine.config = replace(machine.config, users=())
    assert "user-names" not in problems_of(machine)


def test_more_tunnels_than_tables() -> None:
    """Whoever's comes last in the alphabet is told; nobody leads him anywhere, and he is kept from the others."""
    many = tuple(User(f"u{number}", 2000 + number, only=f"a{number:02}") for number in range(16))
    machine = connected(replace(ONE, users=(ALONE, *many)))

    [problem] = (p for p in decide(machine.config, machine.intent, machine.snapshot).problems if "mgmt" in p.text)
    assert problem.code == "companion-unfit"
    assert problem.text == "nothing leads the users of mgmt there: 16 tunnels have users of their own"
    assert lanes(machine) == {}

    away = replace(machine.config, users=(replace(ALONE, when=When.LOGGED_IN), *many))
    assert not any("mgmt" in p.text for p in decide(away, machine.intent, machine.snapshot).problems)


# -- what is said of it -----------------------------------------------------------------------------------------------
def told(machine: Laptop, to: str) -> str:
    """What `aovpnctl explain` says first."""
    picture = Picture(machine.config, machine.intent, machine.snapshot, machine.settle())
    return answer(Explain(parse(to)), picture).text


def test_explained_for_each() -> None:
    """Alice by hers, bob not by the one that carries, and everybody else as if neither were named."""
    config = replace(ONE, users=(ALONE, User("bob", BOB, never=("work",))))
    machine = connected(config)

    assert told(machine, f"{ALICE}@203.0.113.80") == (
        f"{ALICE}@203.0.113.80:443/tcp leaves through the tunnel mgmt (aovpn1)"
    )
    assert told(machine, f"{BOB}@203.0.113.80") == (
        f"{BOB}@203.0.113.80:443/tcp is refused at once: the tunnel work is not for bob"
    )
    written = (Origin("user.alice", "only mgmt", "/etc/aovpnd/aovpnd.toml", 3),)
    machine.config = replace(config, origins=written)
    seen = Picture(machine.config, machine.intent, machine.snapshot, machine.settle())
    data = answer(Explain(parse(f"{ALICE}@203.0.113.80")), seen).data
    assert data is not None
    assert {"file": written[0].file, "line": 3, "key": "user.alice", "value": "only mgmt"} in data["origins"]  # type: ignore[operator]
    for whom in ("", "1003@"):
        assert told(machine, f"{whom}203.0.113.80").endswith("leaves through the tunnel work (aovpn0)")


def test_explained_while_it_is_down() -> None:
    """What she is told is about hers, and what others are told is not."""
    machine = connected(ONE)
    machine.fails_for = {"mgmt", "work"}
    for link in ("aovpn0", "aovpn1"):
        machine.lose_link(link)

    assert "the tunnel mgmt is not up yet, and what it carries leaves by no other" in told(machine, f"{ALICE}@9.9.9.9")
    assert "the tunnel work is not up yet" in told(machine, "9.9.9.9")


def test_explained_what_ones_own_does_not_carry() -> None:
    """Each is told of his own tunnel, never of the other's or of the one that carries."""
    narrow = replace(OWN, peers=(replace(OWN.peers[0], allowed=(ip_network("10.99.0.0/16"),)),))
    machine = connected(replace(ONE, tunnels=(narrow, WORK)))
    assert told(machine, f"{ALICE}@9.9.9.9").endswith("the tunnel mgmt does not carry it, and alice may use no other")

    machine = connected(Config((OWN, WORK), users=(ALONE, User("bob", BOB, only="work"))))
    machine.fails_for = {"mgmt", "work"}
    for link in {lane.link_name for lane in machine.snapshot.routing.lanes}:
        machine.lose_link(link)
    for uid, name in ((ALICE, "mgmt"), (BOB, "work")):
        assert f"the tunnel {name} is not up yet" in told(machine, f"{uid}@9.9.9.9")


def test_users_of_a_rule() -> None:
    """Nobody, or who cannot be, makes no rule: it would be about everybody."""
    for uids in ((), (-1,), (1 << 32,)):
        with pytest.raises(ValueError, match="are no users"):
            Users(uids)
