# SPDX-License-Identifier: GPL-3.0-or-later
"""Tunnels that stand beside the one that carries, over time: what each has of its own, and what is wrong with it."""

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any, Final

import pytest

from aovpnd import names
from aovpnd.confirmation import Logins
from aovpnd.core.answers import answer
from aovpnd.core.decide import decide
from aovpnd.core.permits import Handshake, Tunnel, TunnelAddresses
from aovpnd.core.picture import Picture
from aovpnd.core.plan import diff
from aovpnd.core.view import view
from aovpnd.destinations import parse
from aovpnd.dns import Dns, DnsState, Mechanism, Scope
from aovpnd.inquiries import LookUp
from aovpnd.ipsec import Said
from aovpnd.model import Block, Config, LinkWish, Phase
from aovpnd.orders import AllowTemporary, Disconnect, EnsureTunnel, Explain, RemoveTunnel, SetBlock, Woke
from aovpnd.status import document
from aovpnd.tunnel import HostPort
from tests.unit.small_companions import CLASH, ENDPOINT_M, IKE_MGMT, LAB, MANAGED, MGMT
from tests.unit.small_world import HOME, WORK
from tests.unit.world import Laptop

BESIDE: Final = Config((MGMT, WORK), prefer=("work",), companions=("mgmt",))
MANAGED_V4: Final = MANAGED[0]


def connected(config: Config = BESIDE, *silent: str, site: str = "home") -> Laptop:
    """A laptop that has come to rest; gateways that are ``silent`` have been so from the start."""
    machine = Laptop(config)
    machine.silent = set(silent)
    machine.join(site)
    machine.wait(60.0)
    return machine


def tunnels(machine: Laptop) -> dict[str, dict[str, Any]]:
    """What status says of each tunnel."""
    said: Any = document(machine.config, machine.intent, machine.snapshot, machine.settle())
    return {tunnel["name"]: tunnel for tunnel in said["tunnels"]}


def routes(machine: Laptop) -> dict[str, str | None]:
    """What our table says: destination to link, None where it is closed (which stands behind every other route)."""
    links = {link.index: link.name for link in machine.snapshot.links}
    found = sorted(machine.snapshot.routing.routes, key=lambda route: -route.metric)
    return {str(r.dst): None if r.link is None else links[r.link] for r in found}


def problems(machine: Laptop) -> dict[str, str]:
    """What status would say: code to text."""
    return {problem.code: problem.text for problem in machine.settle().problems}


# -- side by side -----------------------------------------------------------------------------------------------------
def test_both_are_up() -> None:
    """Each by a link of its own, with its own routes; the phase is that of the one that carries."""
    machine = connected()
    found = tunnels(machine)

    assert machine.phase is Phase.CONNECTED
    assert (found["work"]["role"], found["work"]["link"], found["work"]["state"]) == ("chosen", "aovpn0", "connected")
    assert (found["mgmt"]["role"], found["mgmt"]["link"], found["mgmt"]["state"]) == (
        "companion",
        "aovpn1",
        "connected",
    )
    assert found["mgmt"]["endpoint"] == str(ENDPOINT_M)
    assert routes(machine) == {
        "0.0.0.0/0": "aovpn0",
        "10.99.0.0/16": "aovpn1",
        "203.0.113.80/32": "aovpn1",
        "::/0": "aovpn0",
        "fd99::/16": "aovpn1",
    }
    assert problems(machine) == {}


def test_made_down_and_set_up_once_the_ruleset_knows_it() -> None:
    """As for the tunnel that carries: no packet finds a link that no rule names."""
    machine = Laptop(BESIDE)
    machine.join("home")

    machine.settle()

    made = [action.wish for action in machine.done if isinstance(action, EnsureTunnel)]
    assert [wish.state for wish in made if wish.spec.name == "mgmt"][:2] == [LinkWish.DOWN, LinkWish.UP]


def test_what_it_carries_is_closed_until_it_is_up() -> None:
    """A packet for the companion's network never takes the tunnel that carries everything, whose end would see it."""
    machine = connected()
    machine.fails = {EnsureTunnel}
    machine.lose_link("aovpn1")
    machine.look()
    machine.look()

    assert {dst: link for dst, link in routes(machine).items() if dst in set(map(str, MANAGED))} == {
        "10.99.0.0/16": None,
        "203.0.113.80/32": None,
        "fd99::/16": None,
    }
    assert routes(machine)["0.0.0.0/0"] == "aovpn0"


