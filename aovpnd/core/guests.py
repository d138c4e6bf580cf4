# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests of this host, behind bridges of its own: what of theirs is forwarded, and how soon they are told no."""

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_network
from typing import Final

from aovpnd.core import filtering, mtu
from aovpnd.core.permits import HostOnly, Permit, Tunnel
from aovpnd.ruleset import Conntrack, Match, Mss, Rule, Verdict, by_family

ANSWERS: Final = (Conntrack.ESTABLISHED, Conntrack.RELATED)
_TO_MANY: Final = tuple(map(ip_network, ("224.0.0.0/4", "255.255.255.255", "fe80::/10", "ff00::/8")))
"""Nothing of it is ever forwarded."""


def forwarded(permits: tuple[Permit, ...]) -> Iterable[Rule]:
    """Into tunnels that are for everybody, with their answers, and between each other."""
    guests = [permit.device for permit in permits if isinstance(permit, HostOnly)]
    # What is forwarded is no user's: a tunnel that is somebody's alone is not for guests.
    tunnels = [permit for permit in permits if isinstance(permit, Tunnel) and not permit.use.owners]
    for guest in guests:
        for tunnel in tunnels:
            there, back = Match(iif=guest, oif=tunnel.device), Match(iif=tunnel.device, oif=guest)
            for match in (there, back):
                yield Rule(match, Verdict.CONTINUE, "TCP of guests in segments that fit", clamp_mss=Mss.ROUTE)
                yield from mtu.clamped(match, tunnel.narrow)
            if tunnel.filters:
                yield from filtering.forwarded(there, tunnel.filters)
            else:
                yield Rule(there, Verdict.ACCEPT, "guests go through the tunnel")
            yield Rule(replace(back, ct=ANSWERS), Verdict.ACCEPT, "and get their answers")
        for other in guests:
            yield Rule(Match(iif=guest, oif=other), Verdict.ACCEPT, "between guests of this host")


def told_at_once(permits: tuple[Permit, ...]) -> Iterable[Rule]:
    """Before routing, which tells a guest once a second that there is no way (ip_error): names would fail late."""
    for permit in permits:
        if isinstance(permit, HostOnly) and permit.here is not None:
            guest = Match(iif=permit.device)
            for near in by_family((*permit.here, *_TO_MANY)):
                yield Rule(replace(guest, daddr=near), Verdict.ACCEPT, "guests of this host, and it itself")
            yield Rule(guest, Verdict.REJECT, "no tunnel takes what guests send: they are told at once")
