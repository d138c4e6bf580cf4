# SPDX-License-Identifier: GPL-3.0-or-later
"""What the page says of guests that no tunnel takes, read a second time: as `spec`, of which it is a part."""

from collections.abc import Collection
from ipaddress import ip_network

from aovpnd.model import Snapshot
from aovpnd.ruleset import Device, Network
from aovpnd.trace import Packet
from tests.unit.spec_beside import is_inside

MANY = ("224.0.0.0/4", "255.255.255.255", "fe80::/10", "ff00::/8")


def reached(snapshot: Snapshot, bridges: Collection[int]) -> frozenset[Network]:
    """This machine by each of its addresses, what is on the links of its guests, and what is for many."""
    own = {ip_network(address.interface.ip) for address in snapshot.addresses}
    near = {address.interface.network for address in snapshot.addresses if address.link in bridges}
    return frozenset({*own, *near, *map(ip_network, MANY)})


def is_told_at_once(here: frozenset[Network] | None, bridges: Collection[Device], packet: Packet) -> bool:
    """A guest's packet to elsewhere, while no tunnel takes it."""
    if here is None or packet.iif not in bridges:
        return False
    return not any(is_inside(packet.daddr, near) for near in here)
