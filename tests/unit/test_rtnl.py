# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading netlink messages: what the kernel says is understood, and nothing that anybody says does any harm."""

import contextlib
import socket
import struct
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_interface
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aovpnd import names, rtnl
from aovpnd.adapters import rtdump, rules
from aovpnd.adapters.rtdump import PolicyRule
from aovpnd.backends.charon import look_mark
from aovpnd.errors import NetlinkError
from aovpnd.links import Link
from aovpnd.repairs import RuleAhead
from aovpnd.routes import Lane, LinkAddress, Route
from aovpnd.rtnl import Change, attribute, attributes, messages


def message(kind: int, payload: bytes, *, flags: int = 0, sequence: int = 7) -> bytes:
    """A message as the kernel pads it."""
    return struct.pack("=IHHII", 16 + len(payload), kind, flags, sequence, 0) + payload + bytes(-len(payload) % 4)


def number(value: int) -> bytes:
    """A u32."""
    return struct.pack("=I", value)


LINK = struct.pack("=BxHiII", 0, 1, 3, 0x11043, 0) + b"".join(
    (
        attribute(3, b"wlan0\0"),
        attribute(4, number(1420)),
        attribute(10, number(9)),
        attribute(18 | 0x8000, attribute(1, b"veth\0")),
        attribute(33, b"\1"),
        attribute(47, number(2)),
    )
)
ADDRESS = struct.pack("=BBBBI", socket.AF_INET, 24, 0x80, 0, 3) + b"".join(
    (attribute(1, bytes((10, 0, 0, 9))), attribute(2, bytes((10, 0, 0, 1))))
)


def route(
    family: int, length: int, *parts: bytes, kind: int = 1, scope: int = 0, tos: int = 0, flags: int = 0
) -> bytes:
    """The payload of a route in the main table, or the table that ``parts`` name."""
    return struct.pack("=BBBBBBBBI", family, length, 0, tos, 254, 4, scope, kind, flags) + b"".join(parts)


def rule(*parts: bytes, action: int = 1, flags: int = 2) -> bytes:
    """The payload of an IPv4 rule."""
    return struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, 0, 0, 0, action, flags) + b"".join(parts)


OUR_RULE = (
    attribute(6, number(names.RULE_PRIORITY)),
    attribute(10, number(names.FWMARK)),
    attribute(16, number(names.FWMARK_MASK)),
    attribute(15, number(names.ROUTE_TABLE)),
    attribute(14, number(0xFFFFFFFF)),
    attribute(21, b"\2"),
)
PARSERS: dict[str, tuple[Callable[[bytes], Any], bytes]] = {
    "link": (rtnl.parse_link, LINK),
    "address": (lambda payload: rtdump.parse_address(payload, 4), ADDRESS),
    "main": (
        lambda payload: list(rtdump.parse_main_route(payload, 4)),
        route(socket.AF_INET, 0, attribute(9, struct.pack("=HBBi", 8, 0, 0, 3)), attribute(6, number(5))),
    ),
    "table": (
        lambda payload: rtdump.parse_table_route(payload, 6, 254),
        route(socket.AF_INET6, 64, attribute(1, bytes(16)), attribute(4, number(3))),
    ),
    "rule": (lambda payload: rtdump.parse_rule(payload, 4), rule(*OUR_RULE)),
}


# -- framing ---------------------------------------------------------------------------------------------------------
def test_messages_are_split() -> None:
    """Each with its type, flags, sequence number and payload, padding left out."""
    datagram = message(16, b"abc", flags=2) + message(3, b"", sequence=8)

    assert list(messages(datagram)) == [(16, 2, 7, b"abc"), (3, 0, 8, b"")]


def test_attributes_are_split() -> None:
    """By type without the flags for nesting and byte order; of one that is repeated the last counts."""
    payload = b"head" + attribute(1, b"a") + attribute(2 | 0x8000, b"bcd") + attribute(1, b"")

    assert attributes(payload, 4) == {1: b"", 2: b"bcd"}


