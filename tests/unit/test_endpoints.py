# SPDX-License-Identifier: GPL-3.0-or-later
"""Gateways by name: which address is used, when a name is looked up, of whom, and what an answer changes."""

from dataclasses import replace
from ipaddress import IPv6Network, ip_address, ip_interface
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aovpnd.core import endpoints, lookups, nat64
from aovpnd.core.decide import decide
from aovpnd.core.endpoints import Reach
from aovpnd.inquiries import EndpointPolicy, Host, LookedUp, LookUp, OpenLookUp, Pinned, Unanswered
from aovpnd.ipsec import Said
from aovpnd.model import Config, Intent, Phase
from aovpnd.orders import AllowTemporary, Disconnect
from aovpnd.routes import LinkAddress, Route
from aovpnd.ruleset import L4, Address, Device
from aovpnd.trace import Packet
from aovpnd.tunnel import Endpoint, HostPort, WireGuard, unfit
from tests.unit.packets import packet
from tests.unit.small_world import DEFAULT6, NOW, WORK
from tests.unit.test_decide import HOME_NET
from tests.unit.world import SITES, Laptop

VPN: Final = "vpn.example.org"
GATEWAY, OTHER, LIE = map(ip_address, ("192.0.2.1", "192.0.2.2", "198.51.100.66"))
GATEWAY6: Final = ip_address("2001:db8:e::1")
HERE: Final = Reach(frozenset({4, 6}), None, frozenset({ip_address("192.168.1.23")}))


def named(*names: str, literal: Endpoint | None = None) -> WireGuard:
    """A tunnel whose peers are called so, and one with an address."""
    first = replace(WORK.peers[0], endpoint=None, host=None)
    peers = [replace(first, public_key=f"peer {name}", host=HostPort(name, 51820)) for name in names]
    if literal is not None:
        peers.append(replace(first, endpoint=literal))
    return replace(WORK, peers=tuple(peers))


def addresses(*texts: str) -> tuple[Address, ...]:
    """Addresses, for tables."""
    return tuple(map(ip_address, texts))


def at_home(spec: WireGuard | None = None, **more: object) -> Laptop:
    """A laptop at home, with a tunnel by name, its first passes behind it."""
    laptop = Laptop(Config((spec or named(VPN),)), **more)  # type: ignore[arg-type]
    laptop.join("home")
    laptop.settle()
    return laptop


def shakes_with(laptop: Laptop) -> set[Address]:
    """The addresses to which marked packets may go on the tunnel's port."""
    targets = (GATEWAY, OTHER, LIE, GATEWAY6)
    wlan = Device(2, "wlan0")
    marked = {to: packet(str(to), L4.UDP, 51820, oif=wlan, mark=0x2A000000) for to in targets}
    return {to for to, sent in marked.items() if laptop.lets_out(sent)}


def asks(laptop: Laptop, *, mark: int = 0x2A000000, to: str = "192.168.1.1", port: int = 53) -> bool:
    """Whether a question may leave."""
    sent: Packet = packet(to, L4.TCP, port, oif=Device(2, "wlan0"), mark=mark)
    return laptop.lets_out(sent)


