# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters on a tunnel beside what the small world asks of them: what they name, whom of our own they let be asked, and
how `explain` tells them.
"""

from dataclasses import replace
from ipaddress import ip_address, ip_network
from itertools import product
from typing import Final

import pytest

from aovpnd.core import mtu
from aovpnd.core.answers import answer
from aovpnd.core.decide import decide
from aovpnd.core.explain import Fate, explain
from aovpnd.core.filtering import may_ask
from aovpnd.core.intent import settle
from aovpnd.core.view import own_tunnel
from aovpnd.destinations import parse
from aovpnd.filters import Direction, Filter, lets_out
from aovpnd.gateways import Gateways, Made
from aovpnd.model import Config, Lan, Origin, Phase
from aovpnd.orders import Answer, Explain
from aovpnd.ruleset import L4, Device, Hook, Match, Ports, Verdict
from aovpnd.trace import verdict
from aovpnd.tunnel import Endpoint
from tests.unit.packets import BESIDE, packet
from tests.unit.small_world import DEFAULT4, FILTERS, HOME, SERVER4, SERVER6, WORK, Situation, filtered
from tests.unit.spec_filters import is_named_out
from tests.unit.test_decide import ONE, SHAKEN, SHOOK
from tests.unit.test_explain import OFFICE, laptop, picture

WEB: Final = Endpoint(ip_address("203.0.113.80"), 443)
OTHER: Final = Endpoint(ip_address("203.0.113.81"), 443)
NAMES: Final = Filter(Direction.OUT, (ip_network(SERVER4),), (L4.UDP,), (53,))
PING: Final = Filter(Direction.OUT, (), (L4.ICMP, L4.ICMPV6))


# -- what a filter names ----------------------------------------------------------------------------------------------
def test_ranges_of_ports() -> None:
    """Both ends are in it; what is no range, or overlaps another, is refused before nft would refuse it."""
    assert [port in Ports(8000, 8100) for port in (7999, 8000, 8100, 8101)] == [False, True, True, False]
    for first, last in ((80, 80), (81, 80), (-1, 80), (80, 65536)):
        with pytest.raises(ValueError, match="no range of ports"):
            Ports(first, last)
    for ports in ((Ports(1, 9), 9), (9, Ports(1, 9)), (Ports(1, 9), Ports(5, 20)), (80, Ports(90, 99), 70)):
        with pytest.raises(ValueError, match="overlaps"):
            Match(l4=(L4.TCP,), dport=ports)
    assert Match(l4=(L4.TCP,), dport=(853, 53)).dport == (853, 53)


def test_what_could_name_nothing() -> None:
    """Ports of what has none, and protocols of no address's family."""
    net4, net6 = ip_network("10.0.0.0/8"), ip_network("fd00::/8")
    for protocols in ((), (L4.ICMP,), (L4.TCP, L4.ICMP)):
        with pytest.raises(ValueError, match="only TCP and UDP have ports"):
            Filter(Direction.OUT, (net4,), protocols, (80,))
    for networks, protocols in (((net4,), (L4.ICMPV6,)), ((net6,), (L4.TCP, L4.ICMP))):
        with pytest.raises(ValueError, match="none of the addresses has that protocol"):
            Filter(Direction.OUT, networks, protocols)


def test_who_is_let_out() -> None:
    """Without filters everybody; with filters for the other direction alone, nobody."""
    assert lets_out((), WEB.addr, L4.TCP, 443)
    assert not lets_out((replace(NAMES, direction=Direction.IN),), SERVER4, L4.UDP, 53)
    assert lets_out((NAMES,), SERVER4, L4.UDP, 53)
    assert not lets_out((NAMES,), SERVER4, L4.UDP, 54)
    assert not lets_out((NAMES,), SERVER4, L4.TCP, 53)
    assert not lets_out((NAMES,), SERVER6, L4.UDP, 53)
    assert lets_out((Filter(Direction.OUT, (DEFAULT4,)),), WEB.addr, L4.ICMP)
    assert not lets_out((Filter(Direction.OUT, (DEFAULT4,)),), SERVER6, L4.ICMPV6)
    assert str(Filter(Direction.IN, (DEFAULT4,))) == "in 0.0.0.0/0"


