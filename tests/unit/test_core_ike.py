# SPDX-License-Identifier: GPL-3.0-or-later
"""Tunnels of IKE in the core: whose turn it is of the gateways, what they give, and what is said of them."""

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Final

import pytest

from aovpnd import names
from aovpnd.core import dns, endpoints, failover, health, ike, mtu, plan
from aovpnd.core.decide import decide
from aovpnd.core.endpoints import Reach, concrete, rota
from aovpnd.core.mtu import Fit
from aovpnd.core.view import given, is_configured, own_tunnel, view
from aovpnd.gateways import Gateways, Heard, Path, Provoked, Trial
from aovpnd.inquiries import Host
from aovpnd.ipsec import Credential, IPsec, Lease, Method, Round, Said, Server, backend_of
from aovpnd.model import Config, Intent, LinkWish, Phase, Snapshot, TunnelState, TunnelWish
from aovpnd.orders import EnsureTunnel
from aovpnd.repairs import Failure
from aovpnd.ruleset import L4, Address, Device
from aovpnd.tunnel import Endpoint, HostPort, Secret
from tests.unit.packets import packet
from tests.unit.small_world import (
    AOVPN,
    CLOCK,
    CORP,
    DEFAULT4,
    DEFAULT6,
    GATEWAY4,
    GATEWAY6,
    GATEWAY_2,
    GIVEN,
    GIVEN_ANEW,
    NOW,
    SERVER4,
    SERVER6,
    TUNNEL_ADDRESS4,
    WORK,
    XFRM,
    state_of,
)
from tests.unit.small_world import (
    ike as tunnel,
)
from tests.unit.test_decide import HOME_NET, NETWORK
from tests.unit.world import leaves

VPN: Final = HostPort("vpn.example.org", 4500)
NAMED: Final = replace(CORP, gateways=(VPN, GATEWAY_2))
ONE, OTHER, SIX = map(ip_address, ("192.0.2.71", "192.0.2.72", "2001:db8:e::71"))
EVERYWHERE: Final = Reach(frozenset({4, 6}), None, frozenset())
IPV4_ALONE: Final = replace(EVERYWHERE, families=frozenset({4}))
BEHIND_NAT64: Final = Reach(frozenset({6}), ip_network("64:ff9b::/96"), frozenset())  # type: ignore[arg-type]
CONFIG: Final = Config((CORP,))
HERE: Final = concrete(CORP, (), IPV4_ALONE)
PATH: Final = Path("corp", CORP.digest(), (GATEWAY4,), XFRM.index, (f"2 {NETWORK}",))
SHOOK: Final = Intent(provoked=Provoked(PATH, NOW - 60, 1))
STATE: Final = state_of(CORP)
SHAKEN: Final = state_of(CORP, handshake_wall=1_699_999_990)


def at_home(*states: TunnelState, now: float = NOW) -> Snapshot:
    """A laptop at home, with these links of ours."""
    links = (*HOME_NET.links, *(state.link for state in states))
    return replace(HOME_NET, now=replace(CLOCK, boot=now), links=links, tunnels=states)


def used(spec: IPsec, *hosts: Host, to: Reach = EVERYWHERE) -> Endpoint | None:
    """The endpoint of a tunnel, by what is known of names."""
    found = concrete(spec, hosts, to)
    assert isinstance(found, IPsec)
    return found.endpoint


# -- gateways ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("spec", "hosts", "to", "expected"),
    [
        pytest.param(CORP, (), EVERYWHERE, GATEWAY4, id="the first"),
        pytest.param(CORP, (), replace(EVERYWHERE, families=frozenset({6})), GATEWAY6, id="the first of the family"),
        pytest.param(CORP, (Host(rota(CORP), current=GATEWAY_2.addr),), EVERYWHERE, GATEWAY_2, id="whose turn it is"),
        pytest.param(CORP, (Host(rota(CORP), current=SIX),), EVERYWHERE, GATEWAY4, id="the turn of one that is gone"),
        pytest.param(tunnel("one", GATEWAY6), (), IPV4_ALONE, GATEWAY6, id="out of reach, and shown all the same"),
        pytest.param(
            tunnel("one", GATEWAY4),
            (),
            BEHIND_NAT64,
            Endpoint(ip_address("64:ff9b::c000:23d"), 4500),
            id="behind NAT64",
        ),
        pytest.param(NAMED, (), EVERYWHERE, GATEWAY_2, id="a name that nobody knows is passed over"),
        pytest.param(NAMED, (Host(VPN.host, answered=(ONE,)),), EVERYWHERE, Endpoint(ONE, 4500), id="a name"),
        pytest.param(replace(CORP, gateways=(VPN,)), (), EVERYWHERE, None, id="a name alone"),
        pytest.param(
            NAMED, (Host(VPN.host, answered=(ONE, SIX)),), EVERYWHERE, Endpoint(SIX, 4500), id="of a name IPv6 first"
        ),
    ],
)
def test_the_gateway_in_use(spec: IPsec, hosts: tuple[Host, ...], to: Reach, expected: Endpoint | None) -> None:
    """One of all, and no other."""
    found = concrete(spec, hosts, to)
    assert found.endpoints == ((expected,) if expected is not None else ())
    assert found.digest() == spec.digest()