@pytest.mark.parametrize(
    "datagram",
    [
        pytest.param(b"short", id="no header"),
        pytest.param(struct.pack("=IHHII", 15, 1, 0, 0, 0), id="length below header"),
        pytest.param(struct.pack("=IHHII", 17, 1, 0, 0, 0), id="length beyond end"),
        pytest.param(struct.pack("=IHHII", 0, 1, 0, 0, 0), id="length zero"),
        pytest.param(message(1, b"abcd") + b"\0", id="rest"),
    ],
)
def test_broken_framing_is_an_error(datagram: bytes) -> None:
    """Never a read beyond the end, never an endless loop."""
    with pytest.raises(NetlinkError):
        list(messages(datagram))


@pytest.mark.parametrize("payload", [b"\x05", b"\x03\0\1\0", b"\x09\0\1\0abcd", b"\0\0\0\0"])
def test_broken_attributes_are_an_error(payload: bytes) -> None:
    """As for messages."""
    with pytest.raises(NetlinkError):
        attributes(payload)


@given(st.binary(max_size=200))
def test_no_bytes_do_harm(data: bytes) -> None:
    """Whatever comes: a value or a NetlinkError."""
    for read in (
        lambda: list(messages(data)),
        lambda: attributes(data),
        *(_bound(p, data) for p, _ in PARSERS.values()),
    ):
        try:
            read()
        except NetlinkError:
            continue
    rtnl.changes(data)


