# SPDX-License-Identifier: GPL-3.0-or-later
"""IPv4 addresses through IPv6 (NAT64): how a network's prefix is found (RFC 7050), and an address put behind it
(RFC 6052).
"""

from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Final

from aovpnd.ruleset import Address

WELL_KNOWN: Final = "ipv4only.arpa"
"""The name that has IPv4 addresses alone: its IPv6 addresses are the network's making."""
_WELL_KNOWN_ADDRESSES: Final = (IPv4Address("192.0.0.170"), IPv4Address("192.0.0.171"))
LENGTHS: Final = (96, 64, 56, 48, 40, 32)
"""Every length that a prefix may have (RFC 6052 section 2.2), the usual one first."""
_BYTES: Final = 16
_U: Final = 8
"""The byte that stays zero ("u"): bits 64 to 71."""


def _places(length: int) -> tuple[int, ...]:
    """Where the four bytes of the IPv4 address stand behind a prefix."""
    return tuple(place for place in range(length // 8, _BYTES) if place != _U or length > 8 * _U)[:4]


def embed(prefix: IPv6Network, addr: IPv4Address) -> IPv6Address:
    """The IPv6 address that stands for ``addr`` behind ``prefix``. ``ValueError`` for a length that RFC 6052 does not
    know.
    """
    if prefix.prefixlen not in LENGTHS:
        msg = f"/{prefix.prefixlen} is no length of a NAT64 prefix"
        raise ValueError(msg)
    packed = bytearray(prefix.network_address.packed)
    for place, byte in zip(_places(prefix.prefixlen), addr.packed, strict=True):
        packed[place] = byte
    return IPv6Address(bytes(packed))


def prefix(answer: tuple[Address, ...]) -> IPv6Network | None:
    """The prefix that a network's answer for `WELL_KNOWN` tells, the first one that fits exactly; None where there is
    no NAT64.
    """
    for addr in answer:
        for length in LENGTHS if isinstance(addr, IPv6Address) else ():
            found = IPv6Network((addr, length), strict=False)
            if any(embed(found, known) == addr for known in _WELL_KNOWN_ADDRESSES):
                return found
    return None
