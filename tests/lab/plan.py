# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses, names and ports of the simulated world: documentation ranges (RFC 5737, RFC 3849) and private ones.

::

    laptop ── wlan0 ──┐  air   ┌── home (192.168.10.0/24) ──┐            ┌── gateway (WireGuard)
           ── eth0  ──┤ (one   ├                            ├─ internet ─┤
                      │ bridge │                            │            └── web, DNS, echo
                      │ each)  └── café (192.168.20.0/24) ──┘
                      └ the recorder listens here
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final


@dataclass(frozen=True, slots=True)
class Site:
    """A network that a laptop can join, and the router that serves it."""

    name: str
    lan4: str
    """The first three bytes of the LAN's /24; the router is .1."""
    lan6: str
    """The LAN's /64 without the trailing ``::``; the router is ::1."""
    mac: str
    """The router's hardware address on the LAN."""
    wan4: str
    wan4_gateway: str
    wan6: str
    wan6_gateway: str
    nat64: str = ""
    """The /96 behind which IPv4 is reached, without the trailing ``::``; such a site has no IPv4 itself."""

    @property
    def router4(self) -> IPv4Address:
        """The router's address on the LAN: default gateway, DHCP server and resolver."""
        return IPv4Address(f"{self.lan4}.1")

    @property
    def router6(self) -> IPv6Address:
        """The router's global address on the LAN."""
        return IPv6Address(f"{self.lan6}::1")

    @property
    def router_local(self) -> IPv6Address:
        """The router's link-local address on the LAN (RFC 4291 appendix A): the IPv6 default gateway."""
        mac = bytes.fromhex(self.mac.replace(":", ""))
        return IPv6Address(b"\xfe\x80" + bytes(6) + bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:])

    def behind_nat64(self, address: IPv4Address) -> IPv6Address:
        """The IPv6 address by which an IPv4 one is reached from this site."""
        return IPv6Address(int(IPv6Address(f"{self.nat64}::")) | int(address))


HOME: Final = Site(
    *("home", "192.168.10", "2001:db8:10", "02:00:00:00:10:01"),
    *("198.51.100.2", "198.51.100.1", "2001:db8:ff10::2", "2001:db8:ff10::1"),
)
CAFE: Final = Site(
    *("cafe", "192.168.20", "2001:db8:20", "02:00:00:00:20:01"),
    *("198.51.100.6", "198.51.100.5", "2001:db8:ff20::2", "2001:db8:ff20::1"),
)
SIX: Final = Site(
    *("six", "192.168.64", "2001:db8:60", "02:00:00:00:64:01"),
    *("198.51.100.10", "198.51.100.9", "2001:db8:ff60::2", "2001:db8:ff60::1"),
    nat64="2001:db8:64",
)
"""A mobile network of today: IPv6 alone, IPv4 behind NAT64. There only where `World.build` is asked for it."""
TETHER: Final = Site(
    *("tether", "192.168.42", "2001:db8:42", "02:00:00:00:42:01"),
    *("198.51.100.14", "198.51.100.13", "2001:db8:ff42::2", "2001:db8:ff42::1"),
)
"""A telephone on a cable. There only where `World.build` is asked for it."""

GATEWAY4: Final = IPv4Address("203.0.113.2")
GATEWAY6: Final = IPv6Address("2001:db8:113::2")
MOVED4: Final = IPv4Address("203.0.113.130")
"""Where the gateway is after `Gateway.move`."""
GATEWAY_PORT: Final = 51820
GATEWAY_INSIDE4: Final = IPv4Address("10.66.0.1")
GATEWAY_INSIDE6: Final = IPv6Address("fd66::1")
"""The gateway's addresses inside the tunnel; it answers DNS there."""
TUNNEL4: Final = IPv4Address("10.66.0.2")
TUNNEL6: Final = IPv6Address("fd66::2")
"""The laptop's addresses inside the tunnel."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a gateway stands: its addresses, those inside its tunnel, and the laptop's there."""

    name: str
    wan4: IPv4Address
    wan4_gateway: IPv4Address
    wan6: IPv6Address
    wan6_gateway: IPv6Address
    inside4: IPv4Address
    inside6: IPv6Address
    laptop4: IPv4Address
    laptop6: IPv6Address