def test_one_address_has_one_port() -> None:
    """The first that is written; otherwise the turn would never leave that address."""
    spec = tunnel("one", GATEWAY4, replace(GATEWAY4, port=443), GATEWAY_2)

    assert endpoints.gateways(spec, (), EVERYWHERE) == (GATEWAY4, GATEWAY_2)


def turned(intent: Intent, spec: IPsec, now: float = NOW, to: Reach = EVERYWHERE) -> Intent:
    """The memory after a handshake was in vain, and asked for anew over the path that follows."""
    hosts = endpoints.turn(intent, spec, PATH, to, now)
    return replace(intent, hosts=hosts)


def test_gateways_in_turn() -> None:
    """One after the other, whoever has a name too, and in later rounds with more attempts each."""
    seen, intent = [], SHOOK
    for _ in range(5):
        intent = turned(intent, CORP)
        seen.append(used(CORP, *intent.hosts))

    assert seen == [GATEWAY6, GATEWAY_2, GATEWAY4, GATEWAY4, GATEWAY4]
    assert endpoints.known(intent.hosts, rota(CORP)).turns == 3
    twice = replace(intent, provoked=Provoked(PATH, NOW - 60, 2))
    assert used(CORP, *turned(twice, CORP).hosts) == GATEWAY6


@pytest.mark.parametrize(
    "intent",
    [
        pytest.param(Intent(), id="nothing was asked for"),
        pytest.param(replace(SHOOK, provoked=Provoked(PATH, NOW, 1)), id="a moment ago"),
        pytest.param(replace(SHOOK, failures=(Failure("EnsureTunnel", 1, NOW + 1, "no"),)), id="it was not even made"),
    ],
)
def test_no_turn(intent: Intent) -> None:
    """As long as the gateway has not had its time."""
    assert used(CORP, *turned(intent, CORP).hosts) == GATEWAY4


def test_another_network_begins_the_count_anew() -> None:
    """And stays with the gateway that was tried last."""
    host = Host(rota(CORP), current=GATEWAY_2.addr, turns=7, vain=7)
    elsewhere = replace(PATH, networks=("2 another",))

    hosts = endpoints.turn(replace(SHOOK, hosts=(host,)), CORP, elsewhere, EVERYWHERE, NOW)

    assert hosts == (Host(rota(CORP), current=GATEWAY_2.addr),)
    assert endpoints.turn(SHOOK, CORP, None, EVERYWHERE, NOW) == ()


def test_in_vain_counts_for_the_name_that_has_the_address() -> None:
    """So that it is looked up again; a gateway that is written as an address counts for no name."""
    host = Host(VPN.host, answered=(ONE,))
    first = turned(replace(SHOOK, hosts=(host,)), NAMED)
    second = turned(first, NAMED)

    assert endpoints.known(first.hosts, VPN.host).vain == 1
    assert used(NAMED, *first.hosts) == GATEWAY_2
    assert endpoints.known(second.hosts, VPN.host).vain == 1
    nowhere = turned(SHOOK, replace(CORP, gateways=(VPN,)))
    assert endpoints.known(nowhere.hosts, rota(CORP)).current is None


def test_in_vain_behind_nat64() -> None:
    """The name has the IPv4 address, packets go to the other."""
    host = Host(VPN.host, answered=(ONE,))

    assert endpoints.known(turned(replace(SHOOK, hosts=(host,)), NAMED, to=BEHIND_NAT64).hosts, VPN.host).vain == 1


