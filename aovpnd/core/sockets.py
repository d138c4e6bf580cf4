# SPDX-License-Identifier: GPL-3.0-or-later
"""When sockets of a direct or dead path are closed, and which are spared."""

from dataclasses import replace
from typing import Final

from aovpnd.confirmation import Standing
from aovpnd.core import using
from aovpnd.core.beside import excluded, excluded_from_it, lans
from aovpnd.core.view import View
from aovpnd.links import Side, sides
from aovpnd.model import Config, Intent, Phase, Snapshot
from aovpnd.ruleset import Address
from aovpnd.sockets import Sweep

_OPEN: Final = frozenset({Phase.UNBLOCKED, Phase.TEMPORARY_ACCESS})


def sweep(config: Config, intent: Intent, snapshot: Snapshot, now: View) -> Sweep | None:
    """What has to be swept, or None: the block is not on, or it was done for the present state of things.

    That state is where the uplinks lead and what addresses the tunnel has. So sockets are swept when the daemon starts,
    when the block comes back or a window closes (`forget`), and when an uplink goes, comes or is another one. Not while
    the block may undo itself: who was logged in over the network finds that connection again. And when it changes who
    may use which tunnel, also because one that carried for everybody is somebody's own again: what a user has by one
    that is not for him any more is closed. Its last data would leave by that one otherwise, when its program closes it:
    what has no program has no user.
    """
    if now.phase in _OPEN:
        return None
    if intent.confirmation.standing is Standing.AWAITED:
        return None
    tunnels = (*((now.spec,) if now.spec is not None else config.tunnels), *(each.spec for each in now.companions))
    addresses = frozenset(interface.ip for spec in tunnels for interface in spec.addresses)
    networks = (f"{uplink.link.index} {uplink.network}" for uplink in now.uplinks)
    users = (f"{user.uid} {user}" for user in config.users)
    alone = tuple(each.spec for each in now.companions if each.private)
    from_it = excluded_from_it(config, now)
    but = frozenset(now.use.barred)
    kept_out = (*map(str, config.exclude), *(f"{net} but {sorted(but)}" for _, nets in from_it for net in nets))
    settings = (config.lan.value, *kept_out, *users, *(f"{spec.name} alone" for spec in alone))
    why = (*networks, *sorted(map(str, addresses)), *settings)
    if why == intent.swept:
        return None
    return Sweep(
        why,
        inside=addresses | _inside(snapshot),
        own=frozenset(address.interface.ip for address in snapshot.addresses),
        beside=frozenset(
            (address.interface.ip, prefix)
            for uplink, prefixes in lans(config, now)
            for address in snapshot.addresses
            for prefix in prefixes
            if address.link == uplink.link.index and address.interface.ip in prefix
        )
        | frozenset(
            (address.interface.ip, network)
            for uplink, networks in excluded(config, now)
            for address in snapshot.addresses
            for network in networks
            if address.link == uplink.link.index
        ),
        beside_but=frozenset(
            (address.interface.ip, network, but)
            for uplink, networks in from_it
            for address in snapshot.addresses
            for network in networks
            if address.link == uplink.link.index
        ),
        barred=frozenset(
            (user.uid, interface.ip)
            for spec in now.specs
            for user in config.users
            for interface in spec.addresses
            if not user.may_use(spec.name)
        ),
        alone=frozenset(
            (interface.ip, frozenset(using.owners(config, spec.name))) for spec in alone for interface in spec.addresses
        ),
    )


def forget(intent: Intent, phase: Phase) -> Intent:
    """While programs may connect directly, nothing counts as swept."""
    return replace(intent, swept=None) if phase in _OPEN else intent


def _inside(snapshot: Snapshot) -> frozenset[Address]:
    side = sides(snapshot.links)
    return frozenset(
        address.interface.ip
        for address in snapshot.addresses
        if side.get(address.link, Side.OUTSIDE) is not Side.OUTSIDE
    )
