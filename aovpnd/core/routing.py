# SPDX-License-Identifier: GPL-3.0-or-later
"""Our route table and rules, whole: what stays on this host, the open LAN, the tunnel, and nothing behind it."""

from ipaddress import ip_network
from typing import Final

from aovpnd import names
from aovpnd.core import uplinks
from aovpnd.core.view import View
from aovpnd.ipsec import TunnelSpec
from aovpnd.model import Config, Lan, Route, Routing, Snapshot, Uplink
from aovpnd.ruleset import Network

IPV4, IPV6 = 4, 6
LAN_RANGES: Final = tuple(
    map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fe80::/10", "fc00::/7"))
)
"""What may be a local network: RFC 1918, RFC 3927, RFC 4291, RFC 4193. A lease that calls public addresses local opens
nothing (TunnelCrack, CVE-2023-36672)."""


def routing(config: Config, snapshot: Snapshot, now: View) -> Routing:
    """Our table: what stays on this host, the open LAN, the tunnel, and ``unreachable`` behind it.

    Only a grant takes both ends away, ours and the rule's behind it, so that look-ups fall through to main. The
    tunnel's prefixes stand only once the tunnel is up.
    """
    families = (IPV4, IPV6) if snapshot.ipv6 else (IPV4,)
    near = {
        (prefix, link.index) for link in uplinks.host_only(snapshot) for prefix in uplinks.on_link(snapshot, link.index)
    }
    near |= {(prefix, uplink.link.index) for uplink, prefixes in lans(config, now) for prefix in prefixes}
    # A metric per link: two bridges may have the same prefix (fe80::/64 always), and equal routes would become one
    # multipath route.
    routes = {
        Route(prefix, link, metric=names.TUNNEL_METRIC + link) for prefix, link in near if prefix.version in families
    }
    if now.grant is None:
        routes |= {Route(_default(family), None, metric=names.CLOSED_METRIC) for family in families}
        if now.state is not None and now.state.link.up and now.spec is not None and not now.sealed:
            routes |= {
                Route(prefix, now.state.link.index, metric=names.TUNNEL_METRIC)
                for prefix in now.spec.prefixes
                if prefix.version in families
            }
    # Not for IPv4: a rule that ends look-ups would make the kernel refuse every default route ("invalid gateway").
    shut = tuple(family for family in families if family == IPV6 and now.grant is None)
    return Routing(families, tuple(sorted(routes, key=lambda route: route.order)), names.SYSCTLS, shut)


def _default(family: int) -> Network:
    return ip_network("0.0.0.0/0" if family == IPV4 else "::/0")


def lans(config: Config, now: View) -> list[tuple[Uplink, tuple[Network, ...]]]:
    """Each uplink with those of its on-link prefixes that may be reached beside the tunnel; none unless configured."""
    apart = [
        (uplink, tuple(prefix for prefix in prefixes if inside(prefix, now.spec) is None))
        for uplink, prefixes in _local(config, now)
    ]
    return [(uplink, prefixes) for uplink, prefixes in apart if prefixes]


def overlaps(config: Config, now: View) -> list[tuple[Uplink, Network, Network]]:
    """Prefixes of uplinks that would be the local network, and what of the tunnel's lies inside."""
    return [
        (uplink, prefix, taken)
        for uplink, prefixes in _local(config, now)
        for prefix in prefixes
        if (taken := inside(prefix, now.spec)) is not None
    ]


def _local(config: Config, now: View) -> list[tuple[Uplink, tuple[Network, ...]]]:
    """Each uplink with what it calls local and may be; nothing unless configured."""
    if config.lan is not Lan.ALLOW:
        return []
    return [(uplink, tuple(filter(_is_lan, uplink.prefixes))) for uplink in now.uplinks]


def inside(prefix: Network, spec: TunnelSpec | None) -> Network | None:
    """A private network behind the tunnel with which a prefix overlaps: whoever calls that local would be told what is
    meant for the tunnel (TunnelCrack's LocalNet attack, CVE-2023-36672). None where there is none.
    """
    if spec is None:
        return None
    behind = (*(own.network for own in spec.addresses), *map(ip_network, spec.dns), *filter(_is_lan, spec.prefixes))
    return next((net for net in behind if net.version == prefix.version and net.overlaps(prefix)), None)


def _is_lan(prefix: Network) -> bool:
    return any(
        prefix.version == lan.version and prefix.prefixlen >= lan.prefixlen and prefix.network_address in lan
        for lan in LAN_RANGES
    )
