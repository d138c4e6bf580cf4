# SPDX-License-Identifier: GPL-3.0-or-later
"""Where charon finds a way: to its gateway, and to nobody else."""

from ipaddress import ip_address

import pytest

from aovpnd import names
from aovpnd.adapters.netlink import Netlink
from aovpnd.backends.charon import look_mark
from tests.netns.space import Space
from tests.netns.test_netlink import netlink, space

__all__ = ["netlink", "space"]

pytestmark = pytest.mark.root


def test_look_ups_lead_to_one_address(space: Space, netlink: Netlink) -> None:
    """Under a mark of charon's, the main table's way to its gateway is found, and none to anybody else, of either
    family; packets with the tunnels' mark go where they went, and not where charon writes. What is wrong is mended,
    another link's rules stay, and nothing is left in the end.
    """
    before = space.ip("-4 rule"), space.ip("-6 rule")

    def found(address: str, mark: int) -> bool:
        family = "-6" if ":" in address else "-4"
        return space.run("ip", family, "route", "get", address, "mark", str(mark), check=False).returncode == 0

    four, six = look_mark("aovpn0"), look_mark("aovpn1")
    netlink.lead(four, ip_address("198.51.100.1"))
    netlink.lead(six, ip_address("2001:db8:e::1"))
    addresses = ("198.51.100.1", "198.51.100.2", "2001:db8:e::1", "2001:db8:e::2")
    assert [found(address, four) for address in addresses] == [True, False, False, False]
    assert [found(address, six) for address in addresses] == [False, False, True, False]
    assert all(found(address, mark) for address in addresses for mark in (0, names.FWMARK))

    space.ip("route del default")
    space.ip(f"rule add not fwmark {four:#x} lookup {names.CHARON_TABLE} pref {names.CHARON_PRIORITY}")
    space.ip(f"route add default dev wlan0 table {names.CHARON_TABLE}")
    assert not found("198.51.100.1", names.FWMARK)
    assert not found("198.51.100.1", four)
    space.ip(f"rule del pref {names.CHARON_PRIORITY}")

    netlink.lead(four, ip_address("198.51.100.2"))
    space.ip(f"rule del pref {names.NO_LOOK_PRIORITY} fwmark {six:#x}")
    netlink.lead(six, ip_address("2001:db8:e::1"))
    space.ip("route add default via 192.0.2.1 dev wlan0 metric 600")
    assert [found(address, four) for address in addresses] == [False, True, False, False]
    assert [found(address, six) for address in addresses] == [False, False, True, False]

    netlink.lead(four, None)
    assert [found(address, six) for address in addresses] == [False, False, True, False]
    netlink.lead(six, None)
    assert (space.ip("-4 rule"), space.ip("-6 rule")) == before
