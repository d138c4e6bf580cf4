# SPDX-License-Identifier: GPL-3.0-or-later
"""What may be reached beside the tunnel where somebody has said so: the local network, and excluded ones."""

from collections.abc import Iterable
from ipaddress import ip_network
from typing import Final

from aovpnd.core import using
from aovpnd.core.permits import Excluded
from aovpnd.core.permits import Lan as LanPermit
from aovpnd.core.view import View, carries_everything
from aovpnd.ipsec import TunnelSpec
from aovpnd.model import Config, Lan, Uplink
from aovpnd.ruleset import Device, Network

LAN_RANGES: Final = tuple(
    map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fe80::/10", "fc00::/7"))
)
"""What may be a local network: RFC 1918, RFC 3927, RFC 4291, RFC 4193. A lease that calls public addresses local opens
nothing (TunnelCrack, CVE-2023-36672)."""


def permits_beside(config: Config, now: View) -> tuple[LanPermit | Excluded, ...]:
    """The permits for both."""
    return (
        *(LanPermit(Device(u.link.index, u.link.name), prefixes) for u, prefixes in lans(config, now)),
        *(Excluded(Device(u.link.index, u.link.name), networks) for u, networks in excluded(config, now)),
        *(
            Excluded(Device(u.link.index, u.link.name), networks, now.use.barred)
            for u, networks in excluded_from_it(config, now)
        ),
    )


def lans(config: Config, now: View) -> list[tuple[Uplink, tuple[Network, ...]]]:
    """Each uplink with those of its on-link prefixes that may be reached beside the tunnel; none unless configured."""
    apart = [
        (uplink, tuple(prefix for prefix in prefixes if _inside_any(prefix, now) is None))
        for uplink, prefixes in _local(config, now)
    ]
    return [(uplink, prefixes) for uplink, prefixes in apart if prefixes]


def overlaps(config: Config, now: View) -> list[tuple[Uplink, Network, Network]]:
    """Prefixes of uplinks that would be the local network, and what of the tunnel's lies inside."""
    return [
        (uplink, prefix, taken)
        for uplink, prefixes in _local(config, now)
        for prefix in prefixes
        if (taken := _inside_any(prefix, now)) is not None
    ]


def excluded(config: Config, now: View) -> list[tuple[Uplink, tuple[Network, ...]]]:
    """Uplinks with those excluded networks that are reached by them: of each family by the best one, never by
    another. None while a tunnel's file cannot be used: nobody knows then what is meant for that tunnel.
    """
    return _by_uplink(config, now, config.exclude, (*config.tunnels, *now.specs))


def excluded_from_it(config: Config, now: View) -> list[tuple[Uplink, tuple[Network, ...]]]:
    """The same of those that are kept out of the tunnel alone that carries, or would if it were up."""
    at_once = _at_once(config, now)
    able = (net for net in kept_out_of_it(config, now) if _carried_beside(config, now, net) is None)
    return _by_uplink(config, now, able, at_once)


def _by_uplink(
    config: Config, now: View, networks: Iterable[Network], specs: tuple[TunnelSpec, ...]
) -> list[tuple[Uplink, tuple[Network, ...]]]:
    found: dict[Uplink, list[Network]] = {}
    for network in networks if not config.broken else ():
        uplink = _best(now.uplinks, network.version)
        if uplink is not None and _claimed(specs, network) is None:
            found.setdefault(uplink, []).append(network)
    return [(uplink, tuple(networks)) for uplink, networks in found.items()]


def claims(config: Config, now: View) -> list[tuple[Network, TunnelSpec, Network]]:
    """Excluded networks that stay closed, with the tunnel that has something in them, and what."""
    every, at_once = (*config.tunnels, *now.specs), _at_once(config, now)
    of_it = {net: _carried_beside(config, now, net) or _claimed(at_once, net) for net in kept_out_of_it(config, now)}
    open_ones = {network for network, claim in of_it.items() if claim is None}
    of_all = {network: _claimed(every, network) for network in config.exclude if network not in open_ones}
    return [(network, *claim) for network, claim in (of_all | of_it).items() if claim is not None]


def kept_out_of_it(config: Config, now: View) -> tuple[Network, ...]:
    """What is kept out of the tunnel alone that carries, or would."""
    return config.excluded_from(now.spec.name) if now.spec is not None else ()


def _carried_beside(config: Config, now: View, network: Network) -> tuple[TunnelSpec, Network] | None:
    """What a companion carries of a network, be it larger or smaller: that is said to go by the companion, or nowhere,
    and a list of another tunnel's is not about it.
    """
    beside = set(config.companions) - {now.spec.name if now.spec is not None else ""}
    companions = (spec for spec in config.tunnels if spec.name in beside and not carries_everything(spec))
    found = ((spec, prefix) for spec in companions for prefix in spec.prefixes if overlap(prefix, network))
    return next(found, None)


def _at_once(config: Config, now: View) -> tuple[TunnelSpec, ...]:
    """Tunnels that stand, or may stand, while this one carries: who keeps a network out of one tunnel has seen which
    others carry it, and of those that take its place this list does not speak.
    """
    able = {*config.companions, *using.lanes(config), *((now.spec.name,) if now.spec is not None else ())}
    return (*(spec for spec in config.tunnels if spec.name in able), *now.specs)


def _claimed(specs: Iterable[TunnelSpec], network: Network) -> tuple[TunnelSpec, Network] | None:
    """Whose traffic would go in clear with this network, whenever its tunnel is not up: of any tunnel, for the chosen
    one may be another one soon. A tunnel may carry more than the network, but nothing in it.
    """
    for spec in specs:
        own = (*(address.network for address in spec.addresses), *map(ip_network, spec.dns))
        found = [net for net in own if overlap(net, network)]
        found += (prefix for prefix in spec.prefixes if lies_in(prefix, network))
        if found:
            return spec, found[0]
    return None


def _inside_any(prefix: Network, now: View) -> Network | None:
    return next((found for spec in now.specs if (found := inside(prefix, spec)) is not None), None)


def inside(prefix: Network, spec: TunnelSpec) -> Network | None:
    """A private network behind the tunnel with which a prefix overlaps: whoever calls that local would be told what is
    meant for the tunnel (TunnelCrack's LocalNet attack, CVE-2023-36672). None where there is none.
    """
    behind = (*(own.network for own in spec.addresses), *map(ip_network, spec.dns), *filter(_is_lan, spec.prefixes))
    return next((net for net in behind if overlap(net, prefix)), None)


def _local(config: Config, now: View) -> list[tuple[Uplink, tuple[Network, ...]]]:
    """Each uplink with what it calls local and may be; nothing unless configured."""
    if config.lan is not Lan.ALLOW:
        return []
    return [(uplink, tuple(filter(_is_lan, uplink.prefixes))) for uplink in now.uplinks]


def _best(uplinks: tuple[Uplink, ...], family: int) -> Uplink | None:
    carrying = [uplink for uplink in uplinks if family in uplink.families]
    return min(carrying, key=lambda uplink: uplink.metrics[uplink.families.index(family)], default=None)


def overlap(network: Network, other: Network) -> bool:
    """Whether two networks have an address in common."""
    return network.version == other.version and network.overlaps(other)


def lies_in(network: Network, home: Network) -> bool:
    """Whether all of a network is in another one."""
    return network.version == home.version and network.prefixlen >= home.prefixlen and network.network_address in home


def _is_lan(prefix: Network) -> bool:
    return any(lies_in(prefix, lan) for lan in LAN_RANGES)