# -- which address -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("host", "expected"),
    [
        pytest.param(Host(VPN), (), id="nothing known"),
        pytest.param(Host(VPN, good=(GATEWAY,)), ("192.0.2.1",), id="once good"),
        pytest.param(
            Host(VPN, good=(OTHER,), answered=addresses("192.0.2.1", "192.0.2.3", "2001:db8:e::1")),
            ("2001:db8:e::1", "192.0.2.1", "192.0.2.3", "192.0.2.2"),
            id="the answer first, families in turn",
        ),
        pytest.param(
            Host(VPN, answered=addresses("127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "240.0.0.1")),
            (),
            id="no gateway can be there",
        ),
        pytest.param(
            Host(VPN, answered=addresses("::1", "::", "ff02::1", "fe80::1", "::ffff:192.0.2.1")), (), id="nor there"
        ),
        pytest.param(Host(VPN, answered=addresses("192.168.1.23")), (), id="ourselves"),
        pytest.param(
            Host(VPN, answered=addresses(*(f"192.0.2.{n}" for n in range(1, 20)))),
            tuple(f"192.0.2.{n}" for n in range(1, 9)),
            id="eight are enough",
        ),
    ],
)
def test_candidates(host: Host, expected: tuple[str, ...]) -> None:
    """What is tried, and in which order."""
    assert endpoints.candidates(host, HERE) == addresses(*expected)


def test_our_own_addresses_are_no_gateway() -> None:
    """Neither a link's, nor its prefix's broadcast address, nor the tunnel's own."""
    more = replace(HOME_NET, addresses=(*HOME_NET.addresses, LinkAddress(3, ip_interface("2001:db8:3::3/64"))))
    to = endpoints.reach(named(VPN), (), more, ())

    for own in ("192.168.1.23", "192.168.1.255", "10.64.0.2", "fd64::2", "2001:db8:3::3"):
        assert to(ip_address(own)) is None, own
    assert to(GATEWAY) == GATEWAY


@given(st.lists(st.ip_addresses(), max_size=40), st.sets(st.sampled_from((4, 6))))
def test_whatever_is_answered(answered: list[Address], families: set[int]) -> None:
    """Of any answer few addresses remain, all of them somebody else's and reachable; one of them is used."""
    to = replace(HERE, families=frozenset(families))
    host = Host(VPN, answered=tuple(answered))
    able = endpoints.candidates(host, to)

    assert len(able) <= 8
    assert all(unfit(addr) is None and addr not in HERE.own for addr in able)
    assert all(addr.version in families for addr in able if families)
    assert endpoints.current(host, to) == (able[0] if able else None)
    assert len(endpoints.concrete(named(VPN), (host,), to).endpoints) == bool(able)


def test_only_families_that_an_uplink_has() -> None:
    """Where the network has IPv4 alone, no packet goes to an IPv6 address; without an uplink all are kept."""
    laptop = at_home(names={VPN: (GATEWAY6, GATEWAY)})

    assert shakes_with(laptop) == {GATEWAY}
    assert endpoints.reach(named(VPN), (), HOME_NET, ()).families == frozenset()


# -- in turn -----------------------------------------------------------------------------------------------------------
def test_name_is_looked_up_and_the_tunnel_connects() -> None:
    """One question, to the lease's resolver, by the uplink; then nothing more may be asked."""
    laptop = at_home(names={VPN: (GATEWAY,)})

    assert laptop.looked_up == [LookUp(VPN, 2, "wlan0", (ip_address("192.168.1.1"),))]
    assert laptop.phase is Phase.CONNECTED
    assert shakes_with(laptop) == {GATEWAY}
    assert not asks(laptop)
    assert laptop.intent.look_up is None
    laptop.wait(3600)
    assert len(laptop.looked_up) == 1


def test_while_it_is_asked() -> None:
    """The door is open for marked questions to that resolver alone, and the kernel closes it when nobody does."""
    laptop = at_home()

    assert laptop.phase is Phase.CONNECTING
    assert asks(laptop)
    assert not asks(laptop, mark=0)
    assert not asks(laptop, to="192.168.1.9")
    assert not asks(laptop, port=853)
    laptop.tick(lookups.OPEN_S)
    assert not asks(laptop)


def test_resolver_is_silent() -> None:
    """Questions become rarer, the reason is said, and the first answer ends it."""
    laptop = at_home()
    laptop.wait(600)

    assert 10 <= len(laptop.looked_up) <= 20
    desired = laptop.settle()
    (problem,) = (p for p in desired.problems if p.code == "name-unresolved")
    assert problem.text == f"{VPN} cannot be looked up: no answer came in time"
    laptop.names[VPN] = (GATEWAY,)
    laptop.wait(80)
    assert laptop.phase is Phase.CONNECTED


def test_jitter_differs_and_is_bounded() -> None:
    """Laptops that lose a resolver together do not come back together, and none much later than it should."""
    inquiry = LookUp(VPN, 2, "wlan0", (GATEWAY,))
    waits = []
    for number in range(50):
        asked = OpenLookUp(inquiry, "net", NOW + number, NOW + number + 8)
        learnt = lookups.learn(Intent(look_up=asked), Unanswered(inquiry, "no"))
        waits.append(learnt.hosts[0].retry_at - asked.asked_at)

    assert len(set(waits)) > 40
    assert all(1.5 <= wait <= 2.5 for wait in waits)


@pytest.mark.parametrize("good", [GATEWAY, OTHER, GATEWAY6])
def test_addresses_are_tried_in_turn(good: Address) -> None:
    """One at a time, the next one when a handshake was in vain, until one is the gateway."""
    laptop = at_home(names={VPN: (GATEWAY, OTHER, GATEWAY6)}, where=frozenset({good}))
    laptop.snapshot = replace(laptop.snapshot, main=(*laptop.snapshot.main, Route(DEFAULT6, 2, ip_address("fe80::1"))))
    seen = set()
    for _ in range(30):
        laptop.wait(0.5)
        assert len(shakes_with(laptop)) == 1
        seen |= shakes_with(laptop)

    assert laptop.phase is Phase.CONNECTED
    assert shakes_with(laptop) == {good}
    assert laptop.intent.hosts[0].good == (good,)
    assert good in seen


def test_patience_grows() -> None:
    """Two addresses that never answer are tried at once in the beginning, and seldom in the end."""
    laptop = at_home(names={VPN: (GATEWAY, OTHER)}, where=frozenset())
    turns = []
    for _ in range(5):
        laptop.wait(60)
        turns.append(laptop.intent.hosts[0].turns)

    steps = [later - earlier for earlier, later in zip([0, *turns], turns, strict=False)]
    assert steps[0] > steps[-1] >= 1
    desired = laptop.settle()
    (problem,) = (p for p in desired.problems if p.code == "no-handshake")
    assert "nor at 1 other address" in problem.text

    # Whoever knows why there is no tunnel does not say that nobody answers.
    said = tuple(replace(state, said=Said("ike-refused", "no")) for state in laptop.snapshot.tunnels)
    laptop.snapshot = replace(laptop.snapshot, tunnels=said)
    assert "no-handshake" not in {p.code for p in decide(laptop.config, laptop.intent, laptop.snapshot).problems}


def test_lying_resolver_and_an_honest_one_later() -> None:
    """What a liar says opens one protocol and port of one address for marked packets; asked again, we recover."""
    laptop = at_home(names={VPN: (LIE,)}, where=frozenset({GATEWAY}))

    assert shakes_with(laptop) == {LIE}
    wlan = Device(2, "wlan0")
    assert not laptop.lets_out(packet(str(LIE), L4.UDP, 51820, oif=wlan))
    assert not laptop.lets_out(packet(str(LIE), L4.TCP, 51820, oif=wlan, mark=0x2A000000))
    assert not laptop.lets_out(packet(str(LIE), L4.TCP, 443, oif=wlan))
    laptop.wait(30)
    assert len(laptop.looked_up) > 2
    laptop.names[VPN] = (GATEWAY,)
    laptop.wait(60)
    assert laptop.phase is Phase.CONNECTED
    assert shakes_with(laptop) == {GATEWAY}


def test_gateway_moves() -> None:
    """A tunnel that goes silent is looked up anew, and found at its other address."""
    laptop = at_home(names={VPN: (GATEWAY,)}, where=frozenset({GATEWAY}))
    assert laptop.phase is Phase.CONNECTED
    laptop.names[VPN], laptop.where, laptop.answers = (OTHER,), frozenset({OTHER}), False
    laptop.wait(36)
    laptop.answers = True
    laptop.wait(20)

    assert laptop.phase is Phase.CONNECTED
    assert shakes_with(laptop) == {OTHER}
    assert laptop.intent.hosts[0].good == (OTHER, GATEWAY)


def test_restart_without_dns() -> None:
    """The address that worked is tried first, and nobody is asked."""
    laptop = at_home(names={VPN: (OTHER, GATEWAY)}, where=frozenset({GATEWAY}))
    laptop.wait(10)
    assert laptop.phase is Phase.CONNECTED
    laptop.names.clear()
    laptop.looked_up.clear()
    laptop.restart(reboot=True)
    laptop.join("home")
    laptop.settle()

    assert laptop.phase is Phase.CONNECTED
    assert laptop.looked_up == []


def test_address_of_the_disk_that_is_dead() -> None:
    """One attempt at it, then the name is looked up."""
    laptop = at_home(names={VPN: (GATEWAY,)}, where=frozenset({GATEWAY}), intent=Intent(hosts=(Host(VPN, (OTHER,)),)))
    assert shakes_with(laptop) == {OTHER}
    assert laptop.looked_up == []
    laptop.wait(5)

    assert laptop.phase is Phase.CONNECTED


def test_another_network_is_asked_anew() -> None:
    """Whoever was asked in vain in one network is asked at once in the next; what works needs no question."""
    laptop = at_home()
    laptop.wait(300)
    before = len(laptop.looked_up)
    laptop.join("cafe")
    laptop.settle()
    assert [asked.resolvers for asked in laptop.looked_up[before:]] == [(ip_address(SITES["cafe"][1]),)]
    laptop.names[VPN] = (GATEWAY,)
    laptop.wait(10)
    assert laptop.phase is Phase.CONNECTED
    count = len(laptop.looked_up)
    laptop.join("home")
    laptop.settle()
    laptop.wait(10)

    assert laptop.phase is Phase.CONNECTED
    assert len(laptop.looked_up) == count


def test_another_network_where_the_address_does_not_answer() -> None:
    """One attempt in vain is enough to ask there, whatever the old network's answer had besides."""
    laptop = at_home(names={VPN: (GATEWAY, OTHER)})
    laptop.where = frozenset({LIE})
    laptop.names[VPN] = (LIE,)
    laptop.join("cafe")
    laptop.settle()
    count = len(laptop.looked_up)
    laptop.wait(2.5)

    assert len(laptop.looked_up) == count + 1
    laptop.settle()
    assert laptop.phase is Phase.CONNECTED


@pytest.mark.parametrize("ends", ["disconnect", "leave", "flap", "restart"])
def test_what_ends_a_look_up(ends: str) -> None:
    """With its reason, its network or its daemon the look-up ends, and its door closes; late answers are lost."""
    laptop = at_home()
    asked = laptop.looked_up[-1]
    match ends:
        case "disconnect":
            laptop.settle(Disconnect())
        case "leave":
            laptop.leave()
            laptop.settle()
        case "flap":
            laptop.flap()
            laptop.settle()
        case _:
            laptop.restart()
            laptop.config = Config()
            laptop.settle()

    if ends != "flap":  # there the next one begins at once
        assert laptop.intent.look_up is None
        assert not asks(laptop)
    late = lookups.learn(replace(laptop.intent, look_up=None), LookedUp(asked, (LIE,), GATEWAY))
    assert late.hosts == laptop.intent.hosts


def test_temporary_access_does_not_stop_it() -> None:
    """In a window names are looked up as well: that is what it was opened for."""
    laptop = at_home()
    laptop.settle(AllowTemporary(180))
    laptop.names[VPN] = (GATEWAY,)
    laptop.wait(20)

    assert laptop.phase is Phase.CONNECTED


def test_ruleset_cannot_be_loaded() -> None:
    """Nobody is asked while there is no table: the question would have no permit, and the machine no wall."""
    from aovpnd.orders import LoadRuleset

    laptop = Laptop(Config((named(VPN),)), fails={LoadRuleset})
    laptop.join("home")
    laptop.look()
    laptop.look()

    assert laptop.looked_up == []
    assert laptop.intent.look_up is None


# -- who is asked ------------------------------------------------------------------------------------------------------
def test_no_resolver() -> None:
    """Without any, nobody is asked; the gateways of the uplink stand in for resolvers that nobody gave."""
    laptop = at_home()
    laptop.snapshot = replace(laptop.snapshot, resolvers=(), main=(Route(DEFAULT6, 2, None),))
    laptop.wait(10)
    assert laptop.intent.look_up is None
    laptop.snapshot = replace(
        laptop.snapshot,
        addresses=(*laptop.snapshot.addresses, LinkAddress(2, ip_interface("fe80::23/64"))),
        main=(Route(DEFAULT6, 2, ip_address("fe80::1")),),
    )
    laptop.settle()

    assert laptop.looked_up[-1].resolvers == (ip_address("fe80::1"),)


def test_resolvers_that_are_none() -> None:
    """Not ourselves, not a loopback address; three at most."""
    laptop = at_home()
    texts = ("127.0.0.53", "192.168.1.23", "0.0.0.0", "192.168.1.1", "9.9.9.9", "2620:fe::fe", "8.8.8.8")
    laptop.snapshot = replace(laptop.snapshot, resolvers=addresses(*texts))
    laptop.flap()
    laptop.settle()

    assert laptop.looked_up[-1].resolvers == addresses("192.168.1.1", "9.9.9.9", "8.8.8.8")


def test_resolver_of_another_family() -> None:
    """On a network of IPv6 alone, an IPv4 resolver that is left from the last one is not asked, but the router."""
    laptop = ipv6_only(named(VPN), {VPN: (GATEWAY6,)})
    laptop.snapshot = replace(laptop.snapshot, resolvers=addresses("192.168.1.1"))
    laptop.names.clear()
    laptop.where = frozenset()
    laptop.flap()
    laptop.wait(10)

    assert laptop.looked_up[-1].resolvers == addresses("fe80::1")


def test_pinned_resolver() -> None:
    """It alone is asked, over TLS."""
    config = Config((named(VPN),), endpoint=EndpointPolicy(Pinned(ip_address("9.9.9.9"), "dns.quad9.net")))
    laptop = Laptop(config)
    laptop.join("home")
    laptop.settle()

    assert laptop.looked_up == [LookUp(VPN, 2, "wlan0", addresses("9.9.9.9"), "dns.quad9.net")]
    assert asks(laptop, to="9.9.9.9", port=853)
    assert not asks(laptop, to="9.9.9.9", port=53)
    assert not asks(laptop, port=53)
    assert not asks(laptop, to="9.9.9.9", port=853, mark=0)


def test_uplinks_in_turn() -> None:
    """Where the first uplink's way is of no use, the second one is asked by."""
    laptop = at_home()
    laptop.join("cafe", "eth0")
    laptop.wait(60)

    assert {asked.link_name for asked in laptop.looked_up} == {"wlan0", "eth0"}


@pytest.mark.parametrize(
    ("answered", "said"),
    [
        pytest.param((), f"192.168.1.1 knows no address of {VPN}", id="none"),
        pytest.param(
            ("127.0.0.1", "::1"),
            f"192.168.1.1 says that {VPN} is 127.0.0.1, a loopback address: no gateway can be there",
            id="loopback",
        ),
    ],
)
def test_refused_answers(answered: tuple[str, ...], said: str) -> None:
    """An answer that leads nowhere is a failure, and status says whose."""
    laptop = at_home(names={VPN: addresses(*answered)})
    desired = laptop.settle()

    assert [p.text for p in desired.problems if p.code == "name-unresolved"] == [said]
    assert shakes_with(laptop) == set()


def test_several_names() -> None:
    """One look-up at a time; each name has its own addresses."""
    laptop = at_home(named(VPN, "b.example.org"), names={VPN: (GATEWAY,), "b.example.org": (OTHER,)}, answers=False)
    laptop.wait(1)

    assert {asked.host for asked in laptop.looked_up} == {VPN, "b.example.org"}
    assert shakes_with(laptop) == {GATEWAY, OTHER}


def test_one_of_two_names_is_enough() -> None:
    """A tunnel that is connected by one gateway leaves the other's name alone."""
    laptop = at_home(named(VPN, "b.example.org"), names={VPN: (GATEWAY,)})
    laptop.wait(120)

    assert laptop.phase is Phase.CONNECTED
    assert shakes_with(laptop) == {GATEWAY}
    assert [host.name for host in laptop.intent.hosts if host.good] == [VPN]


def test_peer_without_an_endpoint_stays_without() -> None:
    """A peer that calls us is no business of DNS."""
    silent = replace(named(VPN), peers=(*named(VPN).peers, replace(WORK.peers[0], endpoint=None)))

    assert endpoints.concrete(silent, (Host(VPN, (GATEWAY,)),), HERE).endpoints == (Endpoint(GATEWAY, 51820),)


# -- NAT64 -------------------------------------------------------------------------------------------------------------
def ipv6_only(
    spec: WireGuard,
    names: dict[str, tuple[Address, ...]],
    config: Config | None = None,
    where: frozenset[Address] | None = None,
) -> Laptop:
    """A laptop on a network without IPv4."""
    laptop = Laptop(config or Config((spec,)), names=names, where=where)
    laptop.join("home")
    laptop.snapshot = replace(
        laptop.snapshot,
        addresses=(LinkAddress(2, ip_interface("2001:db8:1::23/64")),),
        main=(Route(DEFAULT6, 2, ip_address("fe80::1"), 600),),
        resolvers=addresses("2001:db8:1::1"),
    )
    laptop.settle()
    laptop.wait(5)
    return laptop


NAT64: Final = {nat64.WELL_KNOWN: addresses("192.0.0.170", "2001:db8:64::192.0.0.170")}
BEHIND: Final = Endpoint(ip_address("2001:db8:64::192.0.2.1"), 51820)


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(named(literal=Endpoint(GATEWAY, 51820)), id="by address"),
        pytest.param(named(VPN), id="by name"),
    ],
)
def test_nat64(spec: WireGuard) -> None:
    """On a network of IPv6 alone an IPv4 gateway is reached through the network's prefix."""
    laptop = ipv6_only(spec, {**NAT64, VPN: (GATEWAY,)}, where=frozenset({BEHIND.addr}))

    assert laptop.phase is Phase.CONNECTED
    assert [peer.endpoint for peer in laptop.snapshot.tunnels[0].peers] == [BEHIND]
    assert {asked.resolvers for asked in laptop.looked_up} == {addresses("2001:db8:1::1")}


