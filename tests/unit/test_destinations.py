# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a packet would go, as people write it."""

import contextlib
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aovpnd.destinations import PORTED, PORTLESS, Destination, DestinationError, parse


@pytest.mark.parametrize(
    ("text", "address", "port", "protocol", "link"),
    [
        ("203.0.113.80", "203.0.113.80", 443, "tcp", ""),
        ("203.0.113.80:80", "203.0.113.80", 80, "tcp", ""),
        ("203.0.113.80:53/udp", "203.0.113.80", 53, "udp", ""),
        ("203.0.113.80/UDP", "203.0.113.80", 443, "udp", ""),
        ("203.0.113.80/icmp", "203.0.113.80", None, "icmp", ""),
        ("2001:db8::80", "2001:db8::80", 443, "tcp", ""),
        ("2001:db8::80/icmpv6", "2001:db8::80", None, "icmp", ""),
        ("2001:db8::80:22", "2001:db8::80:22", 443, "tcp", ""),
        ("[2001:db8::80]:22", "2001:db8::80", 22, "tcp", ""),
        ("[2001:db8::80]:22/sctp", "2001:db8::80", 22, "sctp", ""),
        ("[::ffff:203.0.113.80]:80", "203.0.113.80", 80, "tcp", ""),
        ("fe80::1%wlan0", "fe80::1", 443, "tcp", "wlan0"),
        ("[ff02::fb%eth0.7]:5353/udp", "ff02::fb", 5353, "udp", "eth0.7"),
        ("224.0.0.251:5353/udp", "224.0.0.251", 5353, "udp", ""),
    ],
)
def test_destination_is_understood(text: str, address: str, port: int | None, protocol: str, link: str) -> None:
    """TCP to port 443 where nothing is said, and an echo request where there are no ports."""
    assert parse(text) == Destination(ip_address(address), port, protocol, link)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "'' is no address"),
        ("x" * 129, f"'{'x' * 128}' is no destination"),
        ("203.0.113.80:", "'203.0.113.80:' is no address"),
        ("203.0.113.80:0", "'203.0.113.80:0': 0 is no port"),
        ("203.0.113.80:65536", "'203.0.113.80:65536': 65536 is no port"),
        ("203.0.113.80:53/icmp", "'203.0.113.80:53/icmp': icmp has no ports"),
        ("203.0.113.80/carrier", "'203.0.113.80/carrier': 'carrier' is no protocol that I know"),
        ("10.0.0.0/8", "'10.0.0.0/8': a network is no destination"),
        ("10.0.0.1/47", "'10.0.0.1/47': '47' is no protocol that I know"),
        ("ff02::1:2%wlan0:547/udp", "'ff02::1:2%wlan0:547/udp': this is no name of a link"),
        ("300.0.0.1", "'300.0.0.1' is no address"),
        ("0.0.0.0", "'0.0.0.0' is no address of anybody"),
        ("[::]:80", "'[::]:80' is no address of anybody"),
        ("[203.0.113.80]:80", "'[203.0.113.80]:80': brackets are for IPv6 alone"),
        ("www.example.com:443", "'www.example.com:443' is a name, and explain asks nobody for its address"),
        ("fe80::1", "'fe80::1' is on every link"),
        ("ff02::fb", "'ff02::fb' is on every link"),
        (
            "ff05::2%wlan0",
            "'ff05::2%wlan0' is multicast beyond one link, and by which link it goes is the kernel's choice",
        ),
        ("2001:db8::1%wlan0", "'2001:db8::1%wlan0': a link goes with link-local and multicast IPv6 addresses alone"),
        ("203.0.113.80%wlan0", "'203.0.113.80%wlan0': a link goes with link-local and multicast IPv6 addresses alone"),
        ("fe80::1%wlan 0", "'fe80::1%wlan 0': this is no name of a link"),
        ("fe80::1%averyverylongname", "'fe80::1%averyverylongname': this is no name of a link"),
        ("\x1b[2J", r"'\x1b[2J' is no destination"),
    ],
)
def test_everything_else_is_refused(text: str, why: str) -> None:
    """With a reason, a hint, and nothing that a terminal obeys."""
    with pytest.raises(DestinationError) as refused:
        parse(text)

    assert str(refused.value) == why
    assert refused.value.hint


@given(
    st.ip_addresses().filter(lambda ip: not (ip.is_unspecified or ip.is_multicast or ip.is_link_local or _mapped(ip))),
    st.sampled_from([*PORTED, *PORTLESS]),
    st.integers(1, 65535),
)
def test_what_is_written_is_read_again(ip: object, protocol: str, port: int) -> None:
    """The text of a destination is that destination."""
    destination = Destination(ip_address(str(ip)), port if protocol in PORTED else None, protocol)

    assert parse(str(destination)) == destination


@given(st.text() | st.from_regex(r"\[?[0-9a-f:.%]{1,20}\]?(:[0-9]{1,6})?(/[a-z0-9]{1,5})?", fullmatch=True))
@example("[")
@example("1%")
@example("[::ffff:1.2.3.4%]:1")
def test_no_text_raises_anything_but_a_refusal(text: str) -> None:
    """Garbage, and what is nearly a destination."""
    with contextlib.suppress(DestinationError):
        assert parse(str(parse(text))) == parse(text)


def test_protocol_numbers() -> None:
    """ICMP is another one for IPv6."""
    assert parse("192.0.2.1/icmp").number == 1
    assert parse("2001:db8::1/icmp").number == 58
    assert parse("2001:db8::1/gre").number == 47


def _mapped(ip: IPv4Address | IPv6Address) -> bool:
    """An IPv4 address in the clothes of an IPv6 one is read as the former."""
    return isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None