def test_what_it_carries_is_closed_while_it_does_not_stand() -> None:
    """Neither on trial, nor where it cannot stand beside the other: its packets take no other tunnel."""
    for config in (replace(BESIDE, tunnels=(CLASH, WORK)), replace(BESIDE, prefer=("mgmt", "work"))):
        machine = connected(config, "mgmt")
        assert tunnels(machine)["work"]["state"] == "connected"
        while config.prefer[0] == "mgmt" and machine.intent.gateways.trial is None:
            machine.wait(1.0)

        assert {routes(machine)[str(prefix)] for prefix in MANAGED} == {None}


def test_what_both_name_is_the_first_ones() -> None:
    """Of one network there is one route: that of the tunnel that carries, then that of the first companion."""
    narrow = replace(WORK, peers=(replace(WORK.peers[0], allowed=(MANAGED_V4, ip_network("192.0.2.0/24"))),))
    machine = connected(Config((LAB, MGMT, narrow), prefer=("work",), companions=("mgmt", "lab")))

    assert {dst: link for dst, link in routes(machine).items() if link is not None} == {
        "10.99.0.0/16": "aovpn0",
        "192.0.2.0/24": "aovpn0",
        "203.0.113.80/32": "aovpn1",
        "fd99::/16": "aovpn1",
    }


def test_none_shows_another_ones_addresses() -> None:
    """Each has handshake, link and addresses of its own, and neither shows the other's."""
    machine = connected()
    permits = Picture(machine.config, machine.intent, machine.snapshot, machine.settle()).permits
    work, mgmt = (tuple(interface.ip for interface in spec.addresses) for spec in (WORK, MGMT))

    assert {(t.device.name, t.others) for t in permits if isinstance(t, Tunnel)} == {("aovpn0", mgmt), ("aovpn1", work)}
    assert {permit.addresses for permit in permits if isinstance(permit, TunnelAddresses)} == {work, mgmt}
    assert ENDPOINT_M in {permit.endpoint for permit in permits if isinstance(permit, Handshake)}


# -- who is logged in -------------------------------------------------------------------------------------------------
def test_a_login_and_a_logout_leave_its_session_alone() -> None:
    """The device's tunnel carries while nobody is logged in, then stands beside, then carries again: the same link, no
    new handshake, so that whoever manages the machine notices nothing.
    """
    machine = Laptop(replace(BESIDE, device=("mgmt",)))
    machine.snapshot = replace(machine.snapshot, logins=Logins.NOBODY)
    machine.join("home")
    machine.wait(30.0)
    (alone,) = machine.snapshot.tunnels
    since = tunnels(machine)["mgmt"]["_since_boot"]
    done = len(machine.done)

    machine.snapshot = replace(machine.snapshot, logins=Logins.LOCAL)
    machine.wait(30.0)
    logged_in = tunnels(machine)
    machine.snapshot = replace(machine.snapshot, logins=Logins.NOBODY)
    machine.wait(30.0)
    after = tunnels(machine)

    assert (logged_in["mgmt"]["link"], logged_in["work"]["link"]) == ("aovpn0", "aovpn1")
    assert (logged_in["mgmt"]["role"], logged_in["work"]["state"]) == ("companion", "connected")
    assert (after["mgmt"]["link"], after["mgmt"]["role"], after["work"]["state"]) == ("aovpn0", "chosen", "down")
    assert {logged_in["mgmt"]["_since_boot"], after["mgmt"]["_since_boot"]} == {since}
    shaken = [a for a in machine.done[done:] if isinstance(a, EnsureTunnel) and a.wish.spec.name == "mgmt"]
    assert not [action for action in shaken if action.wish.path is not None]
    assert [a.link.name for a in machine.done[done:] if isinstance(a, RemoveTunnel)] == ["aovpn1"]
    assert alone.link.index == machine.snapshot.tunnels[0].link.index


def test_disconnected() -> None:
    """Nobody's wish takes it away: the machine is blocked, and managed."""
    machine = connected()

    machine.settle(Disconnect())
    machine.wait(5.0)

    assert machine.phase is Phase.BLOCKED
    assert tunnels(machine)["mgmt"]["state"] == "connected"
    assert {dst: link for dst, link in routes(machine).items() if link is None} == {"0.0.0.0/0": None, "::/0": None}


def test_unblocked() -> None:
    """The block is off: nothing of ours is left, and nothing is said to stand beside anything."""
    machine = connected()

    machine.settle(SetBlock(Block.OFF))

    assert machine.snapshot.tunnels == ()
    assert tunnels(machine)["mgmt"]["role"] == "available"