@pytest.mark.parametrize(
    ("spec", "endpoint", "to", "good"),
    [
        pytest.param(NAMED, Endpoint(ONE, 4500), EVERYWHERE, (ONE, OTHER), id="by a name"),
        pytest.param(NAMED, GATEWAY_2, EVERYWHERE, (OTHER,), id="by an address"),
        pytest.param(NAMED, None, EVERYWHERE, (OTHER,), id="by nothing"),
        pytest.param(NAMED, Endpoint(ip_address("64:ff9b::c000:247"), 4500), BEHIND_NAT64, (ONE, OTHER), id="by NAT64"),
    ],
)
def test_what_answered_is_good(spec: IPsec, endpoint: Endpoint | None, to: Reach, good: tuple[Address, ...]) -> None:
    """Of the name that has the address, and no other; and its turn goes on."""
    hosts = endpoints.succeed((Host(VPN.host, good=(OTHER,), answered=(ONE,)),), replace(spec, endpoint=endpoint), to)

    assert endpoints.known(hosts, VPN.host).good == good
    turn = endpoints.known(hosts, rota(spec))
    assert (turn.current, turn.turns) == (endpoint.addr if endpoint is not None else None, 0)


def test_several_gateways_and_the_next_tunnel() -> None:
    """Turns among gateways are attempts, too: a tunnel none of whose gateways answers is left as soon as any."""
    elsewhere = replace(PATH, endpoints=(GATEWAY6,))
    for turns, expected in ((1, False), (2, True)):
        intent = replace(SHOOK, hosts=(Host(rota(CORP), turns=turns),))
        assert failover.in_vain(intent, CORP, elsewhere, 2, NOW) is expected


def test_permit_of_the_gateway_in_use_alone() -> None:
    """Marked UDP to its port, whatever the others are."""
    desired = decide(CONFIG, SHOOK, at_home(SHAKEN))
    for gateway, passes in ((GATEWAY4, True), (GATEWAY_2, False), (replace(GATEWAY4, port=500), False)):
        marked = packet(str(gateway.addr), L4.UDP, gateway.port, mark=names.FWMARK, oif=Device(2, "wlan0"))
        assert leaves(desired.ruleset, NOW, marked) is passes
        assert not leaves(desired.ruleset, NOW, replace(marked, mark=0))


# -- what is given -----------------------------------------------------------------------------------------------------
def test_given_while_the_gateway_gives() -> None:
    """Addresses and name servers, where the file says nothing; from the link of this tunnel and no other's."""
    found = given(CORP, at_home(STATE))
    assert (found.addresses, found.dns) == (GIVEN.addresses, GIVEN.dns)
    fixed = replace(CORP, addresses=(ip_interface("10.1.1.1/32"),), dns=(ip_address("10.1.1.2"),))
    assert given(fixed, at_home(STATE)) == fixed
    assert given(CORP, at_home(replace(STATE, given=None))) == CORP
    assert given(CORP, at_home(state_of(tunnel("other", GATEWAY4)))) == CORP
    assert given(CORP, at_home(replace(STATE, given=replace(GIVEN, lease=Lease.OVER)))) == found
    assert given(WORK, at_home(STATE)) is WORK


def test_same_certificate_and_two_tunnels() -> None:
    """Two files that differ by their gateways alone are two tunnels: neither has the other's link or addresses."""
    twin = replace(CORP, name="twin", gateways=(GATEWAY_2,))

    assert twin.digest() != CORP.digest()
    assert own_tunnel(twin, at_home(STATE)) is None
    assert own_tunnel(CORP, at_home(STATE)) == STATE


@pytest.mark.parametrize(
    ("state", "gift", "expected"),
    [
        pytest.param(STATE, GIVEN, True, id="what is given is there"),
        pytest.param(replace(STATE, addresses=()), GIVEN, False, id="it is not yet there"),
        pytest.param(STATE, GIVEN_ANEW, False, id="something else is there"),
        pytest.param(STATE, None, True, id="it keeps what it has until it is given something"),
        pytest.param(replace(STATE, addresses=()), None, True, id="nothing, and nothing is given"),
        pytest.param(replace(STATE, fwmark=0), None, False, id="not our mark"),
        pytest.param(replace(STATE, digest="other"), None, False, id="another tunnel"),
    ],
)
def test_configured(state: TunnelState, gift: object, expected: object) -> None:
    """Just the addresses that the gateway gives, as long as it gives any."""
    snapshot = at_home(replace(state, given=gift))  # type: ignore[arg-type]

    assert is_configured(given(CORP, snapshot), state, snapshot) is expected