# -- each look by itself ----------------------------------------------------------------------------------------------
def test_every_look_judges_alone() -> None:
    """Output, the last look, and what is forwarded for guests say the same of what a filter names: none of them relies
    on another, and programs are refused at once, guests' too.
    """
    world = Situation("one tunnel, filtered", Lan.BLOCK, "none", "private", "up", "docker0", "given", "none").world()
    table = decide(world.config, world.intent, world.snapshot).ruleset
    tunnel, guest = Device(9, "aovpn0", "wireguard"), Device(5, "docker0", "bridge")
    assert table is not None
    ports = (22, 53, 443, 7999, 8000, 8100, 8101)
    plain = [packet(to, l4, port) for to, l4, port in product(BESIDE, (L4.TCP, L4.UDP), ports)]
    pings = [packet(BESIDE[0], L4.ICMP, icmp_type=8), packet(BESIDE[2], L4.ICMPV6, icmp_type=128)]
    passed = 0
    for sent in (replace(sent, oif=tunnel) for sent in (*plain, *pings)):
        named = is_named_out(FILTERS, sent)
        passed += named
        assert (verdict(table, Hook.POSTROUTING, sent)[0] is Verdict.ACCEPT) is named, sent
        for hook, by in ((Hook.OUTPUT, sent), (Hook.FORWARD, replace(sent, iif=guest))):
            assert verdict(table, hook, by)[0] is (Verdict.ACCEPT if named else Verdict.REJECT), sent
    assert 0 < passed < len(plain)


# -- our own questions ------------------------------------------------------------------------------------------------
def test_whom_a_probe_asks() -> None:
    """Nobody to whom the filters let nothing out: their silence would say that the gateway leads nowhere."""
    assert may_ask(WORK, FILTERS, WEB)
    assert not may_ask(WORK, FILTERS, OTHER)
    assert may_ask(WORK, (NAMES,), SERVER4)
    assert not may_ask(WORK, (NAMES,), SERVER6)
    assert may_ask(WORK, (), SERVER6)
    narrow = replace(WORK, peers=(replace(WORK.peers[0], allowed=(ip_network("10.0.0.0/8"),)),))
    assert not may_ask(narrow, (), WEB)


@pytest.mark.parametrize(
    ("filters", "targets", "asks"),
    [
        pytest.param((), (), True, id="no filters"),
        pytest.param(FILTERS, (WEB,), True, id="a target that may be asked"),
        pytest.param(FILTERS, (OTHER,), False, id="one that may not"),
        pytest.param((NAMES,), (OTHER,), True, id="a name server that may"),
    ],
)
def test_a_gateway_that_leads_nowhere(
    filters: tuple[Filter, ...], targets: tuple[Endpoint, ...], *, asks: bool
) -> None:
    """A probe finds it out, where the filters let anybody be asked; nothing is concluded where they do not."""
    made = laptop(replace(filtered(Config((OFFICE,)), "office", filters), probe=targets))
    made.settle()
    made.dead_exits = {"work"}  # the name by which its peers are known
    made.wait(60)

    assert bool(made.asked) is asks
    assert asks or made.phase is Phase.CONNECTED


def test_whom_a_measurement_asks() -> None:
    """Those who may be asked for a name, or be pinged."""
    for filters, targets in (
        ((), (SERVER4, SERVER6)),
        ((NAMES,), (SERVER4,)),
        ((PING,), (SERVER4, SERVER6)),
        ((replace(PING, protocols=(L4.ICMPV6,)),), (SERVER6,)),
        (FILTERS, (SERVER4,)),
    ):
        assert mtu.targets_of(filtered(ONE, "work", filters), WORK) == targets
    narrow = replace(WORK, peers=(replace(WORK.peers[0], allowed=(ip_network("fd00::/8"),)),))
    assert mtu.targets_of(filtered(ONE, "work", (PING,)), narrow) == (SERVER6,)


