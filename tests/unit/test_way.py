# SPDX-License-Identifier: GPL-3.0-or-later
"""Which way the kernel routes, read off a snapshot: own addresses, broadcasts, prefixes, metrics."""

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Final

import pytest

from aovpnd import destinations
from aovpnd.core.explain import Fate, explain
from aovpnd.core.way import By, Turn, corrected, way
from aovpnd.destinations import Routed
from aovpnd.links import ARPHRD_NONE, Link
from aovpnd.model import Copies, GuardState, Snapshot
from aovpnd.routes import LinkAddress, Route
from tests.unit.small_world import CLOCK, DEFAULT6, LO, WLAN
from tests.unit.test_explain import PUBLIC, picture, unblocked

PPP: Final = Link(4, "ppp0", "ppp", arphrd=512)
ROUTED: Final = Snapshot(
    CLOCK,
    links=(LO, WLAN, PPP),
    addresses=(
        LinkAddress(2, ip_interface("192.168.1.23/24")),
        LinkAddress(2, ip_interface("192.168.1.24/24")),
        LinkAddress(2, ip_interface("2001:db8:1::23/64")),
        LinkAddress(2, ip_interface("fe80::23/64")),
        LinkAddress(4, ip_interface("10.7.7.7/32")),
        LinkAddress(9, ip_interface("10.8.8.8/24")),
    ),
    main=(
        Route(ip_network("0.0.0.0/0"), 2, ip_address("192.168.1.1"), 600),
        Route(ip_network("0.0.0.0/0"), 4, None, 700),
        Route(ip_network("10.0.0.0/8"), 4, None, 0),
        Route(ip_network("10.9.0.0/16"), 77, None, 0),
        Route(ip_network("198.51.100.0/24"), 4, None, 900),
        Route(DEFAULT6, 2, ip_address("fe80::1"), 600),
        Route(ip_network("fe80::/64"), 2, None, 256),
    ),
)


@pytest.mark.parametrize(
    ("to", "by", "turn", "link", "source"),
    [
        (PUBLIC, By.MAIN, Turn.OUT, "wlan0", None),
        ("10.1.1.1", By.MAIN, Turn.OUT, "ppp0", "10.7.7.7"),
        ("198.51.100.1", By.MAIN, Turn.OUT, "ppp0", "10.7.7.7"),
        ("10.9.1.1", By.MAIN, Turn.NOWHERE, None, None),
        ("10.7.7.7", By.LOCAL, Turn.HERE, "lo", "10.7.7.7"),
        ("10.8.8.255:9/udp", By.MAIN, Turn.OUT, "ppp0", "10.7.7.7"),
        ("192.168.1.255:9/udp", By.LOCAL, Turn.OUT, "wlan0", "192.168.1.23"),
        ("2001:db8:9::9", By.MAIN, Turn.OUT, "wlan0", "2001:db8:1::23"),
        ("fe80::9%wlan0", By.MAIN, Turn.OUT, "wlan0", "fe80::23"),
        ("fe80::23%wlan0", By.LOCAL, Turn.HERE, "lo", "fe80::23"),
        ("fe80::23%ppp0", By.NOBODY, Turn.NOWHERE, None, None),
        ("ff02::1%wlan0/icmp", By.LOCAL, Turn.OUT, "wlan0", None),
    ],
)
def test_way(to: str, by: By, turn: Turn, link: str | None, source: str | None) -> None:
    """The longest prefix, then the smallest metric; own addresses and broadcasts before everything."""
    found = way(ROUTED, destinations.parse(to))

    assert (found.by, found.turn) == (by, turn)
    assert (found.link.name if found.link else None) == link
    assert (str(found.source) if found.source else None) == source


def test_link_that_is_down_leads_nowhere() -> None:
    """No multicast and no broadcast by it; its own address is still this machine."""
    down = replace(ROUTED, links=(LO, replace(WLAN, up=False)), main=())

    assert way(down, destinations.parse("ff02::1%wlan0/icmp")).turn is Turn.NOWHERE
    assert way(down, destinations.parse("192.168.1.255/icmp")).turn is Turn.NOWHERE
    assert way(down, destinations.parse("192.168.1.23")).turn is Turn.HERE


def test_link_without_frames_and_with_an_odd_name() -> None:
    """A modem's link has no Ethernet header, and a name that no rule can hold stops nothing but the rule."""
    seen = picture(unblocked())
    for link in (PPP, replace(WLAN, index=4, name="wlan+")):
        snapshot = replace(ROUTED, links=(LO, link), guard=GuardState.MISSING, copies=Copies.ABSENT)
        assert explain(replace(seen, snapshot=snapshot), destinations.parse("10.1.1.1")).fate is Fate.OPEN


def test_picture_of_a_link_that_is_not_ethernet() -> None:
    """The tunnel's own link has no frames either."""
    tun = Link(9, "aovpn0", "tun", arphrd=ARPHRD_NONE)
    snapshot = replace(ROUTED, links=(LO, tun), main=(Route(DEFAULT6, 9, None),), addresses=())
    found = way(snapshot, destinations.parse("2001:db8::1"))

    assert found.link == tun
    assert found.source is None


@pytest.mark.parametrize(
    ("to", "said", "by", "turn", "link", "source"),
    [
        (PUBLIC, Routed(2, source=ip_address("192.168.1.24")), By.MAIN, Turn.OUT, "wlan0", "192.168.1.24"),
        (PUBLIC, Routed(2, gateway=ip_address("192.168.1.1")), By.MAIN, Turn.OUT, "wlan0", None),
        (PUBLIC, Routed(2, gateway=ip_address("192.168.1.7")), By.OTHERS, Turn.OUT, "wlan0", None),
        (PUBLIC, Routed(4, source=ip_address("10.7.7.7")), By.OTHERS, Turn.OUT, "ppp0", "10.7.7.7"),
        (PUBLIC, Routed(), By.OTHERS, Turn.NOWHERE, None, None),
        (PUBLIC, Routed(99), By.OTHERS, Turn.NOWHERE, None, None),
        (PUBLIC, Routed(2, here=True), By.OTHERS, Turn.HERE, "lo", None),
        ("10.7.7.7", Routed(1, here=True), By.LOCAL, Turn.HERE, "lo", "10.7.7.7"),
        ("255.255.255.255", Routed(2), By.PROTOCOL, Turn.NOWHERE, None, None),
    ],
)
def test_kernel_has_the_last_word(
    to: str, said: Routed, by: By, turn: Turn, link: str | None, source: str | None
) -> None:
    """What is known here explains its answer; what does not fit is somebody else's doing. How TCP connects is no
    question of routes.
    """
    destination = destinations.parse(to)
    found = corrected(way(ROUTED, destination), said, ROUTED, destination)

    assert (found.by, found.turn) == (by, turn)
    assert (found.link.name if found.link else None) == link
    assert (str(found.source) if found.source else None) == source
