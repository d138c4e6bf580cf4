# SPDX-License-Identifier: GPL-3.0-or-later
"""NAT64 prefixes: where an IPv4 address is behind one (RFC 6052), and how one is found (RFC 7050)."""

from ipaddress import IPv4Address, IPv6Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aovpnd.core import nat64
from aovpnd.ruleset import Address


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("2001:db8::/32", "2001:db8:c000:221::"),
        ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
        ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
        ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
        ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100:0"),
        ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
        ("64:ff9b::/96", "64:ff9b::192.0.2.33"),
    ],
)
def test_rfc_6052(prefix: str, expected: str) -> None:
    """The table of RFC 6052, section 2.4, and back again; the prefix is found in an answer (RFC 7050)."""
    network = IPv6Network(prefix)
    addr = nat64.embed(network, IPv4Address("192.0.2.33"))
    known = (IPv4Address("192.0.0.170"), nat64.embed(network, IPv4Address("192.0.0.171")))

    assert addr == ip_address(expected)
    assert nat64.prefix(known) == network


@given(st.sampled_from(nat64.LENGTHS), st.ip_addresses(v=6), st.ip_addresses(v=4))
def test_every_prefix(length: int, base: Address, addr: IPv4Address) -> None:
    """Whatever the prefix, an address stays behind it, and byte 8 zero where RFC 6052 wants that."""
    network = IPv6Network((base, length), strict=False)
    made = nat64.embed(network, addr)

    assert made in network
    assert length == 96 or made.packed[8] == network.network_address.packed[8]
    other = nat64.embed(network, IPv4Address(int(addr) ^ 1))
    assert made != other


def test_no_prefix() -> None:
    """Not in an answer without IPv6, not in one that means something else, and none of another length."""
    assert nat64.prefix(tuple(map(ip_address, ("192.0.0.170", "192.0.0.171")))) is None
    assert nat64.prefix((ip_address("2001:db8::1"),)) is None
    with pytest.raises(ValueError, match="/80"):
        nat64.embed(IPv6Network("2001:db8::/80"), IPv4Address("192.0.2.1"))
