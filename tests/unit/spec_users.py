# SPDX-License-Identifier: GPL-3.0-or-later
"""The page's section on users, read a second time: as `spec`, of which it is a part."""

from collections.abc import Iterable
from dataclasses import dataclass

from aovpnd.model import Config
from aovpnd.ruleset import L4, Address, Device
from aovpnd.trace import Packet
from aovpnd.users import User


@dataclass(frozen=True, slots=True)
class Whose:
    """A tunnel's link, and who may use it: ``alone`` are those who have no other, when it is theirs."""

    device: Device
    alone: frozenset[int]
    barred: frozenset[int]
    servers: frozenset[Address]


def wanted_alone(config: Config, people: frozenset[int]) -> list[str]:
    """The tunnels that stand for users who have no other: always, or while one of them is logged in who asks for it
    only then.
    """
    able = [user for user in config.users if user.when == "always" or user.uid in people]
    return sorted({user.only for user in able if user.only is not None} - set(config.companions))


def barred(users: Iterable[User], tunnel: str) -> frozenset[int]:
    """Those who may not use a tunnel: it is never theirs, or another is their only one."""
    return frozenset(user.uid for user in users if tunnel in user.never or user.only not in {None, tunnel})


def is_refused(whose: Iterable[Whose], packet: Packet) -> bool:
    """Whether it is from a program that may not use the link by which it leaves. Root's may, and what has no socket is
    no program's; the name servers of somebody's own tunnel everybody may ask.
    """
    for each in whose:
        if each.device != packet.oif or not isinstance(packet.owner, int):
            continue
        asks = packet.l4 in {L4.TCP, L4.UDP} and packet.dport in {53, 853} and packet.daddr in each.servers
        if not asks and (packet.owner in each.barred or (each.alone and packet.owner not in {0, *each.alone})):
            return True
    return False


def is_nobodys(whose: Iterable[Whose], packet: Packet, own: frozenset[Address]) -> bool:
    """Whether it begins a connection of which nobody is known, by a tunnel that is not for everybody, or is of one that
    began elsewhere, and so does not bear its ``own`` address; by somebody's own, also any UDP. The kernel makes such
    sockets for programs.
    """
    return any(
        each.device == packet.oif
        and bool(each.alone or each.barred)
        and packet.owner is None
        and (
            (packet.l4 is L4.TCP and packet.begins)
            or (bool(each.alone) and packet.l4 is L4.UDP)
            or packet.saddr not in own
        )
        for each in whose
    )


def is_private(whose: Iterable[Whose], device: Device | None) -> bool:
    """Whether a link is that of somebody's own tunnel."""
    return any(each.device == device and each.alone for each in whose)