# -- when it fails ----------------------------------------------------------------------------------------------------
def test_a_gateway_that_does_not_answer() -> None:
    """It is asked ever more slowly, status says so, and the tunnel that carries is not disturbed."""
    machine = connected(BESIDE, "mgmt")
    began, done = machine.snapshot.now.boot, len(machine.done)

    machine.wait(300.0)

    asked = [a for a in machine.done[done:] if isinstance(a, EnsureTunnel) and a.wish.path is not None]
    assert machine.phase is Phase.CONNECTED
    assert {action.wish.spec.name for action in asked} == {"mgmt"}
    assert len(asked) <= (machine.snapshot.now.boot - began) / 40 + 1
    assert problems(machine) == {
        "companion-silent": f"the gateway of mgmt ({ENDPOINT_M}), which stands beside, does not answer"
    }
    machine.silent = set()
    machine.wait(65.0)
    assert (tunnels(machine)["mgmt"]["state"], problems(machine)) == ("connected", {})


def test_the_one_that_carries_fails() -> None:
    """The companion goes on."""
    machine = connected(BESIDE, "work")

    assert machine.phase is Phase.CONNECTING
    assert tunnels(machine)["mgmt"]["state"] == "connected"


def test_on_another_network_each_shakes_hands_anew() -> None:
    """Roaming moves all of them."""
    machine = connected()
    done = len(machine.done)

    machine.join("cafe")
    machine.wait(10.0)

    shaken = {a.wish.spec.name for a in machine.done[done:] if isinstance(a, EnsureTunnel) and a.wish.path is not None}
    assert shaken == {"mgmt", "work"}
    assert {tunnel["state"] for tunnel in tunnels(machine).values()} == {"connected"}


def test_awake_again() -> None:
    """What was slept through proves nothing of either."""
    machine = connected()
    done = len(machine.done)

    machine.settle(Woke())
    machine.wait(5.0)

    shaken = {a.wish.spec.name for a in machine.done[done:] if isinstance(a, EnsureTunnel) and a.wish.path is not None}
    assert shaken == {"mgmt", "work"}


def test_one_that_cannot_be_made() -> None:
    """Its backend fails: the tunnel that carries comes up all the same, and status says why the companion does not."""
    machine = Laptop(BESIDE)
    machine.fails_for = {"mgmt"}
    machine.join("home")
    machine.wait(30.0)

    assert machine.phase is Phase.CONNECTED
    assert tunnels(machine)["work"]["state"] == "connected"
    assert problems(machine) == {"action-failed": "mgmt cannot be made"}
    assert routes(machine)["10.99.0.0/16"] is None
    machine.fails_for = set()
    machine.wait(40.0)
    assert (tunnels(machine)["mgmt"]["state"], problems(machine)) == ("connected", {})


