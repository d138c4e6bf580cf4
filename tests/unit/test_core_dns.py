# SPDX-License-Identifier: GPL-3.0-or-later
"""Who shall be asked for names, in each phase, and what is said when nobody can be."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from aovpnd.core import dns
from aovpnd.core.decide import decide
from aovpnd.core.plan import diff
from aovpnd.dns import Dns, DnsState, Mechanism, Scope
from aovpnd.model import Block, Config, Intent, Snapshot, Wish
from aovpnd.orders import AllowTemporary, EnsureDns
from aovpnd.repairs import Failure
from aovpnd.ruleset import L4, Device
from aovpnd.trace import Packet
from aovpnd.tunnel import WireGuard
from tests.unit.small_world import NOW, RESOLVER4, SERVER4, SERVER6, WORK, state_of
from tests.unit.test_decide import HOME_NET, NO_NET, ONE, SHAKEN, SHOOK, UP
from tests.unit.world import Laptop

ALL = Dns(9, "aovpn0", (SERVER4, SERVER6))
NARROW = replace(WORK, peers=(replace(WORK.peers[0], allowed=(ip_network("10.64.0.0/16"), ip_network("fd64::/64"))),))


def asked(spec: WireGuard, intent: Intent = SHOOK, snapshot: Snapshot = SHAKEN) -> Dns | None:
    """Whom programs shall ask while the link of this tunnel is up."""
    there = replace(snapshot, tunnels=tuple(replace(state_of(spec), link=s.link) for s in snapshot.tunnels))
    return decide(Config((spec,)), intent, there).dns


def test_phases() -> None:
    """The tunnel's servers from the moment that its link is verified and up, until anything takes it away."""
    down = replace(UP, tunnels=(replace(UP.tunnels[0], link=replace(UP.tunnels[0].link, up=False)),))
    unverified = replace(UP, tunnels=(replace(UP.tunnels[0], digest="other"),))

    assert asked(WORK) == ALL
    assert asked(WORK, Intent(), UP) == ALL  # connecting: names wait for the handshake, as everything does
    assert decide(ONE, Intent(), HOME_NET).dns is None
    assert decide(ONE, Intent(), NO_NET).dns is None
    assert decide(ONE, Intent(), down).dns is None
    assert decide(ONE, Intent(), unverified).dns is None
    assert decide(ONE, Intent(wish=Wish.DISCONNECT), UP).dns is None
    assert decide(ONE, Intent(block=Block.OFF), UP).dns is None


def test_a_ruleset_that_cannot_be_loaded() -> None:
    """Where routing alone keeps the machine shut, nothing is asked of a tunnel."""
    failed = (Failure("LoadRuleset", 1, NOW + 1, "no"),)

    assert decide(ONE, replace(SHOOK, failures=failed), replace(SHAKEN, table_present=False)).dns is None


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param(replace(WORK, search=("Corp.Example.",)), replace(ALL, search=("corp.example",)), id="search"),
        pytest.param(replace(WORK, search=("~a.b", "~a.b")), replace(ALL, routes=("a.b",)), id="routes, and the rest"),
        pytest.param(NARROW, ALL, id="narrow, and no domains: there is nobody else to ask"),
        pytest.param(
            replace(NARROW, search=("corp.example", "~lab.example")),
            Dns(9, "aovpn0", (SERVER4, SERVER6), ("corp.example",), ("lab.example",), Scope.DOMAINS),
            id="split",
        ),
        pytest.param(
            replace(NARROW, search=("corp.example", "~.")), replace(ALL, search=("corp.example",)), id="all names"
        ),
        pytest.param(replace(WORK, dns=()), None, id="no servers"),
        pytest.param(
            replace(NARROW, dns=(ip_address("9.9.9.9"), SERVER6)), replace(ALL, servers=(SERVER6,)), id="one outside"
        ),
        pytest.param(
            replace(NARROW, dns=(ip_address("127.0.0.1"),)),
            replace(ALL, servers=(ip_address("127.0.0.1"),)),
            id="this host's own",
        ),
        pytest.param(
            replace(WORK, dns=tuple(ip_address(f"10.64.0.{n}") for n in range(1, 40))),
            replace(ALL, servers=tuple(ip_address(f"10.64.0.{n}") for n in range(1, 9))),
            id="too many",
        ),
    ],
)
def test_files(spec: WireGuard, expected: Dns | None) -> None:
    """What a tunnel's file says, and how far it is followed."""
    assert asked(spec) == expected


