# SPDX-License-Identifier: GPL-3.0-or-later
"""Wishes of the small world that keep networks out of the tunnel."""

from dataclasses import replace
from ipaddress import ip_interface, ip_network
from typing import Final

from aovpnd.model import Block, Config, Intent, Wish
from aovpnd.tunnel import WireGuard
from aovpnd.users import User

SOME: Final = tuple(map(ip_network, ("203.0.113.0/24", "9.9.9.0/24", "2001:db8:80::/48", "2620:fe::/48")))
"""Where everybody is whom the packets ask for, and two resolvers: DNS leaves by no link but the tunnel all the same."""
NEAR: Final = tuple(map(ip_network, ("192.168.1.0/24", "198.51.100.0/25", "2001:db8:1::/64", "10.0.0.0/8")))
"""Networks of the uplinks themselves, and one that the tunnel's own are in."""
_OWN: Final = (ip_interface("10.98.0.2/32"),)
_NEVER: Final = User("bob", 1001, never=("work",))


def excluding(work: WireGuard, home: WireGuard) -> dict[str, tuple[Config, Intent]]:
    """By name: what is written, and what is wanted."""
    one = Config((work,), exclude=SOME)
    narrow = replace(home.peers[0], allowed=(ip_network("203.0.113.80/32"), ip_network("2001:db8:80::/48")))
    other = replace(home, peers=(narrow,))
    wide = replace(home.peers[0], allowed=(ip_network("203.0.0.0/16"),))
    alone = Config((work, other), prefer=("work",), exclude_from=(("work", SOME), ("home", NEAR)))
    return {
        "some excluded": (one, Intent()),
        "some excluded, disconnected": (one, Intent(wish=Wish.DISCONNECT)),
        "some excluded, no tunnel": (Config(exclude=SOME), Intent()),
        "some excluded, and a broken file": (replace(one, broken=frozenset({"home"})), Intent(chosen="work")),
        "some excluded, of which another tunnel carries something": (
            Config((work, other), prefer=("work",), exclude=SOME),
            Intent(),
        ),
        "excluded, what is on the link, or has the tunnel's own": (Config((work,), exclude=NEAR), Intent()),
        "some excluded, unblocked": (one, Intent(block=Block.OFF)),
        "some excluded from the one": (alone, Intent()),
        "some excluded from the one, disconnected": (alone, Intent(wish=Wish.DISCONNECT)),
        "some excluded from another": (replace(alone, prefer=("home",)), Intent()),
        "some excluded from the one, and a broken file": (replace(alone, broken=frozenset({"x"})), Intent()),
        "some excluded from the one, of which a companion carries something": (
            replace(alone, tunnels=(work, other), companions=("home",)),
            Intent(),
        ),
        "some excluded from the one, which are in what a companion carries": (
            replace(alone, tunnels=(work, replace(home, addresses=_OWN, dns=(), peers=(wide,))), companions=("home",)),
            Intent(),
        ),
        "some excluded from the one, which somebody may not use": (replace(alone, users=(_NEVER,)), Intent()),
        "more excluded from the one": (replace(alone, exclude=SOME[2:], exclude_from=(("work", SOME),)), Intent()),
    }