def test_addresses_are_guarded_as_soon_as_given() -> None:
    """Before the link has them, and after the gateway has taken them back while the link still has."""
    for state in (replace(STATE, addresses=()), replace(STATE, given=None)):
        table = decide(CONFIG, SHOOK, at_home(state)).ruleset
        shown = packet(str(GATEWAY4.addr), L4.UDP, 4500, mark=names.FWMARK, oif=Device(2, "wlan0"))
        assert leaves(table, NOW, shown)
        assert not leaves(table, NOW, replace(shown, saddr=TUNNEL_ADDRESS4))


def test_name_servers_are_asked_as_soon_as_given() -> None:
    """And nobody complains of missing ones before."""
    desired = decide(CONFIG, SHOOK, at_home(SHAKEN))
    assert desired.dns is not None
    assert desired.dns.servers == (SERVER4, SERVER6)
    waiting = at_home(replace(STATE, given=None, addresses=()))
    assert dns.problems(waiting, given(CORP, waiting)) == []
    without = replace(HERE, addresses=GIVEN.addresses)
    resolved = replace(waiting, resolvers=(ip_address("192.168.1.1"),))
    (problem,) = dns.problems(resolved, without)
    assert problem.code == "no-dns"
    assert "[tunnel]" in problem.hint


# -- what is to be done ------------------------------------------------------------------------------------------------
def test_another_gateway_is_told() -> None:
    """A link whose charon is with another gateway is told; one whose gateway has no address yet is not."""
    state = replace(STATE, peers=(replace(STATE.peers[0], endpoint=GATEWAY_2),))
    spec = given(HERE, at_home(state))
    assert isinstance(spec, IPsec)
    for wished, expected in ((spec, "endpoint was moved"), (replace(spec, endpoint=None), "")):
        wish = TunnelWish(wished, AOVPN.name, LinkWish.UP, None, state.link.mtu)
        snapshot = at_home(state)
        reasons = [
            action.reason
            for action in plan.diff(replace(decide(CONFIG, SHOOK, snapshot), tunnels=(wish,)), snapshot)
            if isinstance(action, EnsureTunnel)
        ]
        assert "".join(reasons) == expected


# -- alive -------------------------------------------------------------------------------------------------------------
def test_silence_is_not_lost() -> None:
    """Charon asks whether the gateway lives (DPD), and shows it by the SA; an answer that is missing still counts."""
    heard = Heard(NOW - 999, 0, -99_999, SHAKEN.handshake_wall)
    intent = replace(SHOOK, heard=heard)

    assert not health.is_lost(intent, SHAKEN, CLOCK)
    assert health.is_connected(intent, SHAKEN, PATH, CLOCK)
    assert health.is_lost(intent, replace(SHAKEN, backend="kernel"), CLOCK)
    assert not health.is_connected(intent, replace(SHAKEN, peers=STATE.peers), PATH, CLOCK)


def test_what_charon_sends_nobody_counts() -> None:
    """Before there is an SA: that nothing has been sent is not said of it."""
    assert not health.sends_nothing(SHOOK, STATE, CLOCK)
    assert health.sends_nothing(SHOOK, replace(STATE, backend="kernel"), CLOCK)


def test_esp_adds_more() -> None:
    """The link's MTU leaves room for ESP in UDP, by the family of the outer packet where it is known, and by what the
    proposals may come to.
    """
    assert mtu.fit(HERE, Intent(), at_home(), None, None) == Fit(1379)
    quick = concrete(replace(CORP, esp_proposals=("aes256gcm16-x25519",)), (), IPV4_ALONE)
    assert mtu.fit(quick, Intent(), at_home(), None, None) == Fit(1415)
    told = replace(STATE, peers=(replace(STATE.peers[0], path_mtu=1404),))
    assert mtu.fit(HERE, Intent(), at_home(told), told, PATH) == Fit(1303)
    known = mtu.settle(SHOOK, at_home(told), HERE, told, PATH)
    assert known is not None
    assert known.inner == 1303
    assert mtu.fit(replace(HERE, mtu=1280), Intent(), at_home(), None, None) == Fit(1280)


