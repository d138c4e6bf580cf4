# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of the small world in which tunnels stand beside the one that carries."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import ClassVar, Final

from aovpnd.confirmation import Logins
from aovpnd.filters import Direction, Filter
from aovpnd.gateways import Gateways, Left, Made, Trial, Why
from aovpnd.ipsec import Given
from aovpnd.model import Block, Config, Intent, Lan, Snapshot, TunnelState, Wish
from aovpnd.ruleset import L4
from aovpnd.tunnel import Endpoint, WireGuard
from tests.unit.small_world import (
    AOVPN,
    CORP,
    GRANTS,
    HOME,
    LANS,
    MADE,
    NOW,
    UPLINKS,
    WORK,
    Situation,
    filtered,
    ike,
    state_of,
    tunnel,
)
from tests.unit.spec import World

ENDPOINT_M: Final = Endpoint(ip_address("192.0.2.77"), 51820)
GATEWAY_M: Final = Endpoint(ip_address("192.0.2.78"), 4500)
ADDRESS_M4, ADDRESS_M6 = ip_address("10.99.0.2"), ip_address("fd99::2")
MANAGED: Final = (ip_network("10.99.0.0/16"), ip_network("203.0.113.80/32"), ip_network("fd99::/16"))


def _narrow(name: str, endpoint: Endpoint, number: int) -> WireGuard:
    made = tunnel(name, endpoint)
    peer = replace(made.peers[0], allowed=MANAGED)
    return replace(
        made,
        peers=(peer,),
        addresses=(ip_interface(f"10.99.0.{number}/32"), ip_interface(f"fd99::{number}/128")),
        dns=(ip_address("10.99.0.1"),),
    )


MGMT: Final = _narrow("mgmt", ENDPOINT_M, 2)
LAB: Final = _narrow("lab", Endpoint(ip_address("192.0.2.79"), 51820), 3)
CLASH: Final = replace(MGMT, addresses=(*MGMT.addresses, WORK.addresses[0]))
IKE_MGMT: Final = replace(ike("mgmt", GATEWAY_M), networks=MANAGED)
GIVEN_ANOTHERS: Final = Given((*MGMT.addresses[:1], WORK.addresses[1]), MGMT.dns)
GIVEN_M: Final = Given(MGMT.addresses, MGMT.dns)
SECOND: Final = replace(AOVPN, index=10, name="aovpn1")
THIRD: Final = replace(AOVPN, index=11, name="aovpn2")
_ONE: Final = Config((MGMT, WORK), prefer=("work",), companions=("mgmt",))
_IKE: Final = Config((IKE_MGMT, WORK), prefer=("work",), companions=("mgmt",))
_OUT: Final = (Filter(Direction.OUT, (ip_network("203.0.113.80"),), (L4.TCP,), (443,)),)
_IN: Final = (Filter(Direction.IN, (ip_network("203.0.113.80"),), (L4.TCP,), (22,)),)
_CARRIED: Final = Made(AOVPN.index, AOVPN.name, AOVPN.kind, MGMT.digest(), frozenset(MGMT.addresses))
_LEFT: Final = (Left("work", Why.SILENT, NOW - 9, NOW + 30),)
Intents = dict[str, tuple[Config, Intent]]
States = dict[str, tuple[TunnelState, ...]]
_WISHES: Final[Intents] = {
    "one": (_ONE, Intent()),
    "one, disconnected": (_ONE, Intent(wish=Wish.DISCONNECT)),
    "one, and nothing chosen": (replace(_ONE, prefer=()), Intent()),
    "one, unblocked": (_ONE, Intent(block=Block.OFF)),
    "one that is not there": (replace(_ONE, companions=("gone",)), Intent()),
    "one that carries": (replace(_ONE, prefer=("mgmt",)), Intent()),
    "one that carries while nobody is logged in": (replace(_ONE, device=("mgmt",)), Intent(logins=Logins.NOBODY)),
    "one that carried until somebody logged in": (
        replace(_ONE, device=("mgmt",)),
        Intent(gateways=Gateways(made=_CARRIED)),
    ),
    "one that carries everything": (
        Config((HOME, WORK), prefer=("work",), companions=("home",)),
        Intent(),
    ),
    "one with an address of the other": (replace(_ONE, tunnels=(CLASH, WORK)), Intent()),
    "one with filters": (filtered(_ONE, "mgmt", _OUT), Intent()),
    "both with filters": (
        replace(_ONE, filters=(("mgmt", _IN), ("work", _OUT))),
        Intent(),
    ),
    "filters on the other": (filtered(_ONE, "work", _IN), Intent()),
    "two": (replace(_ONE, tunnels=(LAB, MGMT, WORK), companions=("mgmt", "lab")), Intent()),
    "one, moved on": (
        replace(_ONE, tunnels=(HOME, MGMT, WORK), prefer=("work", "home")),
        Intent(gateways=Gateways("home", _LEFT, made=MADE)),
    ),
    "one that is on trial": (
        replace(_ONE, prefer=("mgmt", "work")),
        Intent(gateways=Gateways("work", _LEFT, Trial("mgmt", NOW - 1))),
    ),
    "one of IKE": (_IKE, Intent()),
    "one of IKE, beside one of IKE": (replace(_IKE, tunnels=(CORP, IKE_MGMT), prefer=("corp",)), Intent()),
    "one that keeps networks out": (
        replace(_ONE, exclude=(ip_network("203.0.113.0/24"), ip_network("9.9.9.0/24"))),
        Intent(),
    ),
}
WISHES: Final = tuple(_WISHES)