def test_without_ipv6() -> None:
    """Where the kernel speaks no IPv6, such a server is none."""
    spec = replace(WORK, addresses=WORK.addresses[:1])
    there = replace(SHAKEN, ipv6=False, tunnels=(state_of(spec),))

    assert decide(Config((spec,)), Intent(), there).dns == replace(ALL, servers=(SERVER4,))


def test_as_resolvectl_writes_domains() -> None:
    """``~`` before what is not appended to short names, ``~.`` for all names."""
    split = Dns(9, "aovpn0", (SERVER4,), ("a.example",), ("b.example",), Scope.DOMAINS)

    assert split.domains == ("a.example", "~b.example")
    assert replace(split, scope=Scope.ALL).domains == ("a.example", "~b.example", "~.")
    assert str(split) == "10.64.0.1 for a.example, b.example"
    assert str(ALL) == "10.64.0.1, fd64::1 for all names"


# -- what is said ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("spec", "resolvers", "code", "text"),
    [
        pytest.param(WORK, ("192.168.1.1",), "", "", id="servers"),
        pytest.param(replace(WORK, dns=()), (), "", "", id="nobody knows"),
        pytest.param(replace(WORK, dns=()), ("192.168.1.1", "9.9.9.9"), "", "", id="one that the tunnel leads to"),
        pytest.param(
            replace(WORK, dns=()),
            ("192.168.1.1",),
            "no-dns",
            "work names no DNS servers, and those of the network (192.168.1.1) are blocked",
            id="none",
        ),
        pytest.param(
            replace(NARROW, dns=()),
            ("9.9.9.9",),
            "no-dns",
            "work names no DNS servers, and those of the network (9.9.9.9) are blocked",
            id="none, and narrow",
        ),
        pytest.param(
            replace(NARROW, dns=(ip_address("9.9.9.9"),)),
            (),
            "dns-outside",
            "the DNS servers of work (9.9.9.9) are outside what it carries",
            id="outside",
        ),
    ],
)
def test_problems(spec: WireGuard, resolvers: tuple[str, ...], code: str, text: str) -> None:
    """Somebody whose names do not resolve learns why."""
    there = replace(SHAKEN, tunnels=(state_of(spec),), resolvers=tuple(map(ip_address, resolvers)))
    found = [p for p in decide(Config((spec,)), SHOOK, there).problems if "dns" in p.code]

    assert [(problem.code, problem.text) for problem in found] == ([(code, text)] if code else [])
    assert all(problem.hint for problem in found)


def test_a_failure_has_a_name_of_its_own() -> None:
    """That names are not as they should be is not said as if the block were in danger."""
    intent = replace(SHOOK, failures=(Failure("EnsureDns", 1, NOW + 1, "it hangs", "look"),))

    assert [(p.code, p.text, p.hint) for p in decide(ONE, intent, SHAKEN).problems if "guard" not in p.code] == [
        ("dns-failed", "it hangs", "look")
    ]


def test_unblocked_tries_again() -> None:
    """What could not be given back is given back later, also when nothing else is left to do."""
    intent = Intent(block=Block.OFF, failures=(Failure("EnsureDns", 1, NOW + 5, "no"),))

    assert decide(ONE, intent, HOME_NET).wake_at == NOW + 5
    assert decide(ONE, intent, replace(HOME_NET, now=replace(HOME_NET.now, boot=NOW + 5))).wake_at is None


