# SPDX-License-Identifier: GPL-3.0-or-later
"""The page's sections on the LAN and on excluded networks, read a second time: as `spec`, of which it is a part."""

from collections.abc import Iterable, Mapping
from ipaddress import ip_address, ip_network
from typing import Final

from aovpnd.routes import Route
from aovpnd.ruleset import L4, Address, Device, Network
from aovpnd.trace import Packet

Beside = frozenset[tuple[Device, frozenset[Network]]]
"""Links, each with the networks that are reached by it beside the tunnel."""
PRIVATE: Final = tuple(
    map(
        ip_network,
        ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fe80::/10", "fc00::/7"),
    )
)
DISCOVERY: Final = frozenset(
    map(ip_address, ("224.0.0.251", "239.255.255.250", "255.255.255.255", "ff02::fb", "ff02::1:3"))
)


def private(nets: Iterable[Network]) -> frozenset[Network]:
    """Those that may be a local network."""
    return frozenset(net for net in nets if any(lies_in(net, home) for home in PRIVATE))


def apart(nets: frozenset[Network], own: Iterable[Network], carried: Iterable[Network]) -> frozenset[Network]:
    """Without those that overlap something of the tunnel's: its own networks, name servers, private prefixes."""
    theirs = {*own, *private(carried)}
    return frozenset(net for net in nets if not any(_overlap(net, each) for each in theirs))


def is_lan_out(lan: Beside, packet: Packet) -> bool:
    """Into a network of the link, or to where its devices are asked for."""
    return any(
        packet.daddr in DISCOVERY or any(is_inside(packet.daddr, net) for net in nets)
        for device, nets in lan
        if device == packet.oif
    )


def is_lan_in(lan: Beside, packet: Packet) -> bool:
    """From a network of the link."""
    return any(is_inside(packet.saddr, net) for device, nets in lan if device == packet.iif for net in nets)


def kept_out(
    nets: Iterable[Network],
    own: Iterable[Network],
    carried: Iterable[Network],
    able: Mapping[int, Device],
    main: Iterable[Route],
) -> Beside:
    """Excluded networks, each by the link with the best default route of its family: without those that overlap a
    tunnel's own networks or name servers, or in which, or just as which, a tunnel carries something.
    """
    own, carried, main = tuple(own), tuple(carried), tuple(main)
    found = set[tuple[Device, frozenset[Network]]]()
    for version in (4, 6):
        of_family = [net for net in nets if net.version == version and not any(_overlap(net, each) for each in own)]
        free = frozenset(net for net in of_family if not any(lies_in(each, net) for each in carried))
        routes = [route for route in main if route.dst.prefixlen == 0 and route.link in able]
        defaults = [route for route in routes if route.dst.version == version]
        if free and defaults:
            best = min(defaults, key=lambda route: (route.metric, route.link))
            found.add((able[best.link or 0], free))
    return frozenset(found)


def without(nets: Iterable[Network], companions: Iterable[Iterable[Network]]) -> list[Network]:
    """Those that overlap nothing that a companion carries, if that is not everything."""
    theirs = [tuple(prefixes) for prefixes in companions]
    taken = [each for prefixes in theirs if all(each.prefixlen > 1 for each in prefixes) for each in prefixes]
    return [net for net in nets if not any(_overlap(net, each) for each in taken)]


def is_excluded(excluded: Beside, packet: Packet) -> bool:
    """To an excluded network, by the link that leads there."""
    return any(is_inside(packet.daddr, net) for device, nets in excluded if device == packet.oif for net in nets)


def begins(excluded: Beside, packet: Packet) -> bool:
    """Whether a connection begins there of which nobody is known."""
    return packet.l4 is L4.TCP and packet.begins and packet.owner is None and is_excluded(excluded, packet)


# -- addresses --------------------------------------------------------------------------------------------------------
def is_inside(address: Address | None, network: Network) -> bool:
    """Whether an address is one of a network's."""
    return address is not None and address.version == network.version and address in network


def lies_in(prefix: Network, home: Network) -> bool:
    """Whether all of a network is in another one."""
    return (
        prefix.version == home.version
        and prefix.prefixlen >= home.prefixlen
        and prefix.network_address in home
        and prefix.broadcast_address in home
    )


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)