def _bound(parser: Callable[[bytes], Any], data: bytes) -> Callable[[], Any]:
    return lambda: parser(data)


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.data())
def test_no_damage_does_harm(name: str, data: st.DataObject) -> None:
    """A real message with some bytes altered, cut off or put in: a value or a NetlinkError."""
    parser, payload = PARSERS[name]
    damaged = bytearray(payload)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(damaged)))
        damaged[place : place + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    with contextlib.suppress(NetlinkError):
        parser(bytes(damaged))


# -- links and addresses ---------------------------------------------------------------------------------------------
def test_link() -> None:
    """Every field."""
    assert rtnl.parse_link(LINK) == Link(3, "wlan0", "veth", 1, master=9, up=True, carrier_ups=2, mtu=1420)


@pytest.mark.parametrize(
    ("flags", "carrier", "expected"), [(0x1, b"\0", False), (0x10001, None, True), (0x1, None, False)]
)
def test_link_without_carrier(flags: int, carrier: bytes | None, expected: bool) -> None:
    """IFLA_CARRIER, or the flag where it is missing."""
    payload = struct.pack("=BxHiII", 0, 1, 3, flags, 0) + attribute(3, b"wlan0\0")

    link = rtnl.parse_link(payload + (attribute(33, carrier) if carrier is not None else b""))

    assert (link.carrier, link.up, link.kind, link.master) == (expected, True, "", 0)


def test_name_that_no_rule_may_quote() -> None:
    """The kernel allows almost any byte: such a link is seen, and cannot be named."""
    payload = struct.pack("=BxHiII", 0, 1, 3, 1, 0) + attribute(3, b'a"\xff;\0')

    link = rtnl.parse_link(payload)

    assert link.name == 'a"\\xff;'
    assert not link.nameable


@pytest.mark.parametrize("payload", [LINK[:8], struct.pack("=BxHiII", 0, 1, 3, 1, 0), b"\0" * 16 + LINK[16:]])
def test_link_without_name_or_index(payload: bytes) -> None:
    """It is an error, not a link called nothing."""
    with pytest.raises(NetlinkError):
        rtnl.parse_link(payload)


def test_address() -> None:
    """On a point-to-point link ours is IFA_LOCAL; another family is none."""
    assert rtdump.parse_address(ADDRESS, 4) == LinkAddress(3, ip_interface("10.0.0.1/24"))
    assert rtdump.parse_address(ADDRESS, 6) is None
    six = struct.pack("=BBBBI", socket.AF_INET6, 64, 0, 0, 3) + attribute(1, IPv6Address("2001:db8::1").packed)
    assert rtdump.parse_address(six, 6) == LinkAddress(3, ip_interface("2001:db8::1/64"))


# -- routes ----------------------------------------------------------------------------------------------------------
OIF, GATEWAY, METRIC = attribute(4, number(3)), attribute(5, bytes((192, 0, 2, 1))), attribute(6, number(600))
DEFAULT4, TEN = IPv4Network("0.0.0.0/0"), IPv4Network("10.0.0.0/8")
TEN_DST = attribute(1, bytes((10, 0, 0, 0)))
VIA6 = attribute(18, struct.pack("=H", socket.AF_INET6) + IPv6Address("fe80::1").packed)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        pytest.param(
            route(2, 0, OIF, GATEWAY, METRIC), [Route(DEFAULT4, 3, IPv4Address("192.0.2.1"), 600)], id="default"
        ),
        pytest.param(
            route(2, 0, OIF, METRIC, attribute(8, attribute(8, number(1360)) + attribute(2, number(1400)))),
            [Route(DEFAULT4, 3, None, 600, 1400)],
            id="default that says what it carries",
        ),
        pytest.param(route(2, 0, OIF, scope=253), [Route(DEFAULT4, 3)], id="default on a point-to-point link"),
        pytest.param(route(2, 0, OIF, VIA6), [Route(DEFAULT4, 3, IPv6Address("fe80::1"))], id="over an IPv6 router"),
        pytest.param(route(2, 8, TEN_DST, OIF, scope=253), [Route(TEN, 3)], id="connected"),
        pytest.param(route(2, 8, TEN_DST, OIF, GATEWAY), [], id="over a router"),
        pytest.param(route(2, 0, kind=7), [], id="unreachable"),
        pytest.param(route(2, 0, OIF, GATEWAY, flags=0x200), [], id="cache entry"),
        pytest.param(route(10, 0, OIF), [], id="other family"),
        pytest.param(
            route(
                2,
                0,
                attribute(
                    9,
                    struct.pack("=HBBi", 16, 0, 0, 3) + GATEWAY + struct.pack("=HBBi", 8, 0, 0, 4),
                ),
            ),
            [Route(DEFAULT4, 3, IPv4Address("192.0.2.1")), Route(DEFAULT4, 4)],
            id="multipath",
        ),
    ],
)
def test_main_route(payload: bytes, expected: list[Route]) -> None:
    """Default and connected routes, hop by hop; nothing else."""
    assert list(rtdump.parse_main_route(payload, 4)) == expected


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(route(2, 33, TEN_DST, OIF, scope=253), id="prefix too long"),
        pytest.param(route(2, 8, attribute(1, bytes((10, 0, 0, 1))), OIF, scope=253), id="host bits"),
        pytest.param(route(2, 0, OIF, attribute(5, b"abc")), id="gateway of three bytes"),
        pytest.param(
            route(2, 0, OIF, attribute(18, struct.pack("=H", 99) + bytes(4))), id="router of a strange family"
        ),
        pytest.param(route(2, 0, attribute(4, b"\1")), id="link index of one byte"),
        pytest.param(route(2, 0, attribute(9, struct.pack("=HBBi", 0, 0, 0, 3))), id="hop of no length"),
        pytest.param(route(2, 0, attribute(9, struct.pack("=HBBi", 99, 0, 0, 3))), id="hop beyond the end"),
    ],
)
def test_broken_route_is_an_error(payload: bytes) -> None:
    """It says so instead of guessing."""
    with pytest.raises(NetlinkError):
        list(rtdump.parse_main_route(payload, 4))


TABLE = attribute(15, number(names.ROUTE_TABLE))
ZERO6 = IPv6Network("::/0")