UNFIT: Final = {
    "everything": (replace(BESIDE, companions=("home",), tunnels=(HOME, WORK)), "home", "it carries everything"),
    "address": (replace(BESIDE, tunnels=(CLASH, WORK)), "mgmt", "work has its address 10.64.0.2 as well"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_unfit(name: str) -> None:
    """One of which nobody could say whose a packet is does not stand, and status says why."""
    config, tunnel, why = UNFIT[name]
    machine = connected(config)

    assert len(machine.snapshot.tunnels) == 1
    assert problems(machine) == {"companion-unfit": f"{tunnel} cannot stand beside another tunnel: {why}"}


def test_one_that_is_not_there() -> None:
    """Its file is missing: the others go on. Of one that cannot be read, its file's own problem speaks."""
    machine = connected(replace(BESIDE, companions=("mgmt", "gone", "bad"), broken=frozenset({"bad"})))

    assert problems(machine) == {"tunnel-unknown": "there is no tunnel called gone"}
    assert tunnels(machine)["mgmt"]["state"] == "connected"


def test_what_charon_says() -> None:
    """Why a companion of IKE is not up is said in its words."""
    machine = Laptop(replace(BESIDE, tunnels=(IKE_MGMT, WORK)))
    machine.silent = {"mgmt"}
    machine.join("home")
    machine.wait(10.0)
    said = Said("ike-refused", "the gateway refuses us", "check the secret")
    states = [replace(s, said=said) if s.link.kind == names.XFRM else s for s in machine.snapshot.tunnels]
    desired = decide(machine.config, machine.intent, replace(machine.snapshot, tunnels=tuple(states)))

    (problem,) = [problem for problem in desired.problems if problem.code == "ike-refused"]
    assert problem.text == "mgmt: the gateway refuses us"


# -- names, windows, words --------------------------------------------------------------------------------------------
def test_its_gateways_name_is_looked_up() -> None:
    """While the one that carries is connected and needs nothing; and while nothing is chosen at all."""
    named = replace(MGMT, peers=(replace(MGMT.peers[0], endpoint=None, host=HostPort("mgmt.example", 51820)),))
    for prefer in (("work",), ()):
        machine = Laptop(replace(BESIDE, tunnels=(named, WORK), prefer=prefer))
        machine.names = {"mgmt.example": (ENDPOINT_M.addr,)}
        machine.join("home")
        machine.snapshot = replace(machine.snapshot, resolvers=(ip_address("192.168.1.1"),))
        machine.wait(60.0)

        assert {asked.host for asked in machine.looked_up} == {"mgmt.example"}
        assert isinstance(machine.looked_up[0], LookUp)
        assert tunnels(machine)["mgmt"]["state"] == "connected"


def test_a_window() -> None:
    """It goes on in a window, but for what the network itself is in: a portal has to be found there."""
    wide = replace(MGMT, peers=(replace(MGMT.peers[0], allowed=(ip_network("10.0.0.0/8"), ip_network("fd99::/16"))),))
    for site, left in (("home", ["10.0.0.0/8", "fd99::/16"]), ("cafe", ["fd99::/16"])):
        machine = connected(replace(BESIDE, tunnels=(wide, WORK)), "work", site=site)

        machine.settle(AllowTemporary(180))

        assert machine.phase is Phase.TEMPORARY_ACCESS
        assert [dst for dst, link in routes(machine).items() if link == "aovpn1"] == left


def test_in_words() -> None:
    """Explain names the tunnel that a packet takes, and why none takes it while that is down."""
    machine = connected()
    to = Explain(parse("10.99.0.9:443/tcp"))

    assert answer(to, _picture(machine)).text == "10.99.0.9:443/tcp leaves through the tunnel mgmt (aovpn1)"
    machine.fails = {EnsureTunnel}
    machine.lose_link("aovpn1")
    machine.look()
    machine.look()
    assert "the tunnel mgmt is not up yet, and what it carries leaves by no other" in answer(to, _picture(machine)).text


def test_of_ike() -> None:
    """One of IKE has what its gateway gives, on an XFRM interface of its own."""
    machine = Laptop(replace(BESIDE, tunnels=(IKE_MGMT, WORK)))
    machine.gives = replace(machine.gives, addresses=MGMT.addresses)
    machine.join("home")
    machine.wait(30.0)
    seen = view(machine.config, machine.intent, machine.snapshot)

    assert tunnels(machine)["mgmt"]["state"] == "connected"
    assert [(each.spec.addresses, each.state.link.kind) for each in seen.companions if each.state is not None] == [
        (MGMT.addresses, names.XFRM)
    ]


def test_names_of_its_domains() -> None:
    """Where systemd-resolved answers, its servers are asked for its domains, and for nothing else; otherwise status
    says that nobody asks them.
    """
    corp = replace(MGMT, search=("corp.example", "~lab.example"))
    machine = connected(replace(BESIDE, tunnels=(corp, WORK)))

    assert problems(machine) == {
        "companion-names": "names in corp.example, lab.example are not asked of mgmt's servers"
    }
    machine.snapshot = replace(machine.snapshot, dns=DnsState((Mechanism.RESOLVED,)))
    desired = machine.look()[0]
    assert desired.dns is not None
    (link,) = [link for link in machine.snapshot.links if link.name == "aovpn1"]
    assert desired.dns.beside == (
        Dns(link.index, "aovpn1", MGMT.dns, ("corp.example",), ("lab.example",), Scope.DOMAINS),
    )
    assert "companion-names" not in {problem.code for problem in desired.problems}
    without = replace(BESIDE, tunnels=(replace(corp, search=()), WORK))
    told = replace(machine.snapshot, dns=DnsState((Mechanism.RESOLVED,)))
    plain = decide(without, machine.intent, told).dns
    assert plain is not None
    assert plain.beside == ()


def test_a_gateway_that_gives_another_ones_address() -> None:
    """It is not taken, and the tunnel is not up; status says which it is, and nothing flaps."""
    machine = Laptop(replace(BESIDE, tunnels=(IKE_MGMT, WORK)))
    machine.gives = replace(machine.gives, addresses=WORK.addresses[:1])
    machine.join("home")
    machine.wait(60.0)

    assert machine.phase is Phase.CONNECTED
    assert tunnels(machine)["mgmt"]["state"] == "connecting"
    assert problems(machine) == {
        "companion-unfit": f"the gateway of mgmt gives {WORK.addresses[0].ip}, which another tunnel has as well"
    }


def _picture(machine: Laptop) -> Picture:
    desired = machine.look()[0]
    return Picture(machine.config, machine.intent, machine.snapshot, desired, diff(desired, machine.snapshot))