def given_to(state: TunnelState, given: Given = GIVEN_M) -> TunnelState:
    """A link of the companion of IKE, with what its gateway gives."""
    return replace(state, given=given, addresses=given.addresses)


_REFUSED: Final = given_to(state_of(IKE_MGMT, SECOND), GIVEN_ANOTHERS)
_BOTH: Final = (state_of(WORK), state_of(MGMT, SECOND))
_LINKS: Final[States] = {
    "none": (),
    "the chosen one's": (state_of(WORK),),
    "the companion's": (state_of(MGMT, SECOND),),
    "both": _BOTH,
    "both, the companion's first": (state_of(MGMT), state_of(WORK, SECOND)),
    "the companion's, where the other was": (state_of(MGMT),),
    "the companion's with another key": (_BOTH[0], replace(_BOTH[1], digest="of something else")),
    "the companion's without its mark": (_BOTH[0], replace(_BOTH[1], fwmark=0)),
    "the companion's, of another kind": (_BOTH[0], replace(_BOTH[1], link=replace(SECOND, kind="tun", arphrd=1))),
    "the companion's, an address short": (_BOTH[0], replace(_BOTH[1], addresses=MGMT.addresses[:1])),
    "three": (*_BOTH, state_of(LAB, THIRD)),
    "both of IKE": (state_of(CORP), given_to(state_of(IKE_MGMT, SECOND))),
    "the companion's of IKE, nothing given": (
        state_of(WORK),
        replace(given_to(state_of(IKE_MGMT, SECOND)), given=None, addresses=()),
    ),
    "the companion's of IKE, given an address of the other": (state_of(WORK), _REFUSED),
    "the same, without it": (state_of(WORK), replace(_REFUSED, addresses=MGMT.addresses[:1])),
}
LINKS: Final = tuple(_LINKS)


@dataclass(frozen=True, slots=True)
class Accompanied:
    """One combination of choices, by name: ``base`` has no tunnels."""

    wishes: ClassVar[Intents] = _WISHES
    states: ClassVar[States] = _LINKS
    base: Situation
    wish: str
    links: str

    @property
    def people(self) -> frozenset[int]:
        """Who is logged in."""
        return frozenset()

    def world(self) -> World:
        """The situation as values."""
        found = self.base.world()
        config, intent = self.wishes[self.wish]
        intent = replace(intent, grant=found.intent.grant, look_up=found.intent.look_up)
        snapshot = replace(_with(found.snapshot, self.states[self.links]), people=self.people)
        return replace(found, config=replace(config, lan=self.base.lan), intent=intent, snapshot=snapshot)


def _with(snapshot: Snapshot, states: tuple[TunnelState, ...]) -> Snapshot:
    return replace(snapshot, links=(*snapshot.links, *(state.link for state in states)), tunnels=states)


def base_of(lan: Lan, grant: str, uplinks: str, look_up: str = "none") -> Situation:
    """A situation without tunnels, as the base of one with them."""
    return Situation("no tunnel", lan, grant, uplinks, "absent", "docker0", "given", look_up)


def accompanied() -> Iterator[Accompanied]:
    """About 6,000: what is theirs alone, and what may depend on it."""
    for wish, links, lan, grant, up in itertools.product(WISHES, LINKS, LANS, GRANTS[:2], UPLINKS[:6]):
        yield Accompanied(base_of(lan, grant, up), wish, links)
    for wish, links in itertools.product(WISHES, LINKS):
        yield Accompanied(base_of(Lan.BLOCK, "none", "private", "runs"), wish, links)


def few_accompanied() -> Iterator[Accompanied]:
    """What differs from one situation by one choice, about 50."""
    base = base_of(Lan.ALLOW, "none", "two")
    yield from (Accompanied(base, wish, "both") for wish in WISHES)
    yield from (Accompanied(base, "one", links) for links in LINKS)
    yield from (Accompanied(base, wish, "both of IKE") for wish in WISHES[-3:-1])
    yield from (Accompanied(base, "one of IKE", links) for links in LINKS[-3:])
    yield Accompanied(base, "two", "three")
    yield from (Accompanied(base_of(Lan.BLOCK, "alive", up), "one", "both") for up in UPLINKS[:6])
    yield from (Accompanied(base_of(Lan.BLOCK, "none", "private", "runs"), wish, "none") for wish in WISHES[:4])
