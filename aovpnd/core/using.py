# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose programs may use which tunnel: what [[user]] says, as rules.

A tunnel that users have to themselves stands beside whichever carries (`companions`), whatever it carries: a route
table leads their packets there before ours is asked (`routing`). That leads; what keeps is the rules here, at the
tunnels' links: nobody leaves by a tunnel that is not for him, wherever routes, or a socket that is bound to a link,
take him.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import ip_network
from typing import Final

from aovpnd.core.filtering import DNS_PORTS
from aovpnd.core.permits import Excluded, Permit, Tunnel
from aovpnd.filters import Filter, lets_out
from aovpnd.model import Config
from aovpnd.ruleset import L4, Address, Device, Mark, Match, Network, Owner, Rule, Users, Verdict, by_family
from aovpnd.users import Use, When

ROOT: Final = 0
"""Root may use every tunnel: it could be anybody."""
_DNS: Final = (L4.TCP, L4.UDP)


def owners(config: Config, tunnel: str) -> tuple[int, ...]:
    """The uids of those who have this tunnel and no other, in their order."""
    return tuple(sorted(user.uid for user in config.users if user.only == tunnel))


def private(config: Config, people: frozenset[int]) -> tuple[str, ...]:
    """The tunnels that stand because some users have no other: where they have it only while they are logged in, while
    one of them is. One that carries, or stands beside for everybody, is nobody's alone.
    """
    wanted = (user.only for user in config.users if user.when is When.ALWAYS or user.uid in people)
    return tuple(sorted({name for name in wanted if name is not None and name not in config.companions}))


def lanes(config: Config) -> tuple[str, ...]:
    """The tunnels that are somebody's only one, in the order of their route tables; there may be more than those."""
    return tuple(sorted({user.only for user in config.users if user.only is not None}))


def by_everybody(config: Config, tunnel: str) -> Use:
    """Who may use a tunnel that carries, or stands beside, for everybody."""
    return Use(barred=tuple(sorted(user.uid for user in config.users if not user.may_use(tunnel))))


def by_owners(config: Config, tunnel: str, servers: tuple[Address, ...]) -> Use:
    """Who may use one that some users have to themselves."""
    return Use(owners=owners(config, tunnel), servers=servers)


def nobodys(permits: Iterable[Permit], known: Mark) -> Iterator[Rule]:
    """For the head of output: by a tunnel that is not for all, no connection begins of which nobody is known. Sockets
    that the kernel makes for a program (SMC, MPTCP's further paths, RxRPC) have no file, so that no rule on users is
    about them, and they go where the program has bound its own. Of a tunnel that is somebody's own, no UDP either. What
    is left of a connection whose program has closed it is nobody's as well: it goes by the tunnel that it began by.

    A rule can ask who it is, but not whether it is nobody: who is known is marked, by a bit that the last look clears.
    Guests' packets do not come by here.
    """
    for each in permits:
        if isinstance(each, Excluded) and each.barred:
            yield from _begins(each, known)
        if isinstance(each, Tunnel) and (each.use.owners or each.use.barred):
            by_tunnel = Match(oif=each.device)
            unknown = replace(by_tunnel, mark=Mark(0, known.mask))
            somebody = replace(by_tunnel, owner=Owner.ANYBODY)
            yield Rule(by_tunnel, Verdict.CONTINUE, "the bit is ours here", set_mark=Mark(0, known.mask))
            yield Rule(somebody, Verdict.CONTINUE, "whose it is, is known", set_mark=known)
            why = "by a tunnel that is not for all, nothing begins that is nobody's"
            yield Rule(replace(unknown, l4=(L4.TCP,), begins=True), Verdict.REJECT, why)
            if each.use.owners:
                yield Rule(replace(unknown, l4=(L4.UDP,)), Verdict.REJECT, why)
            for own in by_family(tuple(map(ip_network, each.own))):
                rest = "what is nobody's and bears the tunnel's own address: an answer, or the end of a connection"
                yield Rule(replace(by_tunnel, saddr=own), Verdict.CONTINUE, rest, set_mark=known)
            yield Rule(unknown, Verdict.DROP, "what is nobody's has begun elsewhere")


def _begins(permit: Excluded, known: Mark) -> Iterator[Rule]:
    """As for a tunnel that is not for all, where networks are kept out of such a one: of nobody's, nothing begins."""
    for family in by_family(permit.networks):
        there = Match(oif=permit.device, daddr=family, l4=(L4.TCP,), begins=True)
        yield Rule(there, Verdict.CONTINUE, "the bit is ours here", set_mark=Mark(0, known.mask))
        yield Rule(replace(there, owner=Owner.ANYBODY), Verdict.CONTINUE, "whose it is, is known", set_mark=known)
        why = "beside a tunnel that is not for all, nothing begins that is nobody's"
        yield Rule(replace(there, mark=Mark(0, known.mask)), Verdict.REJECT, why)


def leaving(device: Device, who: Use, filters: tuple[Filter, ...]) -> Iterator[Rule]:
    """For output and the last look. What the kernel sends by itself has nobody's socket, and no rule here is about
    it.
    """
    by_tunnel = Match(oif=device)
    for servers, l4, ports in _asked(who.servers, filters):
        dns = replace(by_tunnel, daddr=servers, l4=l4, dport=ports)
        yield Rule(dns, Verdict.ACCEPT, "its name servers, whoever asks: names have a program of their own")
    if who.owners:
        others = replace(by_tunnel, owner=Users((ROOT, *who.owners), others=True))
        yield Rule(others, Verdict.REJECT, "this tunnel is for its users alone")
    if who.barred:
        yield Rule(replace(by_tunnel, owner=Users(who.barred)), Verdict.REJECT, "users who may not use this tunnel")


def _asked(
    servers: tuple[Address, ...], filters: tuple[Filter, ...]
) -> Iterator[tuple[tuple[Network, ...], tuple[L4, ...], tuple[int, ...]]]:
    """Name servers, of one family, and how they may be asked: as far as the tunnel's filters let anybody out."""
    ways = [((l4,), (port,)) for l4 in _DNS for port in DNS_PORTS] if filters else [(_DNS, DNS_PORTS)]
    for l4, ports in ways:
        able = tuple(ip_network(server) for server in servers if lets_out(filters, server, l4[0], ports[0]))
        yield from ((family, l4, ports) for family in by_family(able))