@pytest.mark.parametrize(
    ("payload", "link", "odd"),
    [
        pytest.param(
            route(10, 0, TABLE, OIF, METRIC, attribute(12, bytes(32)), attribute(20, b"\0")), 3, False, id="ours"
        ),
        pytest.param(route(10, 0, TABLE, OIF, METRIC, kind=7), None, False, id="unreachable, which IPv6 keeps on lo"),
        pytest.param(route(10, 0, TABLE, OIF, METRIC, kind=9), None, True, id="throw"),
        pytest.param(route(10, 0, TABLE, OIF, METRIC, tos=4), 3, True, id="for one type of service"),
        pytest.param(route(10, 0, TABLE, OIF, METRIC, attribute(7, bytes(16))), 3, True, id="with a preferred source"),
        pytest.param(route(10, 0, TABLE, OIF, METRIC, attribute(30, number(1))), 3, True, id="nexthop object"),
        pytest.param(
            route(10, 0, TABLE, METRIC, attribute(9, struct.pack("=HBBi", 8, 0, 0, 3) * 2)), 3, True, id="hops"
        ),
    ],
)
def test_route_of_our_table(payload: bytes, link: int | None, odd: bool) -> None:
    """What we write is plain; what says more is odd."""
    found = rtdump.parse_table_route(payload, 6, names.ROUTE_TABLE)

    assert found is not None
    assert (found.route, found.odd) == (Route(ZERO6, link, metric=600), odd)


def test_way_beside_the_tunnel() -> None:
    """A route by a router is one that we write, and says by which."""
    router = attribute(5, ip_address("fe80::9").packed)
    found = rtdump.parse_table_route(route(10, 0, TABLE, OIF, METRIC, router), 6, names.ROUTE_TABLE)

    assert found is not None
    assert (found.route, found.odd) == (Route(ZERO6, 3, ip_address("fe80::9"), 600), False)


def test_route_of_another_table() -> None:
    """The kernel filters; an older one that does not is filtered here."""
    assert rtdump.parse_table_route(route(10, 0, OIF), 6, names.ROUTE_TABLE) is None


# -- rules -----------------------------------------------------------------------------------------------------------
def test_our_rule() -> None:
    """Exactly as we write it, whoever is said to have written it."""
    assert rtdump.parse_rule(rule(*OUR_RULE), 4) == rules.our_rule(4)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(rule(*OUR_RULE, flags=0), id="not inverted"),
        pytest.param(rule(*OUR_RULE, action=7), id="other action"),
        pytest.param(rule(*OUR_RULE, attribute(3, b"lo\0")), id="for one link"),
        pytest.param(rule(*OUR_RULE, attribute(20, bytes(8))), id="for some users"),
        pytest.param(rule(*OUR_RULE, attribute(14, number(0))), id="suppressing default routes"),
        pytest.param(rule(*OUR_RULE, attribute(16, number(0xFF000000))), id="other mask"),
        pytest.param(rule(*OUR_RULE, attribute(99, b"")), id="something new"),
    ],
)
def test_rule_that_is_not_ours(payload: bytes) -> None:
    """Whatever differs makes it another rule."""
    assert rtdump.parse_rule(payload, 4) != rules.our_rule(4)


LOCAL: Final = PolicyRule(4, 0, rtdump.TO_TABLE, table=rtdump.LOCAL_TABLE)
THEIRS: Final = (
    PolicyRule(4, 1, rtdump.TO_TABLE, table=52),
    PolicyRule(4, 2, 2),
    PolicyRule(4, 3, rtdump.ACT_NOP),
    PolicyRule(4, 4, 99),
    PolicyRule(4, 5, rtdump.TO_TABLE, table=rtdump.MAIN_TABLE),
)


@pytest.mark.parametrize(
    ("there", "found"),
    [
        pytest.param((LOCAL, rules.our_rule(4), *THEIRS), (), id="behind ours"),
        pytest.param((LOCAL, *THEIRS), (), id="ours is missing"),
        pytest.param(
            (LOCAL, *THEIRS, rules.our_rule(4)),
            ((1, "lookup 52"), (2, "goto"), (4, "action 99"), (5, "lookup main")),
            id="before ours, but for local and what does nothing",
        ),
        pytest.param((rules.shut_rule(4), rules.our_rule(4)), (), id="one of ours"),
    ],
)
def test_rules_ahead(there: tuple[PolicyRule, ...], found: tuple[tuple[int, str], ...]) -> None:
    """Those that the kernel asks before ours."""
    assert rules.ahead(there) == tuple(RuleAhead(*each) for each in found)


LANE: Final = Lane(4, 24945, (1000, 1001), "aovpn1", (ip_address("10.0.0.2"),), ())