def test_no_nat64() -> None:
    """Without one, the address is left as it is, the network is asked once, and a name's trouble is said."""
    laptop = ipv6_only(named(VPN), {nat64.WELL_KNOWN: addresses("192.0.0.170"), VPN: (GATEWAY,)})
    laptop.wait(20)
    desired = laptop.settle()

    assert [asked.host for asked in laptop.looked_up].count(nat64.WELL_KNOWN) == 1
    assert [p.text for p in desired.problems if p.code == "address-family"] == [
        f"{VPN} has no address that can be reached over IPv6"
    ]
    literal = ipv6_only(named(literal=Endpoint(GATEWAY, 51820)), {nat64.WELL_KNOWN: addresses("192.0.0.170")})
    assert [peer.endpoint for peer in literal.snapshot.tunnels[0].peers] == [Endpoint(GATEWAY, 51820)]


def test_prefix_of_another_network() -> None:
    """A prefix holds in the network that told it; the next one is asked for its own."""
    laptop = ipv6_only(named(VPN), {**NAT64, VPN: (GATEWAY,)})
    laptop.flap()
    laptop.settle()
    laptop.wait(5)

    assert [asked.host for asked in laptop.looked_up].count(nat64.WELL_KNOWN) == 2
    assert laptop.phase is Phase.CONNECTED


