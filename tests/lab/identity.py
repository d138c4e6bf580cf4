# SPDX-License-Identifier: GPL-3.0-or-later
"""What a permitted frame tells about the machine, beyond that there is one.

Most of it is said by DHCP clients and the kernel's addresses, which are settings of others (docs/known-issues.md); what
is the tunnel's must never be said: `OURS`.
"""

from enum import StrEnum
from ipaddress import IPv6Address
from typing import Final

from tests.lab import plan


class Trace(StrEnum):
    """By what a network may know a machine again."""

    HOST_NAME = "host name"
    """DHCP options 12 and 81, DHCPv6 option 39."""
    DUID = "DHCP unique identifier"
    """RFC 8415 section 11, also in DHCPv4 (RFC 4361): the same in every network, whatever hardware address is used."""
    CLASS = "vendor or user class"
    """DHCP option 60, DHCPv6 options 15 and 16: which system and which program it is."""
    EUI64 = "address made of the hardware address"
    """RFC 4291 appendix A."""
    OTHER_CARD = "hardware address of another card"
    """Behind the Ethernet header; it joins two cards to one machine."""
    INSIDE = "address inside the tunnel"


OURS: Final = frozenset({Trace.INSIDE})
"""What the product promises, whoever sends."""
FIELDS: Final = (
    "eth.src",
    "dhcp.option.hostname",
    "dhcp.option.vendor_class_id",
    "dhcp.fqdn.name",
    "dhcp.client_id.duid_type",
    "dhcpv6.client_domain",
    "dhcpv6.duid.bytes",
    "dhcpv6.vendorclass.enterprise",
    "dhcpv6.userclass.opaque_data",
    "icmpv6.nd.ns.target_address",
    "icmpv6.nd.na.target_address",
)
"""What tshark is asked for, besides ``ipv6.src``."""
_SAID_BY: Final = {
    Trace.HOST_NAME: ("dhcp.option.hostname", "dhcp.fqdn.name", "dhcpv6.client_domain"),
    Trace.DUID: ("dhcp.client_id.duid_type", "dhcpv6.duid.bytes"),
    Trace.CLASS: (
        "dhcp.option.vendor_class_id",
        "dhcpv6.vendorclass.enterprise",
        "dhcpv6.userclass.opaque_data",
    ),
}
_CARDS: Final = frozenset(bytes.fromhex(mac.replace(":", "")) for mac in plan.LAPTOP_MAC.values())
_INSIDE: Final = (
    *(address.packed for place in plan.PLACES for address in (place.laptop4, place.laptop6)),
    *(address.packed for pool in plan.IKE_POOLS.values() for address in pool.addresses),
)
_ETHERNET: Final = 14


def traces(row: dict[str, str], payload: bytes) -> frozenset[Trace]:
    """What a frame that is not encrypted tells: tshark's fields, and bytes that are known."""
    found = {trace for trace, fields in _SAID_BY.items() if any(row[field] for field in fields)}
    own = bytes.fromhex(row["eth.src"].replace(":", "")) if row["eth.src"] else b""
    if any(card != own and card in payload[_ETHERNET:] for card in _CARDS):
        found.add(Trace.OTHER_CARD)
    spoken = (row["ipv6.src"], row["icmpv6.nd.ns.target_address"], row["icmpv6.nd.na.target_address"])
    if own and any(address and IPv6Address(address).packed[8:] == _eui64(own) for address in spoken):
        found.add(Trace.EUI64)
    if any(address in payload[_ETHERNET:] for address in _INSIDE):
        found.add(Trace.INSIDE)
    return frozenset(found)


def _eui64(mac: bytes) -> bytes:
    return bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]