def test_rules_of_a_lane() -> None:
    """By user, by link and by address; as they are read back they make the same lane, in whatever order."""
    led = rules.lane_rules(LANE)

    assert {(rule.uids, rule.oif, str(rule.src or "")) for rule in led} == {
        ((1000, 1000), "", ""),
        ((1001, 1001), "", ""),
        (None, "aovpn1", ""),
        (None, "", "10.0.0.2"),
    }
    assert {(rule.priority, rule.table) for rule in led} == {(9, 24945)}
    assert rules.lane_of(4, 24945, tuple(reversed(led)), ()) == LANE


def test_rules_of_look_ups() -> None:
    """To one address by the main table, and for both families nowhere else; their mark tells them from others'."""
    gateway, mark = ip_address("203.0.113.2"), look_mark("aovpn0")

    to_it, nowhere = rules.look_rules(4, mark, gateway)
    assert (to_it.dst, to_it.table, nowhere.dst, nowhere.action) == (
        gateway,
        rtdump.MAIN_TABLE,
        None,
        rtdump.ACT_UNREACHABLE,
    )
    assert to_it.priority < nowhere.priority
    assert rules.look_rules(6, mark, gateway) == (replace(nowhere, family=6),)
    assert all(map(rules.is_look, (to_it, nowhere)))
    assert not any(
        map(rules.is_look, (replace(nowhere, mark=mark & 0xFFFFFF), replace(to_it, priority=11), rules.shut_rule(4)))
    )


@pytest.mark.parametrize("dst", [None, "203.0.113.2", "203.0.112.0"])
def test_to_one_address_or_to_a_network(dst: str | None) -> None:
    """A rule to an address is read as that; one to a network says more than we ever write."""
    length = {None: 0, "203.0.113.2": 32}.get(dst, 23)
    more = (attribute(1, ip_address(dst).packed),) if dst is not None else ()
    payload = struct.pack("=BBBBBBBBI", socket.AF_INET, length, 0, 0, 254, 0, 0, 1, 0) + b"".join(more)

    read = rtdump.parse_rule(payload, 4)

    assert read is not None
    assert (str(read.dst) if read.dst is not None else None, read.odd) == (
        (None, True) if length == 23 else (dst, False)
    )


@pytest.mark.parametrize("wrong", ["less", "twice", "priority", "mark", "range"])
def test_wrong_rules_of_a_lane(wrong: str) -> None:
    """Anything else among them makes it another lane than any that is wished, so that it is mended."""
    led = rules.lane_rules(LANE)
    there = {
        "less": led[1:],
        "twice": (*led, led[0]),
        "priority": (replace(led[0], priority=8), *led[1:]),
        "mark": (replace(led[0], mark=1, mask=1), *led[1:]),
        "range": (replace(led[0], uids=(1000, 2000)), *led[1:]),
    }[wrong]

    assert rules.lane_of(4, 24945, there, ()) != LANE


# -- changes ---------------------------------------------------------------------------------------------------------
def test_changes() -> None:
    """Sorts of messages, not their content; what cannot be read means: look again."""
    assert rtnl.changes(message(16, b"") + message(25, b"") + message(99, b"")) == {Change.LINK, Change.ROUTE}
    assert rtnl.changes(message(32, b"") + b"\0") == {Change.OVERRUN}
    assert rtnl.changes(b"") == frozenset()


def test_what_went_through_a_link(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes by their direction; of packets also those that the link refused: they were meant to go. A link that is gone
    has none, and an answer that is too short is an error.
    """

    def answers(*found: bytes) -> None:
        head = struct.pack("=BxxxII", 0, 9, 1)
        payloads = [head + rtnl.attribute(1, counters) for counters in found]
        monkeypatch.setattr(rtnl, "dump", lambda *_: payloads)

    answers(struct.pack("=24Q", 1, 20, 300, 4000, 50, 600, 7, 8, *range(16)))
    assert rtnl.transferred(9) == rtnl.Transferred(got_bytes=300, put_bytes=4000, tries=20 + 600 + 8)
    for wrong in ((), (b"short",)):
        answers(*wrong)
        with pytest.raises(NetlinkError):
            rtnl.transferred(9)