def test_prefix_that_leads_to_ourselves() -> None:
    """A network that tells a prefix of ours, or of nobody, opens nothing."""
    own = ip_address("2001:db8:64::192.0.2.1")
    to = Reach(frozenset({6}), IPv6Network("2001:db8:64::/96"), frozenset({own}))

    assert to(GATEWAY) is None
    assert replace(to, prefix=IPv6Network("ff02::/96"))(OTHER) is None
    assert to(OTHER) == ip_address("2001:db8:64::192.0.2.2")


def test_pinned_resolver_behind_nat64() -> None:
    """A resolver that has an IPv4 address is asked through the prefix, which the network itself is asked for."""
    config = Config((named(VPN),), endpoint=EndpointPolicy(Pinned(ip_address("9.9.9.9"), "dns.quad9.net")))
    laptop = ipv6_only(named(VPN), {**NAT64, VPN: (GATEWAY6,)}, config)

    assert [asked.resolvers for asked in laptop.looked_up] == [
        addresses("2001:db8:1::1"),
        addresses("2001:db8:64::9.9.9.9"),
    ]
    assert laptop.phase is Phase.CONNECTED


def test_decides_the_same_twice() -> None:
    """A look-up that runs is one question, however often it is decided."""
    laptop = at_home()
    one, two = (decide(laptop.config, laptop.intent, laptop.snapshot) for _ in range(2))

    assert one == two
    assert one.inquiries == (laptop.looked_up[0],)
    assert one.wake_at is not None
    assert one.wake_at <= laptop.snapshot.now.boot + lookups.OPEN_S
