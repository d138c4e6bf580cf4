# SPDX-License-Identifier: GPL-3.0-or-later
"""Uplinks of every kind: which there are, which of them carries the tunnel, and when it is another one."""

import struct
from dataclasses import replace
from ipaddress import ip_address, ip_interface
from typing import Final

import pytest

from aovpnd import rtnl
from aovpnd.adapters import rtdump
from aovpnd.core.uplinks import carrying, uplinks
from aovpnd.core.view import view
from aovpnd.links import ARPHRD_NONE, Link, uplink_kind
from aovpnd.model import Config, Intent, Phase, Snapshot
from aovpnd.orders import EnsureTunnel
from aovpnd.routes import LinkAddress, Route
from tests.unit.small_world import CLOCK, DEFAULT4, DEFAULT6, ENDPOINT4, ENDPOINT6, ETH, LO, WLAN, WORK, tunnel
from tests.unit.test_decide import ONE, SHAKEN
from tests.unit.world import Laptop

ARPHRD_PPP, ARPHRD_RAWIP = 512, 519
PPP: Final = Link(20, "ppp0", "ppp", arphrd=ARPHRD_PPP)
WWAN: Final = Link(21, "wwan0", "wwan", arphrd=ARPHRD_NONE)
QMI: Final = Link(22, "wwp0s20u4", "", arphrd=ARPHRD_RAWIP)
USB: Final = Link(23, "usb0", "")
HERE4, HERE6 = ip_interface("100.64.7.9/32"), ip_interface("2001:db8:7::9/64")


def world(*links: Link, routes: tuple[Route, ...] = (), addresses: tuple[LinkAddress, ...] = ()) -> Snapshot:
    """A machine with these links."""
    return Snapshot(CLOCK, links=(LO, WLAN, ETH, *links), main=routes, addresses=addresses)


@pytest.mark.parametrize("link", [PPP, WWAN, QMI, USB], ids=lambda link: link.name)
def test_default_route_without_a_gateway(link: Link) -> None:
    """A point-to-point link needs no gateway to be an uplink; its address says which network it is."""
    way = (Route(DEFAULT4, link.index, None, 700),)
    (found,) = uplinks(world(link, routes=way, addresses=(LinkAddress(link.index, HERE4),)))
    (dialled_again,) = uplinks(
        world(link, routes=way, addresses=(LinkAddress(link.index, ip_interface("100.64.7.10/32")),))
    )

    assert (found.link, found.gateways, found.families, found.metrics) == (link, (), (4,), (700,))
    assert found.network != dialled_again.network


def test_address_of_dhcpv6_is_no_move() -> None:
    """It comes a second after the advertisement; another prefix is another network all the same."""
    way = (Route(DEFAULT6, 2, ip_address("fe80::1"), 600),)
    advertised, other = LinkAddress(2, HERE6), LinkAddress(2, ip_interface("2001:db8:8::9/64"))
    leased = LinkAddress(2, ip_interface("2001:db8:7::1234/128"))
    first, then, elsewhere = (
        uplinks(world(routes=way, addresses=addresses))[0].network
        for addresses in ((advertised,), (advertised, leased), (other, leased))
    )

    assert first == then != elsewhere


@pytest.mark.parametrize(("link", "kind"), [(PPP, "mobile"), (WWAN, "mobile"), (QMI, "mobile"), (USB, "ethernet")])
def test_kinds_as_people_know_them(link: Link, kind: str) -> None:
    """What status calls it."""
    assert uplink_kind(link) == kind


# -- which carries -----------------------------------------------------------------------------------------------------
RADIO4, RADIO6 = Route(DEFAULT4, 2, ip_address("192.168.1.1"), 600), Route(DEFAULT6, 2, ip_address("fe80::1"), 600)
CABLE4, CABLE6 = Route(DEFAULT4, 3, ip_address("10.0.0.1"), 100), Route(DEFAULT6, 3, ip_address("fe80::3"), 1024)
BOTH: Final = (RADIO4, RADIO6, CABLE4, CABLE6)


