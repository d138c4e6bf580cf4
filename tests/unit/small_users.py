# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of the small world in which users have tunnels to themselves, or are kept from some."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import ClassVar, Final

from aovpnd.filters import Direction, Filter
from aovpnd.gateways import Gateways, Left, Trial, Why
from aovpnd.model import Block, Config, Intent, Lan, Wish
from aovpnd.ruleset import L4
from aovpnd.users import Use, User, When
from tests.unit.small_companions import (
    GIVEN_M,
    IKE_MGMT,
    MGMT,
    SECOND,
    Accompanied,
    Intents,
    States,
    base_of,
    given_to,
)
from tests.unit.small_world import DEFAULT4, DEFAULT6, GRANTS, LANS, MADE, NOW, UPLINKS, WORK, filtered, state_of

ALICE, BOB, CAROL = 1000, 1001, 1002
SERVER_M: Final = "10.99.0.1"
OWN: Final = replace(MGMT, peers=(replace(MGMT.peers[0], allowed=(DEFAULT4, DEFAULT6)),))
_IKE: Final = replace(IKE_MGMT, networks=(DEFAULT4, DEFAULT6))
_ALONE: Final = User("alice", ALICE, only="mgmt")
_WHILE: Final = replace(_ALONE, when=When.LOGGED_IN)
_NEVER: Final = User("bob", BOB, never=("work",))
_CARRIED: Final = User("bob", BOB, only="work")
_ONE: Final = Config((OWN, WORK), prefer=("work",), users=(_ALONE,))
_LEFT: Final = (Left("work", Why.SILENT, NOW - 9, NOW + 30),)
_OUT: Final = (Filter(Direction.OUT, (ip_network("203.0.113.80"),), (L4.TCP,), (443,)),)
_ASK: Final = Filter(Direction.OUT, (ip_network(SERVER_M),), (L4.UDP,), (53,))
_WISHES: Final[Intents] = {
    "alice alone": (_ONE, Intent()),
    "alice alone, disconnected": (_ONE, Intent(wish=Wish.DISCONNECT)),
    "alice alone, nothing chosen": (replace(_ONE, prefer=()), Intent()),
    "alice alone, unblocked": (_ONE, Intent(block=Block.OFF)),
    "alice alone with what is not there": (replace(_ONE, tunnels=(WORK,)), Intent()),
    "alice alone with what carries": (replace(_ONE, prefer=("mgmt",)), Intent()),
    "alice alone with what stands for everybody": (
        replace(_ONE, tunnels=(MGMT, WORK), companions=("mgmt",)),
        Intent(),
    ),
    "alice alone with what has an address of the other": (
        replace(_ONE, tunnels=(replace(OWN, addresses=(*OWN.addresses, WORK.addresses[0])), WORK)),
        Intent(),
    ),
    "alice alone, with filters": (filtered(_ONE, "mgmt", _OUT), Intent()),
    "alice alone, with filters that let names out": (filtered(_ONE, "mgmt", (*_OUT, _ASK)), Intent()),
    "alice alone, filters on the other": (filtered(_ONE, "work", _OUT), Intent()),
    "alice alone by IKE": (replace(_ONE, tunnels=(_IKE, WORK)), Intent()),
    "alice alone with what is on trial": (
        replace(_ONE, prefer=("mgmt", "work")),
        Intent(gateways=Gateways("work", _LEFT, Trial("mgmt", NOW - 1))),
    ),
    "alice while she is logged in": (replace(_ONE, users=(_WHILE,)), Intent()),
    "two have one": (replace(_ONE, users=(_ALONE, User("carol", CAROL, only="mgmt"))), Intent()),
    "alice has one, and bob the one that carries": (replace(_ONE, users=(_ALONE, _CARRIED)), Intent()),
    "bob never": (replace(_ONE, users=(_NEVER,)), Intent()),
    "bob never, alice alone": (replace(_ONE, users=(_ALONE, _NEVER)), Intent()),
    "bob never, moved on from there": (
        replace(_ONE, prefer=("work", "mgmt"), users=(_NEVER,)),
        Intent(gateways=Gateways("mgmt", _LEFT, made=replace(MADE, use=Use(barred=(BOB,))))),
    ),
    "bob never what it moved on to": (
        replace(_ONE, prefer=("work", "mgmt"), users=(User("bob", BOB, never=("mgmt",)),)),
        Intent(gateways=Gateways("mgmt", _LEFT, made=MADE)),
    ),
    "bob never either, moved on": (
        replace(_ONE, prefer=("work", "mgmt"), users=(User("bob", BOB, never=("work", "mgmt")),)),
        Intent(gateways=Gateways("mgmt", _LEFT, made=replace(MADE, use=Use(barred=(BOB,))))),
    ),
    "bob never what stands for everybody": (
        replace(_ONE, tunnels=(MGMT, WORK), companions=("mgmt",), users=(User("bob", BOB, never=("mgmt", "gone")),)),
        Intent(),
    ),
}
_LINKS: Final[States] = {
    "none": (),
    "the chosen one's": (state_of(WORK),),
    "both": (state_of(WORK), state_of(OWN, SECOND)),
    "both, and she is logged in": (state_of(WORK), state_of(OWN, SECOND)),
    "both narrow": (state_of(WORK), state_of(MGMT, SECOND)),
    "hers of IKE": (state_of(WORK), given_to(state_of(_IKE, SECOND), GIVEN_M)),
    "hers with another key": (state_of(WORK), replace(state_of(OWN, SECOND), digest="of something else")),
}
WISHES, LINKS = tuple(_WISHES), tuple(_LINKS)


@dataclass(frozen=True, slots=True)
class Divided(Accompanied):
    """As its parent, of this part of the world."""

    wishes: ClassVar[Intents] = _WISHES
    states: ClassVar[States] = _LINKS

    @property
    def people(self) -> frozenset[int]:
        """Who is logged in."""
        return frozenset({ALICE} if self.links == "both, and she is logged in" else {CAROL})


def divided() -> Iterator[Accompanied]:
    """About 3,000."""
    for wish, links, lan, grant, up in itertools.product(WISHES, LINKS, LANS, GRANTS[:2], UPLINKS[:6]):
        yield Divided(base_of(lan, grant, up), wish, links)


def few_divided() -> Iterator[Accompanied]:
    """What differs from one situation by one choice, about 40."""
    base = base_of(Lan.ALLOW, "none", "two")
    yield from (Divided(base, wish, "both") for wish in WISHES)
    yield from (Divided(base, WISHES[0], links) for links in LINKS)
    yield Divided(base, "alice while she is logged in", "both, and she is logged in")
    yield Divided(base, "alice alone by IKE", "hers of IKE")
    yield Divided(base, "bob never what stands for everybody", "both narrow")
    yield from (Divided(base_of(Lan.BLOCK, "alive", up), WISHES[0], "both") for up in UPLINKS[:6])
