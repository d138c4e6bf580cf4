# SPDX-License-Identifier: GPL-3.0-or-later
"""Every nft text that the product ships or writes, for a kernel and an nft to judge."""

from ipaddress import IPv4Address, IPv6Address, ip_network

from aovpnd.core.firewall import compile as compile_permits
from aovpnd.core.permits import Excluded, Facts, HostOnly, Lan, TemporaryAccess, Tunnel, Window, permits
from aovpnd.guard import rules
from aovpnd.links import Link
from aovpnd.model import Phase
from aovpnd.render import render
from aovpnd.ruleset import Device
from aovpnd.tunnel import Endpoint
from aovpnd.users import Use
from tests.lab.product import CHECKOUT

_UPLINK = Device(2, "wlan0")
_HERE = (ip_network("192.168.122.0/24"), ip_network("192.168.1.23"), ip_network("fd01::23"))
_RICHEST = Facts(
    endpoints=(Endpoint(IPv4Address("203.0.113.2"), 51820), Endpoint(IPv6Address("2001:db8::2"), 51820)),
    addresses=(IPv4Address("10.66.0.2"), IPv6Address("fd66::2")),
    tunnel=Tunnel(Device(5, "aovpn0", "wireguard")),
    access=TemporaryAccess(
        _UPLINK, (IPv4Address("192.168.1.1"), IPv6Address("2001:db8:1::1")), Window(1000.0, 1180.0, 4_000_000_000)
    ),
    neighbours=(IPv6Address("2001:db8:1::1"),),
    host_only=(HostOnly(Device(8, "docker0", "bridge")), HostOnly(Device(9, "virbr0", "bridge"), _HERE)),
    companions=(
        Tunnel(Device(6, "aovpn1", "wireguard"), use=Use((1000, 1001), servers=(IPv4Address("10.67.0.1"),))),
        Tunnel(Device(7, "aovpn2", "wireguard"), use=Use(barred=(1000,))),
    ),
    beside=(
        Lan(_UPLINK, (ip_network("192.168.1.0/24"), ip_network("fd01::/64"))),
        Excluded(_UPLINK, (ip_network("198.18.0.0/15"), ip_network("2001:db8:80::/48"))),
    ),
)
"""One of everything that a permit can name."""
_LINKS = (
    Link(1, "lo", arphrd=772),
    Link(2, "wlan0"),
    Link(3, "usb0"),
    Link(5, "aovpn0", "wireguard", arphrd=65534),
    Link(8, "docker0", "bridge"),
    Link(10, "veth1a2b", "veth", master=8),
)


def every_ruleset() -> dict[str, str]:
    """File name → nft text: shipped files, recorded ones, each phase at its richest and barest, and the guard's."""
    texts = {
        f"{path.parent.name}-{path.name}": path.read_text(encoding="utf-8")
        for pattern in ("systemd/*.nft", "tests/unit/golden/*.nft")
        for path in CHECKOUT.glob(pattern)
    }
    for phase in Phase:
        if phase is Phase.UNBLOCKED:
            continue
        texts[f"{phase}-richest.nft"] = render(compile_permits(permits(phase, _RICHEST)), now=1000.0)
        texts[f"{phase}-barest.nft"] = render(compile_permits(permits(phase, Facts())))
    texts["guard.nft"] = rules.whole(_LINKS)
    texts["guard-without-links.nft"] = rules.whole(())
    return texts