# -- what is done ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("state", "words"),
    [
        (DnsState((Mechanism.FILE,), ALL), []),
        (DnsState((Mechanism.FILE,)), ["names: ask 10.64.0.1, fd64::1 for all names"]),
        (
            DnsState((Mechanism.FILE,), None, "it was overwritten"),
            ["names: ask 10.64.0.1, fd64::1 for all names (it was overwritten)"],
        ),
        (DnsState((Mechanism.FILE,), ALL, "left over"), ["names: ask 10.64.0.1, fd64::1 for all names (left over)"]),
        (
            DnsState((Mechanism.FILE,), replace(ALL, link=8)),
            ["names: ask 10.64.0.1, fd64::1 for all names"],
        ),
    ],
)
def test_difference(state: DnsState, words: list[str]) -> None:
    """Anything but what is wanted, or anything astray, is put right."""
    there = replace(SHAKEN, dns=state)
    actions = diff(decide(ONE, SHOOK, there), there)

    assert [action.describe() for action in actions if isinstance(action, EnsureDns)] == words


def test_a_day() -> None:
    """Home, a window, the tunnel again, a crash, disconnected: asked are the tunnel's servers, or nobody of ours."""
    machine = Laptop(ONE, answers=False)
    machine.snapshot = replace(machine.snapshot, resolvers=(RESOLVER4,))
    machine.join("home")
    machine.wait(1.0)
    assert _servers(machine) == (SERVER4, SERVER6)
    machine.settle(AllowTemporary(60))
    assert _servers(machine) is None
    machine.answers = True
    machine.wait(70.0)
    assert _servers(machine) == (SERVER4, SERVER6)
    machine.restart()
    machine.settle()
    assert _servers(machine) == (SERVER4, SERVER6)
    machine.lose_link("aovpn0")
    machine.wait(5.0)
    assert machine.snapshot.dns.dns is not None
    assert machine.snapshot.dns.dns.link == machine.snapshot.tunnels[0].link.index


def test_a_failure_holds_nothing_up() -> None:
    """A resolver that cannot be told anything is tried again later; the tunnel comes up all the same."""
    machine = Laptop(ONE, fails={EnsureDns})
    machine.join("home")
    machine.wait(3.0)
    tries = sum(isinstance(action, EnsureDns) for action in machine.done)

    assert machine.phase.value == "connected"
    assert 1 < tries < 8
    machine.fails.clear()
    machine.wait(30.0)
    assert _servers(machine) == (SERVER4, SERVER6)


def _servers(machine: Laptop) -> tuple[object, ...] | None:
    dns = machine.snapshot.dns.dns
    return dns.servers if dns is not None else None


# -- where names may go ------------------------------------------------------------------------------------------------
OUTSIDE = (Device(2, "wlan0"), Device(3, "eth0"))


def check_names(machine: Laptop) -> None:
    """After any action: whoever asks the tunnel's servers, or the network's, asks through the tunnel or in a window."""
    for server in (SERVER4, SERVER6, RESOLVER4):
        for device in OUTSIDE:
            question = Packet(oif=device, daddr=server, l4=L4.UDP, dport=53)
            granted = machine.intent.grant is not None and server == RESOLVER4
            if machine.snapshot.ruleset is not None and not granted:
                assert not machine.lets_out(question), (machine.done[-1], server)


def test_names_go_nowhere_else_after_any_action() -> None:
    """Every prefix of every plan of a day: no name leaves but through the tunnel, and in a window to the network's
    resolver.
    """
    machine = Laptop(ONE)
    machine.snapshot = replace(machine.snapshot, resolvers=(RESOLVER4,))
    machine.watch = check_names
    machine.join("home")
    machine.wait(2.0)
    machine.answers = False
    machine.join("cafe")
    machine.wait(50.0)
    machine.settle(AllowTemporary(60))
    machine.wait(61.0)
    for event in (machine.flush, machine.restart):
        event()
        machine.settle()
    machine.lose_link("aovpn0")
    machine.wait(5.0)

    assert sum(isinstance(action, EnsureDns) for action in machine.done) >= 4


def test_a_lost_file_is_said() -> None:
    """Beside whatever else is wrong with names, and where nothing else is."""
    lost = replace(HOME_NET, dns=replace(HOME_NET.dns, lost=True))
    for spec in (None, WORK, replace(WORK, dns=()), replace(WORK, dns=(ip_address("192.0.2.53"),), peers=())):
        before = dns.problems(HOME_NET, spec)
        said = dns.problems(lost, spec)
        assert [problem.code for problem in said] == ["resolv-conf-lost", *(problem.code for problem in before)]