def _place(number: int) -> Place:
    """The addresses of another gateway."""
    wan4, inside4 = IPv4Address("203.0.113.0") + 4 * number, IPv4Address("10.66.0.0") + 256 * number
    wan6, inside6 = IPv6Address(f"2001:db8:{number}113::"), IPv6Address(f"fd66:{number}::")
    return Place(
        f"gateway{number}", wan4 + 2, wan4 + 1, wan6 + 2, wan6 + 1, inside4 + 1, inside6 + 1, inside4 + 2, inside6 + 2
    )


PLACES: Final = (
    Place(
        *("gateway", GATEWAY4, IPv4Address("203.0.113.1"), GATEWAY6, IPv6Address("2001:db8:113::1")),
        *(GATEWAY_INSIDE4, GATEWAY_INSIDE6, TUNNEL4, TUNNEL6),
    ),
    _place(2),
    _place(3),
)
"""The gateway that every world has, and two more, made on demand (`World.another_gateway`)."""


@dataclass(frozen=True, slots=True)
class Pool:
    """What a gateway gives to those who come by IKE: its own addresses inside (it answers DNS there), and theirs."""

    inside4: IPv4Address
    inside6: IPv6Address
    first4: IPv4Address
    last4: IPv4Address
    first6: IPv6Address
    last6: IPv6Address

    @property
    def addresses(self) -> tuple[IPv4Address | IPv6Address, ...]:
        """Those that a laptop may get."""
        four = range(int(self.first4), int(self.last4) + 1)
        six = range(int(self.first6), int(self.last6) + 1)
        return (*map(IPv4Address, four), *map(IPv6Address, six))


def _pool(place: Place) -> Pool:
    """The same addresses as WireGuard's, so that what attacks a tunnel's addresses finds them with either kind."""
    four, six = place.laptop4, place.laptop6
    return Pool(place.inside4, place.inside6, four, four + 13, six, six + 13)


IKE_POOLS: Final = {place.name: _pool(place) for place in PLACES}
"""By the name of the gateway's `Place`."""
IKE_GATEWAYS: Final = tuple(address for place in PLACES for address in (place.wan4, place.wan6))
"""Where IKE and ESP go: to the same machines as WireGuard, on UDP ports 500 and 4500."""
IKE_NAME: Final = "vpn.lab"
"""The identity of every IKE gateway."""
IKE_SEARCH: Final = "inside.example"
"""The search domain that it gives."""

WEB4: Final = IPv4Address("203.0.113.80")
WEB6: Final = IPv6Address("2001:db8:80::80")
DNS4: Final = IPv4Address("203.0.113.53")
DNS6: Final = IPv6Address("2001:db8:80::53")
ECHO4: Final = IPv4Address("203.0.113.7")
ECHO6: Final = IPv6Address("2001:db8:80::7")
ECHO_PORT: Final = 7

WEB_NAME: Final = "www.example.com"
GATEWAY_NAME: Final = "vpn.example.net"
WHO_NAME: Final = "resolver.example.org"
"""Every resolver answers this name with its own address."""
PORTAL_NAME: Final = "portal.cafe.example"
PORTAL_API: Final = f"https://{PORTAL_NAME}/api"
"""What DHCP option 114 says (RFC 8910); answers RFC 8908's JSON."""

LAPTOP_MAC: Final = {"wlan0": "02:00:00:00:00:02", "eth0": "02:00:00:00:00:03"}
USER: Final = 64001
"""Uid of an ordinary user of the laptop."""
RAW_USER: Final = 64002
"""Uid of a program that has CAP_NET_RAW, as the containers of common engines do."""