@pytest.mark.parametrize(
    ("routes", "families", "carriers"),
    [
        pytest.param((RADIO4,), {4}, ["wlan0"], id="one"),
        pytest.param(BOTH, {4}, ["eth0"], id="cable before radio"),
        pytest.param(BOTH, {6}, ["wlan0"], id="each family has metrics of its own"),
        pytest.param(BOTH, {4, 6}, ["eth0", "wlan0"], id="endpoints of both families"),
        pytest.param((RADIO4, CABLE6), {4}, ["wlan0"], id="the better one without IPv4"),
        pytest.param((RADIO6,), {4}, ["wlan0"], id="none has IPv4"),
        pytest.param((CABLE6, RADIO6), {4}, ["wlan0", "eth0"], id="none of two has IPv4"),
        pytest.param((RADIO4, replace(CABLE4, metric=600)), {4}, ["wlan0", "eth0"], id="multipath"),
        pytest.param((RADIO4,), set(), ["wlan0"], id="nobody to call"),
    ],
)
def test_which_carries(routes: tuple[Route, ...], families: set[int], carriers: list[str]) -> None:
    """The one by which the kernel sends: by metric, for each family; where it may take one of several, those."""
    found = carrying(uplinks(world(routes=routes)), frozenset(families))

    assert [uplink.link.name for uplink in found] == carriers


def paths(machine: Laptop) -> list[tuple[str, ...]]:
    """Over which networks handshakes were provoked."""
    done = (action.wish.path for action in machine.done if isinstance(action, EnsureTunnel))
    return [path.networks for path in done if path is not None]


def test_a_worse_uplink_comes_and_goes() -> None:
    """While the cable carries, Wi-Fi may do as it likes; when the cable goes, the tunnel is on Wi-Fi at once."""
    machine = Laptop(ONE)
    machine.join("home", "eth0")
    machine.wait(5.0)
    assert len(paths(machine)) == 1
    machine.join("cafe", "wlan0")
    machine.wait(5.0)
    machine.flap("wlan0")
    machine.wait(5.0)
    assert machine.phase is Phase.CONNECTED
    assert len(paths(machine)) == 1
    machine.leave("eth0")
    machine.look()
    assert [networks[0].split()[0] for networks in paths(machine)] == ["3", "2"]


def test_a_better_uplink_is_taken_at_once() -> None:
    """The dock is plugged in: the next look provokes a handshake over it."""
    machine = Laptop(ONE)
    machine.join("home", "wlan0")
    machine.wait(5.0)
    machine.join("home", "eth0")
    machine.look()

    assert [networks[0].split()[0] for networks in paths(machine)] == ["2", "3"]


def test_same_addresses_elsewhere() -> None:
    """Another café with the same addresses has another carrier: it is another path."""
    machine = Laptop(ONE)
    machine.join("home")
    machine.wait(5.0)
    machine.join("home")
    machine.wait(5.0)

    assert len(paths(machine)) == 2
    assert machine.phase is Phase.CONNECTED


def test_renamed_uplink_is_the_same_one() -> None:
    """Who renames a link moves nothing; a window, which is bound to the name too, is another matter."""
    renamed = replace(SHAKEN, links=tuple(replace(x, name="wlp3s0") if x.index == 2 else x for x in SHAKEN.links))

    assert view(ONE, Intent(), renamed).path == view(ONE, Intent(), SHAKEN).path


def test_endpoint_of_either_family_has_its_own_path() -> None:
    """A gateway that is asked over IPv6 is reached by the uplink that has IPv6."""
    for endpoint, index in ((ENDPOINT4, "3"), (ENDPOINT6, "2")):
        spec = tunnel("work", endpoint)
        state = replace(SHAKEN.tunnels[0], digest=spec.digest(), addresses=spec.addresses)
        snapshot = replace(world(routes=BOTH), tunnels=(state,))
        path = view(Config((spec,)), Intent(), snapshot).path
        assert path is not None
        assert [network.split()[0] for network in path.networks] == [index]
    assert WORK.endpoints == (ENDPOINT4, ENDPOINT6)


# -- as the kernel says it ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("expires", "there"), [(None, True), (0, True), (18_000, True), (-1, False)])
def test_default_route_that_expires(expires: int | None, there: bool) -> None:
    """A router's route whose lifetime is over is not used by the kernel any more, although it still lists it."""
    payload = struct.pack("=BBBBBBBBI", 10, 0, 0, 0, 254, 9, 0, 1, 0)
    payload += rtnl.attribute(4, struct.pack("=I", 2)) + rtnl.attribute(5, ip_address("fe80::1").packed)
    if expires is not None:
        payload += rtnl.attribute(12, struct.pack("=IIiIIII", 0, 0, expires, 0, 0, 0, 0))

    found = list(rtdump.parse_main_route(payload, 6))
    assert found == ([Route(DEFAULT6, 2, ip_address("fe80::1"))] if there else [])
