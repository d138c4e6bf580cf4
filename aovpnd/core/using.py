# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose programs may use which tunnel: what [[user]] says, as rules.

A tunnel that users have to themselves stands beside whichever carries (`companions`), whatever it carries: a route
table leads their packets there before ours is asked (`routing`). That leads; what keeps is the rules here, at the
tunnels' links: nobody leaves by a tunnel that is not for him, wherever routes, or a socket that is bound to a link,
take him.
"""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network
from typing import Final

from aovpnd.core.filtering import DNS_PORTS
from aovpnd.model import Config
from aovpnd.ruleset import L4, Address, Device, Match, Rule, Users, Verdict, by_family
from aovpnd.users import Use, When

ROOT: Final = 0
"""Root may use every tunnel: it could be anybody."""


def owners(config: Config, tunnel: str) -> tuple[int, ...]:
    """The uids of those who have this tunnel and no other, in their order."""
    return tuple(sorted(user.uid for user in config.users if user.only == tunnel))


def private(config: Config, people: frozenset[int]) -> tuple[str, ...]:
    """The tunnels that stand because some users have no other: where they have it only while they are logged in, while
    one of them is. One that carries, or stands beside for everybody, is nobody's alone.
    """
    wanted = (user.only for user in config.users if user.when is When.ALWAYS or user.uid in people)
    return tuple(sorted({name for name in wanted if name is not None and name not in config.companions}))


def by_everybody(config: Config, tunnel: str) -> Use:
    """Who may use a tunnel that carries, or stands beside, for everybody."""
    return Use(barred=tuple(sorted(user.uid for user in config.users if not user.may_use(tunnel))))


def by_owners(config: Config, tunnel: str, servers: tuple[Address, ...]) -> Use:
    """Who may use one that some users have to themselves."""
    return Use(owners=owners(config, tunnel), servers=servers)


def leaving(device: Device, who: Use) -> Iterator[Rule]:
    """For output and the last look. What the kernel sends by itself has nobody's socket, and no rule here is about
    it.
    """
    by_tunnel = Match(oif=device)
    for servers in by_family(tuple(map(ip_network, who.servers))):
        dns = replace(by_tunnel, daddr=servers, l4=(L4.TCP, L4.UDP), dport=DNS_PORTS)
        yield Rule(dns, Verdict.ACCEPT, "its name servers, whoever asks: names have a program of their own")
    if who.owners:
        others = replace(by_tunnel, owner=Users((ROOT, *who.owners), others=True))
        yield Rule(others, Verdict.REJECT, "this tunnel is for its users alone")
    if who.barred:
        yield Rule(replace(by_tunnel, owner=Users(who.barred)), Verdict.REJECT, "users who may not use this tunnel")