def test_whom_programs_ask_for_names() -> None:
    """The servers that filters let be asked; where they let none, somebody is told why names are not found."""
    some = decide(filtered(ONE, "work", (NAMES,)), SHOOK, SHAKEN)
    none = decide(filtered(ONE, "work"), SHOOK, SHAKEN)
    own = replace(WORK, dns=(ip_address("127.0.0.1"),))
    here = decide(filtered(Config((own,)), "work"), SHOOK, SHAKEN)

    assert some.dns is not None
    assert some.dns.servers == (SERVER4,)
    assert none.dns is None
    assert here.dns is not None
    assert [problem.code for problem in some.problems] == []
    (problem,) = (problem for problem in none.problems if problem.code == "dns-filtered")
    assert "the filters of work let nobody ask its DNS servers (10.64.0.1, fd64::1)" in problem.text
    assert "ports = [53]" in problem.hint


# -- the link ---------------------------------------------------------------------------------------------------------
def test_a_link_of_other_filters_is_not_taken_along() -> None:
    """What carried one tunnel is given the next in place only where the same may go through both."""
    (state,) = SHAKEN.tunnels
    known = settle(filtered(ONE, "work"), SHOOK, SHAKEN).gateways.made
    assert known == Made(9, "aovpn0", "wireguard", WORK.digest(), frozenset(WORK.addresses), FILTERS)

    assert own_tunnel(HOME, SHAKEN, known, FILTERS) == state
    assert own_tunnel(HOME, SHAKEN, known, ()) is None
    assert own_tunnel(HOME, SHAKEN, replace(known, filters=()), FILTERS) is None
    moved = replace(SHOOK, gateways=Gateways("home", made=known))
    both = (("home", FILTERS), ("work", FILTERS))
    for filters, taken in ((both, True), (both[1:], False)):
        table = decide(Config((WORK, HOME), ("work", "home"), filters=filters), moved, SHAKEN).ruleset
        assert table is not None
        assert any(rule.match.oif and rule.match.oif.name == "aovpn0" for rule in table.chain("output").rules) is taken


# -- explained --------------------------------------------------------------------------------------------------------
FILE: Final = "/etc/aovpnd/policy.d/corp.toml"
_WHERE: Final = tuple(Origin("filter.office", str(each), FILE, 3 + 5 * n) for n, each in enumerate(FILTERS))
EXPLAINED: Final = replace(filtered(Config((OFFICE,)), "office"), origins=_WHERE)


def _origins(said: Answer) -> list[dict[str, object]]:
    assert said.data is not None
    found = said.data["origins"]
    assert isinstance(found, list)
    return found


def test_a_filter_refuses() -> None:
    """It says so, and which filters there are; those of the other direction have nothing to do with it."""
    for to, locked in (("203.0.113.81:443", False), ("203.0.113.80:53/udp", True)):
        config = replace(EXPLAINED, locked=frozenset({"filter.office"} if locked else ()))
        seen = picture(laptop(config))
        said = answer(Explain(parse(to)), seen)

        assert seen.desired.phase is Phase.CONNECTED
        assert explain(seen, parse(to)).fate is Fate.REFUSED
        assert "is refused at once: no filter of the tunnel office lets it out" in said.text
        assert said.data is not None
        assert said.data["permit"] == "Tunnel"
        assert [(o["file"], o["line"]) for o in _origins(said)] == [(FILE, 3), (FILE, 8), (FILE, 13)]
        hint = "a policy keeps it so" if locked else 'if it shall be: another [[filter]] with tunnel = "office"'
        assert said.data["hint"] == hint


@pytest.mark.parametrize(
    ("to", "line"), [("203.0.113.80:8050", 3), ("[2001:db8:80::1]:53/udp", 8), ("9.9.9.9/icmp", 13)]
)
def test_a_filter_lets_through(to: str, line: int) -> None:
    """Which one it is stands beside the tunnel's own lines."""
    said = answer(Explain(parse(to)), picture(laptop(EXPLAINED)))

    assert "leaves through the tunnel office (aovpn0)" in said.text
    assert [o["line"] for o in _origins(said) if o["key"] == "filter.office"] == [line]
