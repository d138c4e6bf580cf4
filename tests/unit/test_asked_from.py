# SPDX-License-Identifier: GPL-3.0-or-later
"""From where a resolver is asked, and until when."""

from dataclasses import replace
from ipaddress import ip_address, ip_interface

from aovpnd.model import Config
from aovpnd.routes import LinkAddress, Route
from aovpnd.tunnel import Endpoint, WireGuard
from tests.unit.small_world import DEFAULT6
from tests.unit.test_endpoints import GATEWAY, VPN, addresses, asks, at_home, named
from tests.unit.world import Laptop


def test_name_that_the_file_no_longer_has() -> None:
    """A look-up ends with the name that it is for, and its permit with it."""
    laptop = at_home()
    assert asks(laptop)
    (tunnel,) = laptop.config.tunnels
    assert isinstance(tunnel, WireGuard)
    (peer,) = tunnel.peers
    by_address = replace(peer, host=None, endpoint=Endpoint(GATEWAY, 51820))
    laptop.config = Config((replace(tunnel, peers=(by_address,)),))
    laptop.settle()

    assert laptop.intent.look_up is None
    assert not asks(laptop)


def test_no_address_to_ask_from() -> None:
    """A network's own IPv6 resolver is asked once the uplink has an address for it, and not from another link's."""
    laptop = Laptop(Config((named(VPN),)))
    laptop.join("home")
    local = (LinkAddress(2, ip_interface("fe80::23/64")), LinkAddress(3, ip_interface("2001:db8:3::23/64")))
    laptop.snapshot = replace(
        laptop.snapshot,
        addresses=local,
        main=(Route(DEFAULT6, 2, ip_address("fe80::1"), 600),),
        resolvers=addresses("2001:db8:1::1"),
    )
    laptop.settle()
    laptop.wait(10)

    assert [asked for asked in laptop.looked_up if asked.resolvers != addresses("192.168.1.1")] == []

    own = LinkAddress(2, ip_interface("2001:db8:1::23/64"))
    laptop.snapshot = replace(laptop.snapshot, addresses=(*local, own))
    laptop.wait(5)

    assert laptop.looked_up[-1].resolvers == addresses("2001:db8:1::1")


def test_router_is_asked_from_beside_it() -> None:
    """A resolver with a link-local address needs no other of ours."""
    laptop = Laptop(Config((named(VPN),)))
    laptop.join("home")
    laptop.snapshot = replace(
        laptop.snapshot,
        addresses=(LinkAddress(2, ip_interface("fe80::23/64")),),
        main=(Route(DEFAULT6, 2, ip_address("fe80::1"), 600),),
        resolvers=addresses("fe80::1"),
    )
    laptop.settle()

    assert laptop.looked_up[-1].resolvers == addresses("fe80::1")