# -- beside ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("state", "won"),
    [
        pytest.param(replace(STATE, addresses=()), True, id="it has given: it has shown who it is"),
        pytest.param(replace(STATE, addresses=(), given=None), False, id="nothing yet"),
        pytest.param(
            replace(STATE, addresses=(), given=replace(GIVEN, lease=Lease.OVER)), False, id="not since its last SA"
        ),
    ],
)
def test_a_trial_is_won(state: TunnelState, *, won: bool) -> None:
    """A link beside never has addresses, so there is no handshake: what the gateway gives says that it is back."""
    state = replace(state, link=replace(XFRM, index=10, name="aovpn1"))
    carrying = state_of(WORK, handshake_wall=1_699_999_990)
    config = Config((WORK, CORP), prefer=("corp", "work"))
    gateways = Gateways("work", trial=Trial("corp", NOW - 1))
    there = at_home(carrying, state)
    path = view(config, Intent(gateways=gateways), there).path
    assert path is not None
    intent = Intent(gateways=gateways, provoked=Provoked(path, NOW - 60))
    seen = view(config, intent, there)
    assert seen.phase is Phase.CONNECTED

    assert failover.settle(gateways, intent, seen, CLOCK).carrier == ("corp" if won else "work")


# -- what is said ------------------------------------------------------------------------------------------------------
SAID: Final = Said("ike-refused", "the gateway does not believe us", "compare keys")
DAY_S: Final = 86400.0


def words(spec: IPsec, state: TunnelState | None = None, intent: Intent = SHOOK) -> dict[str, str]:
    """Code to text of what is said of a tunnel of IKE in particular."""
    snapshot = at_home(state) if state is not None else at_home()
    now = view(Config((spec,)), intent, snapshot)
    return {problem.code: problem.text for problem in ike.problems(snapshot, now)}


def test_charons_words() -> None:
    """As long as the tunnel is not connected."""
    assert words(CORP, replace(STATE, said=SAID)) == {"ike-refused": "corp: the gateway does not believe us"}
    assert words(CORP, replace(SHAKEN, said=SAID)) == {}
    assert words(CORP) == {}
    snapshot = at_home()
    assert ike.problems(snapshot, view(Config((WORK,)), Intent(), snapshot)) == []
    assert any(
        problem.code == "ike-refused" for problem in decide(CONFIG, SHOOK, at_home(replace(STATE, said=SAID))).problems
    )


@pytest.mark.parametrize(
    ("left_s", "expected"),
    [
        pytest.param(15 * DAY_S, {}, id="two weeks and more"),
        pytest.param(14 * DAY_S, {"certificate-expires": "ends in 14 days"}, id="two weeks"),
        pytest.param(1.5 * DAY_S, {"certificate-expires": "ends in one day"}, id="tomorrow"),
        pytest.param(3600.0, {"certificate-expires": "ends in less than a day"}, id="today"),
        pytest.param(0.0, {"certificate-expired": "has ended less than a day ago"}, id="now"),
        pytest.param(-40 * DAY_S, {"certificate-expired": "has ended 40 days ago"}, id="long ago"),
    ],
)
def test_certificates_end(left_s: float, expected: dict[str, str]) -> None:
    """Ours that ends first, and the authority's; with the days that are left."""
    at = CLOCK.wall + left_s
    soon, later = (Credential(("pem",), Secret("key"), end) for end in (at, at + 99 * DAY_S))
    rounds = (Round(Method.CERTIFICATE, credential=later), Round(Method.PSK), Round(Method.EAP_TLS, credential=soon))
    ours = replace(CORP, rounds=rounds)
    theirs = replace(CORP, server=Server(Method.CERTIFICATE, "gw", ("pem",), expires_wall=at))

    assert words(ours) == {code: f"our certificate for corp {text}" for code, text in expected.items()}
    assert words(theirs) == {code: f"the authority's certificate for corp {text}" for code, text in expected.items()}


def test_weak() -> None:
    """What a policy had to allow is said for as long as it is used."""
    text = {"tunnel-is-weak": "corp is weak: IKEv1 is old; the key can be guessed"}
    assert words(replace(CORP, weak=("IKEv1 is old", "the key can be guessed"))) == text


def test_nobody_answers() -> None:
    """After as many attempts as there are gateways to try, it is said, by all of them in turn."""
    intent = replace(SHOOK, hosts=(Host(rota(CORP), current=GATEWAY_2.addr, turns=3),))
    problems = decide(CONFIG, intent, at_home(replace(STATE, given=None))).problems

    assert [problem.code for problem in problems if problem.code == "no-handshake"] == ["no-handshake"]


# -- values ------------------------------------------------------------------------------------------------------------
def test_values() -> None:
    """What the values of a tunnel say of themselves."""
    assert backend_of(CORP) == "strongswan"
    assert backend_of(WORK) == "wireguard"
    assert (NAMED.hosts, HERE.prefixes) == ((VPN.host,), (DEFAULT4, DEFAULT6))
    assert not HERE.reaches(SERVER4)
    assert replace(HERE, addresses=GIVEN.addresses).reaches(SERVER4)
